//! `ResumeIntent`: an agent hands in its result, or a caller steers the intent.

use crate::commands::wait;
use crate::controls;
use crate::gates;
use crate::handover;
use crate::idempotency;
use crate::intents;
use crate::lifecycle;
use crate::rows;
use crate::scenario;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::resume_intent::Kind;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{EventDetails, Intent, KeyKind, ResumeIntent, Status, StepFinished};
use baton_protocol::{ErrorCode, IntentId};
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &ResumeIntent) -> Outcome {
    let actor = command.actor.as_ref();
    if let Some(answer) = idempotency::answered(tx, &command.intent_id, command.idempotency.as_ref())? {
        return Ok(answer);
    }
    let (id, intent) = visibility::load(&*tx.tables, actor, &command.intent_id, Operation::Resume)?;
    let claim = command.idempotency.as_ref();
    idempotency::once(tx, id.slot(), claim, &Bytes::new(), |tx| {
        lifecycle::require_open(&intent)?;
        controls::require_generation(&intent, command.expected_policy_generation)?;
        gates::refuse_while_open(&intent)?;
        match command.kind() {
            Kind::Unspecified => Err(invalid("resume kind is missing")),
            Kind::Result => result(tx, intent, command),
            Kind::Wait => wait::apply(tx, intent, command),
            // Naming the next handler is no result, whoever does it.
            Kind::ControlOrResult
                if command.next_handler.is_none() && visibility::is_handler(actor, &intent) =>
            {
                result(tx, intent, command)
            }
            Kind::ControlOrResult => control(tx, intent, command, true),
            Kind::Control => control(tx, intent, command, command.approve),
        }
    })
}

fn details(command: &ResumeIntent) -> (Status, EventDetails) {
    let body = command.result.clone();
    if command.fail {
        let details = EventDetails {
            error: body,
            reason: command.reason.clone(),
            ..EventDetails::default()
        };
        (Status::Failed, details)
    } else {
        let details = EventDetails {
            result: body,
            ..EventDetails::default()
        };
        (Status::Completed, details)
    }
}

fn result(tx: &mut Transaction<'_, '_>, mut intent: Intent, command: &ResumeIntent) -> Outcome {
    if intent.scenario_parent {
        return step_result(tx, intent, command);
    }
    visibility::require_result_giver(command.actor.as_ref(), &intent)?;
    let finished = hand_in(tx, &mut intent, command)?;
    Ok(lifecycle::transitioned(
        intent,
        tx.event(finished.event).cloned(),
        true,
        finished.completion,
    ))
}

fn hand_in(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    command: &ResumeIntent,
) -> Result<lifecycle::Finished, Stop> {
    let actor = visibility::label(command.actor.as_ref());
    lifecycle::start_work(tx, intent, actor, "")?;
    let (status, details) = details(command);
    lifecycle::finish(tx, intent, status, actor, details)
}

/// A result for the parent of a scenario is a result for the step that runs. A late duplicate of an earlier step's
/// agent must not end the whole scenario, so anybody else is refused.
fn step_result(tx: &mut Transaction<'_, '_>, mut parent: Intent, command: &ResumeIntent) -> Outcome {
    let actor = command.actor.as_ref();
    let administers = actor
        .is_none_or(|a| a.acting_for.is_none() && matches!(a.kind(), KeyKind::Operator | KeyKind::Workspace));
    if !administers && !visibility::is_handler(actor, &parent) {
        return Err(reject(
            ErrorCode::Conflict,
            "the scenario waits for another agent; resolve the intent to end it",
        ));
    }
    let parent_id = rows::id_of(&parent)?;
    let mut progress = rows::scenario(&*tx.tables, parent_id)?.unwrap_or_default();
    let outcome = match scenario::current(&progress) {
        Some((step, state)) if state.phase() == Phase::Running && !state.step_intent_id.is_empty() => {
            let (status, details) = details(command);
            StepFinished {
                parent_intent_id: parent.intent_id.clone(),
                step_id: step.step_id.clone(),
                run: state.run,
                step_intent_id: state.step_intent_id.clone(),
                status: status.into(),
                result: details.result.or(details.error),
                reason: details.reason,
                ..StepFinished::default()
            }
        }
        Some(_) | None => {
            return Err(reject(
                ErrorCode::Conflict,
                "no step of this scenario is running; wait for its next attempt",
            ));
        }
    };
    let completion = scenario::record(tx, &mut parent, &mut progress, &outcome)?;
    end_step_intent(tx, &outcome.step_intent_id, command)?;
    let event = lifecycle::last_event(tx, &parent)?;
    Ok(lifecycle::transitioned(parent, event, true, completion))
}

/// The step intent behind a result that came in through the parent ends with it: here, or by message elsewhere.
/// What it reports to its parent is old news by then.
fn end_step_intent(
    tx: &mut Transaction<'_, '_>,
    step_intent_id: &Bytes,
    command: &ResumeIntent,
) -> Result<(), Stop> {
    if let Some(id) = IntentId::from_slice(step_intent_id)
        && let Some(mut step) = intents::intent(&*tx.tables, id)?
    {
        if !step.status().is_terminal() {
            hand_in(tx, &mut step, command)?;
        }
        return Ok(());
    }
    let actor = visibility::label(command.actor.as_ref());
    scenario::send_cancel(
        tx,
        step_intent_id.clone(),
        "result came in through the parent intent",
        actor,
    )
}

fn control(
    tx: &mut Transaction<'_, '_>,
    mut intent: Intent,
    command: &ResumeIntent,
    approve: bool,
) -> Outcome {
    if !approve {
        return Ok(lifecycle::transitioned(intent, None, false, None));
    }
    intent.policy_generation = intent.policy_generation.saturating_add(1);
    let actor = visibility::label(command.actor.as_ref());
    let event = match command.next_handler.as_ref() {
        Some(next) => Some(handover::transfer(tx, &mut intent, next, actor, &command.reason)?),
        None => wait::go_on(tx, &mut intent, actor, &command.reason)?,
    };
    intent.updated_at_ms = tx.now_ms;
    lifecycle::save(tx, &intent)?;
    let event = event.and_then(|event| tx.event(event).cloned());
    Ok(lifecycle::transitioned(intent, event, true, None))
}

#[cfg(test)]
mod tests {
    use crate::Effect;
    use crate::testing::{Replica, actor, agent, intent_id, json, refusal, submit, transition};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::resume_intent::Kind;
    use baton_protocol::proto::internal::{
        EventType, IdempotencyClaim, KeyKind, Member, ResumeIntent, Status, UpdatePolicy, WaitingReason,
    };
    use bytes::Bytes;

    fn resume(kind: Kind, key: KeyKind, name: &str) -> ResumeIntent {
        ResumeIntent {
            actor: Some(actor(key, name)),
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            kind: kind.into(),
            result: Some(json("{\"ok\":true}")),
            approve: true,
            ..ResumeIntent::default()
        }
    }

    fn submitted() -> Replica {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        replica
    }

    #[test]
    fn a_result_completes_in_one_commit() {
        let mut replica = submitted();
        let reply = replica.run(Body::Resume(resume(Kind::Result, KeyKind::Agent, "worker")));
        let statuses: Vec<_> = replica.last.events.iter().map(|e| (e.seq, e.status())).collect();
        assert_eq!(statuses, [(4, Status::InProgress), (5, Status::Completed)]);
        let answer = transition(reply).unwrap();
        assert!(answer.applied);
        assert_eq!(answer.policy_generation, 0);
        let result = answer.event.unwrap().details.unwrap().result.unwrap();
        assert_eq!(&result.data[..], b"{\"ok\":true}");
        let again = replica.run(Body::Resume(resume(Kind::Result, KeyKind::Agent, "worker")));
        assert_eq!(refusal(&again), Some(ErrorCode::IntentTerminal));
    }

    #[test]
    fn a_handover_said_twice_is_answered_alike() {
        let mut replica = submitted();
        let mut hand_on = resume(Kind::Control, KeyKind::Agent, "worker");
        hand_on.next_handler = Some(agent("other"));
        hand_on.idempotency = Some(IdempotencyClaim {
            key_hash: Bytes::from_static(b"k"),
            request_hash: Bytes::from_static(b"r"),
            in_intent_slot: false,
        });
        let first = transition(replica.run(Body::Resume(hand_on.clone()))).unwrap();
        let before = replica.hash();
        let again = replica.run(Body::Resume(hand_on.clone()));
        assert!(again.replayed);
        assert_eq!(transition(again).unwrap(), first);
        assert_eq!(replica.hash(), before);
        // Anything else is no longer for it to say.
        hand_on.idempotency = None;
        let refused = replica.run(Body::Resume(hand_on));
        assert_eq!(refusal(&refused), Some(ErrorCode::PolicyDenied));
    }

    #[test]
    fn control_steers_and_the_handlers_empty_body_is_a_result() {
        let mut replica = submitted();
        let mut denied = resume(Kind::Control, KeyKind::Workspace, "sender");
        denied.approve = false;
        let before = replica.hash();
        let answer = transition(replica.run(Body::Resume(denied))).unwrap();
        assert!(!answer.applied && answer.event.is_none());
        assert_eq!(replica.hash(), before);
        let kind = Kind::ControlOrResult;
        let mut go = resume(kind, KeyKind::Workspace, "sender");
        go.reason = "the customer has paid".into();
        let answer = transition(replica.run(Body::Resume(go))).unwrap();
        assert_eq!(answer.policy_generation, 1);
        let details = answer.event.unwrap().details.unwrap();
        assert_eq!(details.reason, "the customer has paid");
        assert_eq!(answer.intent.unwrap().status(), Status::InProgress);
        let mut stale = resume(Kind::Control, KeyKind::Workspace, "sender");
        stale.expected_policy_generation = Some(0);
        let reply = replica.run(Body::Resume(stale));
        assert_eq!(refusal(&reply), Some(ErrorCode::PolicyGenerationMismatch));
        let mut handler = resume(kind, KeyKind::Workspace, "sender");
        handler.actor.as_mut().unwrap().acting_for = Some(agent("worker"));
        let answer = transition(replica.run(Body::Resume(handler))).unwrap();
        assert_eq!(answer.intent.unwrap().status(), Status::Completed);
    }

    #[test]
    fn a_transfer_moves_the_delivery() {
        let mut replica = submitted();
        let mut command = resume(Kind::Control, KeyKind::Agent, "worker");
        command.next_handler = Some(agent("backup"));
        let intent = transition(replica.run(Body::Resume(command)))
            .unwrap()
            .intent
            .unwrap();
        assert_eq!(intent.status(), Status::Waiting);
        assert_eq!(intent.waiting_reason(), WaitingReason::Agent);
        assert_eq!(replica.last.events[0].r#type(), EventType::Transfer);
        let moved: Vec<_> = replica
            .last
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Withdraw { agent_key, .. } => Some(("withdraw", agent_key.clone())),
                Effect::Deliver { agent_key, .. } => Some(("deliver", agent_key.clone())),
                Effect::Send { .. }
                | Effect::Timer { .. }
                | Effect::PickedUp { .. }
                | Effect::Limit { .. }
                | Effect::Replay { .. }
                | Effect::Endpoint { .. }
                | Effect::Notice
                | Effect::Meta { .. } => None,
            })
            .collect();
        assert_eq!(
            moved,
            [
                ("withdraw", agent("worker").key),
                ("deliver", agent("backup").key)
            ]
        );
        let former = replica.run(Body::Resume(resume(Kind::Result, KeyKind::Agent, "worker")));
        assert_eq!(refusal(&former), Some(ErrorCode::PolicyDenied));
        let next = replica.run(Body::Resume(resume(Kind::Result, KeyKind::Agent, "backup")));
        assert_eq!(
            transition(next).unwrap().intent.unwrap().status(),
            Status::Completed
        );
    }

    #[test]
    fn a_delegate_acts_within_its_grant() {
        let mut replica = submitted();
        let grant = UpdatePolicy {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            grants: vec![Member {
                key: format!("delegate:{}", agent("ops").address),
                value: Bytes::from_static(b"{\"allow\":[\"resume\"]}"),
            }],
            ..UpdatePolicy::default()
        };
        let mut delegate = resume(Kind::Control, KeyKind::Agent, "ops");
        delegate.actor.as_mut().unwrap().acting_for = Some(agent("ops"));
        let before = replica.run(Body::Resume(delegate.clone()));
        assert_eq!(refusal(&before), Some(ErrorCode::PolicyDenied));
        replica.run(Body::Policy(grant.clone()));
        let mut policy = grant;
        policy.actor.clone_from(&delegate.actor);
        assert_eq!(
            refusal(&replica.run(Body::Policy(policy))),
            Some(ErrorCode::PolicyDenied)
        );
        let mut for_another = delegate.clone();
        for_another.actor.as_mut().unwrap().acting_for = Some(agent("worker"));
        assert_eq!(
            refusal(&replica.run(Body::Resume(for_another))),
            Some(ErrorCode::PolicyDenied)
        );
        assert!(transition(replica.run(Body::Resume(delegate))).unwrap().applied);
    }
}
