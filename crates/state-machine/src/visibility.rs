//! Who may see and who may act on what. An absent actor is the system itself.

use crate::intents;
use crate::tables::Tables;
use crate::transaction::{Stop, not_found, reject};
use baton_protocol::proto::internal::{Actor, AgentRef, Gate, Intent, KeyKind, MemberList};
use baton_protocol::{ErrorCode, IntentId};
use prost::Message;

/// What a caller wants to do with an existing intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Resolve,
    Resume,
    UpdateControls,
    UpdatePolicy,
}

impl Operation {
    /// The quoted word a grant lists.
    fn grant_word(self) -> &'static [u8] {
        match self {
            Self::Resolve => b"\"resolve\"",
            Self::Resume => b"\"resume\"",
            Self::UpdateControls => b"\"update_controls\"",
            Self::UpdatePolicy => b"\"update_policy\"",
        }
    }
}

/// Whether the agent is the actor itself. The key decides; a literal spelling counts in the actor's own workspace
/// only, because another workspace may use the same text for somebody else.
fn is_self(actor: &Actor, agent: Option<&AgentRef>) -> bool {
    agent.is_some_and(|a| {
        same(&actor.address, &a.key)
            || (same(&actor.address, &a.address) && same(&actor.workspace_id, &a.workspace_id))
    })
}

fn same(a: &str, b: &str) -> bool {
    !a.is_empty() && a == b
}

fn in_workspace(workspace_id: &str, agent: Option<&AgentRef>) -> bool {
    agent.is_some_and(|a| same(workspace_id, &a.workspace_id))
}

/// Whether the actor may know that this intent exists.
pub(crate) fn sees(actor: Option<&Actor>, intent: &Intent) -> bool {
    let Some(actor) = actor else { return true };
    match actor.kind() {
        KeyKind::Operator => true,
        KeyKind::Workspace => {
            let own = actor.workspace_id.as_str();
            same(own, &intent.workspace_id)
                || in_workspace(own, intent.to_agent.as_ref())
                || in_workspace(own, intent.holder())
        }
        KeyKind::Agent => {
            is_sender(&actor.address, intent)
                || is_self(actor, intent.to_agent.as_ref())
                || is_self(actor, intent.holder())
                || is_self(actor, intent.reply_to.as_ref())
                || grant(&actor.address, intent).is_some()
                || is_escalated_to(actor, intent)
        }
        KeyKind::Unspecified => false,
    }
}

fn is_sender(address: &str, intent: &Intent) -> bool {
    same(address, &intent.submitted_by) || same(address, &intent.from_agent)
}

/// Whether a name that a client wrote, an address or its last part, means the actor itself.
fn is_named(actor: &Actor, name: &str, intent: &Intent) -> bool {
    same(&actor.workspace_id, &intent.workspace_id) && names(&actor.address, name)
}

/// Whether a name that a client wrote is this address or its last part.
fn names(address: &str, name: &str) -> bool {
    !name.is_empty() && (address == name || address.rsplit('/').next() == Some(name))
}

/// Whether a result in the name of this agent counts, although it holds nothing: it sent the intent, was called in, or has
/// a grant.
fn may_speak(owner: &AgentRef, intent: &Intent) -> bool {
    let called_in = intent.reminded.as_ref().map(|progress| &progress.escalated_to);
    let own = same(&owner.workspace_id, &intent.workspace_id);
    let mut named = called_in.into_iter().chain([&intent.from_agent]);
    is_sender(&owner.address, intent)
        || (own && named.any(|name| names(&owner.address, name)))
        || is_granted(&owner.address, intent, Operation::Resume)
}

fn is_escalated_to(actor: &Actor, intent: &Intent) -> bool {
    let progress = intent.reminded.as_ref();
    progress.is_some_and(|p| is_named(actor, &p.escalated_to, intent))
}

/// Whether the actor may answer a human task. Whoever asks does not answer itself: the key of the sending agent may not,
/// unless the task names it, and cannot give itself the right. What a scenario asks is answered in its own workspace.
pub(crate) fn may_answer(actor: Option<&Actor>, intent: &Intent, gate: &Gate) -> bool {
    let Some(actor) = actor else { return true };
    match actor.kind() {
        KeyKind::Operator => true,
        KeyKind::Workspace if intent.scenario_parent => same(&actor.workspace_id, &intent.workspace_id),
        KeyKind::Workspace => sees(Some(actor), intent),
        KeyKind::Unspecified => false,
        KeyKind::Agent => {
            let as_itself = actor.acting_for.as_ref().is_none_or(|a| is_self(actor, Some(a)));
            let assignees = gate.task.iter().flat_map(|task| &task.assignees);
            let escalated = gate.reminded.iter().map(|progress| &progress.escalated_to);
            as_itself
                && (assignees.chain(escalated).any(|name| is_named(actor, name, intent))
                    // The holder of a scenario is an agent of some step, who is not asked.
                    || (!intent.scenario_parent && is_self(actor, intent.holder()))
                    || is_escalated_to(actor, intent)
                    || (!is_sender(&actor.address, intent)
                        && is_granted(&actor.address, intent, Operation::Resume)))
        }
    }
}

/// Whether the actor, or whom it acts for, is responsible for the intent now.
pub(crate) fn is_handler(actor: Option<&Actor>, intent: &Intent) -> bool {
    let handler = intent.holder();
    actor.is_some_and(|actor| {
        let acting_for = actor.acting_for.as_ref().map(|a| a.key.as_str());
        is_self(actor, handler) || handler.is_some_and(|h| acting_for.is_some_and(|key| same(key, &h.key)))
    })
}

/// A result is the handler's to give: with its own key, by a granted delegate, or with a key of the workspace. Who sent the
/// intent waits for it. After a transfer, a workspace key that speaks for somebody else speaks for a handler of before.
pub(crate) fn require_result_giver(actor: Option<&Actor>, intent: &Intent) -> Result<(), Stop> {
    let Some(actor) = actor else { return Ok(()) };
    let handler = intent.holder();
    let address = handler.map_or("nobody", |agent| agent.address.as_str());
    if matches!(actor.kind(), KeyKind::Operator | KeyKind::Workspace) {
        let former = actor
            .acting_for
            .as_ref()
            .is_some_and(|owner| handler.is_none_or(|h| h.key != owner.key) && !may_speak(owner, intent));
        return match former && intent.handler_generation > 0 {
            true => Err(reject(
                ErrorCode::Conflict,
                format!("the intent was handed to {address}; drop this result"),
            )),
            false => Ok(()),
        };
    }
    let gives = is_self(actor, handler)
        || is_escalated_to(actor, intent)
        || is_granted(&actor.address, intent, Operation::Resume);
    match gives {
        true => Ok(()),
        false => Err(reject(
            ErrorCode::PolicyDenied,
            format!("a result is for {address} to give; resolve the intent to end it"),
        )),
    }
}

/// Loads an intent for a call that changes it: `NotFound` outside its workspaces, `PolicyDenied` unless permitted.
pub(crate) fn load(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    intent_id: &[u8],
    operation: Operation,
) -> Result<(IntentId, Intent), Stop> {
    let id = IntentId::from_slice(intent_id).ok_or_else(|| not_found("intent"))?;
    let intent = intents::intent(tables, id)?
        .filter(|intent| sees(actor, intent) || belongs_to(actor, &intent.workspace_id))
        .ok_or_else(|| not_found("intent"))?;
    if sees(actor, &intent) && permits(actor, &intent, operation) {
        Ok((id, intent))
    } else {
        Err(reject(
            ErrorCode::PolicyDenied,
            "only the sender, the handler or a granted delegate may do this; check owner_agent and grants",
        ))
    }
}

fn permits(actor: Option<&Actor>, intent: &Intent, operation: Operation) -> bool {
    let Some(actor) = actor else { return true };
    match actor.kind() {
        KeyKind::Operator | KeyKind::Workspace => true,
        KeyKind::Unspecified => false,
        KeyKind::Agent => {
            let own = actor.address.as_str();
            let as_itself = actor.acting_for.as_ref().map(|a| is_self(actor, Some(a)));
            if as_itself == Some(false) {
                return false;
            }
            is_sender(own, intent)
                || is_self(actor, intent.holder())
                || is_escalated_to(actor, intent)
                || (as_itself == Some(true) && is_granted(own, intent, operation))
        }
    }
}

/// The grant of an agent, as encoded JSON.
fn grant(address: &str, intent: &Intent) -> Option<Vec<u8>> {
    if address.is_empty() || intent.grants.is_empty() {
        return None;
    }
    let list = MemberList::decode(intent.grants.clone()).ok()?;
    let member = list
        .members
        .into_iter()
        .find(|m| m.key.strip_prefix("delegate:") == Some(address))?;
    Some(member.value.to_vec())
}

fn is_granted(address: &str, intent: &Intent, operation: Operation) -> bool {
    let word = operation.grant_word();
    grant(address, intent).is_some_and(|value| value.windows(word.len()).any(|w| w == word))
}

/// Whether the actor may manage accounts and keys of a workspace.
pub(crate) fn manages(actor: Option<&Actor>, workspace_id: &str) -> bool {
    let Some(actor) = actor else { return true };
    match actor.kind() {
        KeyKind::Operator => true,
        KeyKind::Workspace => same(&actor.workspace_id, workspace_id),
        KeyKind::Agent | KeyKind::Unspecified => false,
    }
}

/// Whether the actor may read what belongs to a workspace as a whole.
pub(crate) fn belongs_to(actor: Option<&Actor>, workspace_id: &str) -> bool {
    let Some(actor) = actor else { return true };
    match actor.kind() {
        KeyKind::Operator => true,
        KeyKind::Workspace | KeyKind::Agent => same(&actor.workspace_id, workspace_id),
        KeyKind::Unspecified => false,
    }
}

/// Whether the actor may read what belongs to one agent: its mailbox, its inbox.
pub(crate) fn reads_for(actor: Option<&Actor>, agent: &AgentRef) -> bool {
    let Some(actor) = actor else { return true };
    match actor.kind() {
        KeyKind::Operator => true,
        KeyKind::Workspace => same(&actor.workspace_id, &agent.workspace_id),
        KeyKind::Agent => is_self(actor, Some(agent)),
        KeyKind::Unspecified => false,
    }
}

/// Whether the actor runs the cluster.
pub(crate) fn operates(actor: Option<&Actor>) -> bool {
    actor.is_none_or(|actor| actor.kind() == KeyKind::Operator)
}

/// The name that goes into events.
pub(crate) fn label(actor: Option<&Actor>) -> &str {
    match actor {
        Some(actor) if !actor.label.is_empty() => &actor.label,
        Some(actor) if !actor.address.is_empty() => &actor.address,
        Some(_) | None => "system",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{actor, agent};
    use baton_protocol::proto::internal::{Member, ReminderProgress};

    #[test]
    fn what_a_scenario_asks_is_answered_in_its_own_workspace() {
        let at = |workspace: &str| Actor {
            kind: KeyKind::Workspace.into(),
            workspace_id: workspace.into(),
            ..Actor::default()
        };
        let mut intent = Intent {
            workspace_id: "own".into(),
            to_agent: Some(AgentRef {
                workspace_id: "other".into(),
                ..AgentRef::default()
            }),
            ..Intent::default()
        };
        let answers = |workspace, intent: &Intent| may_answer(Some(&at(workspace)), intent, &Gate::default());
        assert!(answers("own", &intent) && answers("other", &intent));
        intent.scenario_parent = true;
        assert!(answers("own", &intent));
        assert!(
            !answers("other", &intent),
            "the agent of a step is not who is asked"
        );
    }

    #[test]
    fn after_a_transfer_a_workspace_speaks_for_whoever_may_answer() {
        let mut intent = Intent {
            workspace_id: agent("worker").workspace_id,
            to_agent: Some(agent("worker")),
            handler: Some(agent("other")),
            handler_generation: 1,
            from_agent: "asker".into(),
            ..Intent::default()
        };
        let allowed = |owner: &str, intent: &Intent| {
            let mut key = actor(KeyKind::Workspace, "shared");
            key.acting_for = Some(agent(owner));
            require_result_giver(Some(&key), intent).is_ok()
        };
        assert!(allowed("other", &intent) && allowed("asker", &intent));
        for owner in ["worker", "chief", "delegate"] {
            assert!(!allowed(owner, &intent), "{owner}");
        }
        intent.reminded = Some(ReminderProgress {
            escalated_to: "chief".into(),
            ..ReminderProgress::default()
        });
        let members = vec![Member {
            key: format!("delegate:{}", agent("delegate").address),
            value: b"[\"resume\"]".as_slice().into(),
        }];
        intent.grants = MemberList { members }.encode_to_vec().into();
        assert!(allowed("chief", &intent) && allowed("delegate", &intent));
        assert!(!allowed("worker", &intent));
    }

    #[test]
    fn a_literal_of_another_workspace_is_somebody_else() {
        let worker = actor(KeyKind::Agent, "worker");
        let literal = |workspace: &str| Intent {
            to_agent: Some(AgentRef {
                address: agent("worker").address,
                key: format!("{workspace}|{}", agent("worker").address),
                workspace_id: workspace.into(),
                org_id: "o".into(),
            }),
            ..Intent::default()
        };
        assert!(sees(Some(&worker), &literal("w1")));
        assert!(!sees(Some(&worker), &literal("w2")));
    }

    #[test]
    fn empty_names_match_nothing() {
        let nobody = Intent {
            to_agent: Some(AgentRef::default()),
            ..Intent::default()
        };
        for kind in [KeyKind::Agent, KeyKind::Workspace, KeyKind::Unspecified] {
            let caller = Actor {
                kind: kind.into(),
                ..Actor::default()
            };
            assert!(!sees(Some(&caller), &nobody), "{kind:?}");
            assert!(!is_handler(Some(&caller), &nobody));
        }
    }
}
