//! Reads of one group's tables, with tenant checks.

mod schemas;
mod tenants;

use crate::audit;
use crate::callbacks;
use crate::deliveries::open_deliveries;
use crate::gates;
use crate::idempotency;
use crate::intents;
use crate::keys;
use crate::lifecycle::birth_events;
use crate::listing;
use crate::mailbox::{AGENT_KEY_BYTES_MAX, enqueued_at_ms};
use crate::notices;
use crate::pushes;
use crate::references;
use crate::rows;
use crate::tables::{TableError, Tables, state_hash};
use crate::threads;
use crate::transaction::{Stop, invalid, not_found, reject};
use crate::visibility;
use baton_protocol::proto::internal::query::Body;
use baton_protocol::proto::internal::query_reply::Outcome;
use baton_protocol::proto::internal::{
    Actor, AgentRef, AgentState, Backlog, ClusterRecord, ClusterView, Event, EventPage, GetBacklog,
    GetIntent, Intent, IntentPage, IntentRow, IntentView, KeyKind, ListEvents, ListMailbox,
    ListRecipientIntents, MailboxItem, MailboxPage, OutboxAcked, OutboxMessage, Query, QueryReply, Stats,
};
use baton_protocol::{ErrorCode, GroupId, IntentId, Slot, limits};

pub(crate) type Found = Result<Outcome, Stop>;

/// Answers a query. A rejection (not found, not visible) is an `Ok` reply.
///
/// # Errors
/// When storage fails.
pub fn query(tables: &dyn Tables, query: &Query) -> Result<QueryReply, TableError> {
    let outcome = match find(tables, query) {
        Ok(outcome) => outcome,
        Err(Stop::Rejected(rejection)) => Outcome::Rejected(*rejection),
        Err(Stop::Tables(error)) => return Err(error),
    };
    Ok(QueryReply {
        outcome: Some(outcome),
    })
}

fn find(tables: &dyn Tables, query: &Query) -> Found {
    let actor = query.actor.as_ref();
    let Some(body) = &query.body else {
        return Err(invalid("query is unknown to this version; ask an upgraded node"));
    };
    match body {
        Body::GetIntent(q) => get_intent(tables, actor, q),
        Body::ListEvents(q) => list_events(tables, actor, q),
        Body::ListMailbox(q) => list_mailbox(tables, actor, q),
        Body::ListRecipientIntents(q) => list_recipient_intents(tables, actor, q),
        Body::ListThreads(q) => threads::list(tables, actor, q).map(Outcome::Threads),
        Body::ListThreadChanges(q) => threads::changes(tables, actor, q).map(Outcome::Threads),
        Body::GetThread(q) => threads::get(tables, actor, q).map(Outcome::Thread),
        Body::GetIdempotency(q) => idempotency::find(tables, Slot::of_hash(&q.key_hash), &q.key_hash)?
            .map(Outcome::Idempotency)
            .ok_or_else(|| not_found("idempotency record")),
        Body::FindKey(q) => tenants::find_key(tables, q),
        Body::GetServiceAccount(q) => {
            tenants::readable_account(tables, actor, &q.service_account_id).map(Outcome::ServiceAccount)
        }
        Body::ListServiceAccounts(q) => tenants::list_accounts(tables, actor, q),
        Body::FindAgent(q) => match rows::read_text(tables, &keys::account_address(&q.address))? {
            Some(id) => tenants::readable_account(tables, actor, &id).map(Outcome::ServiceAccount),
            None => Err(not_found("service account")),
        },
        Body::GetTenant(q) => tenants::get_tenant(tables, actor, q),
        Body::GetCluster(_) => get_cluster(tables, actor),
        Body::GetTokenSecret(_) => get_token_secret(tables, actor),
        Body::OutboxAcked(q) => outbox_acked(tables, q),
        Body::GetStats(_) => get_stats(tables, actor),
        Body::ListIntents(q) => listing::list(tables, actor, q).map(Outcome::Intents),
        Body::GetBacklog(q) => get_backlog(tables, actor, q),
        Body::ListTasks(q) => gates::list::list(tables, actor, q).map(Outcome::Tasks),
        Body::GetDelivery(q) => pushes::get(tables, actor, q).map(Outcome::Delivery),
        Body::FindSchema(q) => schemas::find(tables, actor, q).map(Outcome::Schema),
        Body::ListDeliveries(q) => pushes::list(tables, actor, q).map(Outcome::Deliveries),
        Body::ListReplays(q) => pushes::list_replays(tables, actor, q).map(Outcome::Deliveries),
        Body::ListPushAgents(q) => callbacks::list_agents(tables, actor, q).map(Outcome::PushAgents),
        Body::ListNotices(q) => notices::list(tables, actor, q).map(Outcome::Notices),
        Body::FindPushAgent(q) => callbacks::find_agent(tables, actor, q).map(Outcome::PushAgents),
        Body::ListAudit(q) => audit::list(tables, actor, q).map(Outcome::Audit),
        Body::ListAuditChains(q) => audit::chains(tables, actor, q).map(Outcome::AuditChains),
    }
}

/// A page size within bounds; 0 asks for the default.
pub(crate) fn page(limit: u32, default: u32, max: u32) -> usize {
    let limit = if limit == 0 { default } else { limit.min(max) };
    limit as usize
}

/// An agent reference that rows can be keyed by.
pub(crate) fn require_agent(agent: Option<&AgentRef>) -> Result<&AgentRef, Stop> {
    agent
        .filter(|a| !a.key.is_empty() && a.key.len() <= AGENT_KEY_BYTES_MAX)
        .ok_or_else(|| not_found("agent"))
}

/// An intent that the actor may see, with the row it is in.
fn visible(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    intent_id: &[u8],
) -> Result<(IntentId, IntentRow, Intent), Stop> {
    let id = IntentId::from_slice(intent_id).ok_or_else(|| not_found("intent"))?;
    let (row, intent) = intents::both(tables, id)?.ok_or_else(|| not_found("intent"))?;
    let asked = |gate| visibility::may_answer(actor, &intent, &gate);
    if visibility::sees(actor, &intent) || gates::find(tables, id, &intent)?.is_some_and(asked) {
        Ok((id, row, intent))
    } else {
        Err(not_found("intent"))
    }
}

fn get_intent(tables: &dyn Tables, actor: Option<&Actor>, q: &GetIntent) -> Found {
    let (id, row, intent) = visible(tables, actor, &q.intent_id)?;
    let payload = if q.with_payload {
        intents::payload(tables, id, &row)?
    } else {
        None
    };
    let terminal_event = if intent.status().is_terminal() {
        intents::event(tables, id, &row, intent.last_seq)?
    } else {
        None
    };
    let scenario = if intent.scenario_parent {
        rows::scenario(tables, id)?
    } else {
        None
    };
    Ok(Outcome::Intent(IntentView {
        gate: gates::find(tables, id, &intent)?,
        intent: Some(intent),
        payload,
        terminal_event,
        scenario,
    }))
}

fn list_events(tables: &dyn Tables, actor: Option<&Actor>, q: &ListEvents) -> Found {
    let (id, row, intent) = visible(tables, actor, &q.intent_id)?;
    let limit = page(q.limit, limits::EVENTS_PAGE_MAX, limits::EVENTS_PAGE_MAX);
    let mut events: Vec<Event> = birth_events(&intent)
        .into_iter()
        .filter(|event| event.seq > q.since)
        .take(limit)
        .collect();
    let left = limit - events.len();
    events.extend(intents::events_after(tables, id, &row, q.since, left)?);
    let reached = events.last().map_or(q.since, |event| event.seq);
    Ok(Outcome::Events(EventPage {
        terminal: intent.status().is_terminal() && reached >= intent.last_seq,
        last_seq: intent.last_seq,
        events,
    }))
}

/// An agent key reads its own deliveries only; another workspace's agents do not exist.
pub(crate) fn require_reader(actor: Option<&Actor>, agent: &AgentRef) -> Result<(), Stop> {
    if visibility::reads_for(actor, agent) {
        Ok(())
    } else if actor.is_some_and(|a| a.kind() == KeyKind::Agent) {
        Err(reject(
            ErrorCode::PolicyDenied,
            "an agent key reads its own address only; use a workspace key",
        ))
    } else {
        Err(not_found("agent"))
    }
}

fn list_mailbox(tables: &dyn Tables, actor: Option<&Actor>, q: &ListMailbox) -> Found {
    let agent = require_agent(q.agent.as_ref())?;
    require_reader(actor, agent)?;
    let limit = page(q.limit, limits::MAILBOX_PAGE_MAX, limits::MAILBOX_PAGE_MAX);
    let mut items = Vec::new();
    for (cursor, id) in open_deliveries(tables, agent, q.since, limit)? {
        let Some((row, intent)) = references::both(tables, id)? else {
            continue;
        };
        let payload = if q.payload_bytes_max > 0 && intent.payload_bytes <= u64::from(q.payload_bytes_max) {
            intents::payload(tables, id, &row)?
        } else {
            None
        };
        items.push(MailboxItem {
            cursor,
            intent: Some(intent),
            payload,
        });
    }
    Ok(Outcome::Mailbox(MailboxPage { items }))
}

fn list_recipient_intents(tables: &dyn Tables, actor: Option<&Actor>, q: &ListRecipientIntents) -> Found {
    let agent = require_agent(q.agent.as_ref())?;
    require_reader(actor, agent)?;
    let limit = page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX);
    let intents = received(tables, agent, limit)?;
    Ok(Outcome::Intents(IntentPage {
        intents,
        ..IntentPage::default()
    }))
}

/// Intents sent or handed to an agent, newest first.
pub(crate) fn received(
    tables: &dyn Tables,
    agent: &AgentRef,
    limit: usize,
) -> Result<Vec<Intent>, TableError> {
    let mut intents = Vec::new();
    for (key, _) in rows::list(tables, &keys::recipients(agent), limit)? {
        if let Some(id) = keys::recipient_intent(&key)
            && let Some(intent) = references::header(tables, id)?
        {
            intents.push(intent);
        }
    }
    Ok(intents)
}

fn get_backlog(tables: &dyn Tables, actor: Option<&Actor>, q: &GetBacklog) -> Found {
    let agent = require_agent(q.agent.as_ref())?;
    require_reader(actor, agent)?;
    let state: Option<AgentState> = rows::read(tables, &keys::agent(agent))?;
    let oldest = open_deliveries(tables, agent, 0, 1)?;
    Ok(Outcome::Backlog(Backlog {
        open_deliveries: state.map_or(0, |s| s.open_deliveries),
        oldest_at_ms: oldest.first().map_or(0, |(cursor, _)| enqueued_at_ms(*cursor)),
    }))
}

fn get_cluster(tables: &dyn Tables, actor: Option<&Actor>) -> Found {
    require_operator(actor)?;
    let mut cluster = cluster(tables)?;
    cluster.token_secret.clear();
    let mut nodes = Vec::new();
    for (key, value) in rows::list(tables, &keys::nodes(), usize::MAX)? {
        nodes.push(rows::decode(&key, value)?);
    }
    Ok(Outcome::Cluster(ClusterView {
        cluster: Some(cluster),
        nodes,
    }))
}

fn cluster(tables: &dyn Tables) -> Result<ClusterRecord, Stop> {
    rows::read(tables, &keys::cluster())?.ok_or_else(|| not_found("cluster"))
}

/// What tokens are derived with leaves the tables only for the gateway itself, never in the name of a caller.
fn get_token_secret(tables: &dyn Tables, actor: Option<&Actor>) -> Found {
    if actor.is_some() {
        return Err(not_found("query"));
    }
    Ok(Outcome::TokenSecret(cluster(tables)?.token_secret))
}

fn require_operator(actor: Option<&Actor>) -> Result<(), Stop> {
    if visibility::operates(actor) {
        Ok(())
    } else {
        Err(reject(ErrorCode::PolicyDenied, "this needs an operator key"))
    }
}

fn outbox_acked(tables: &dyn Tables, q: &OutboxAcked) -> Found {
    let sent = rows::read_u64(tables, &keys::outbox_next(q.target_group))?.unwrap_or(1) > q.seq;
    let waiting = rows::list(tables, &keys::outbox_upto(q.target_group, q.seq), 1)?;
    Ok(Outcome::Acked(sent && waiting.is_empty()))
}

fn get_stats(tables: &dyn Tables, actor: Option<&Actor>) -> Found {
    require_operator(actor)?;
    Ok(Outcome::Stats(Stats {
        intents: rows::read_u64(tables, &keys::intent_count())?.unwrap_or(0),
        service_accounts: rows::read_u64(tables, &keys::account_count())?.unwrap_or(0),
        state_hash: state_hash(tables)?,
    }))
}

/// Log time of the last applied entry, unix milliseconds; 0 for an empty group.
///
/// # Errors
/// When storage fails.
pub fn log_time_ms(tables: &dyn Tables) -> Result<u64, TableError> {
    Ok(rows::read_u64(tables, &keys::clock())?.unwrap_or(0))
}

/// When the earliest timer is due; `None` without timers.
///
/// # Errors
/// When storage fails.
pub fn next_due_ms(tables: &dyn Tables) -> Result<Option<u64>, TableError> {
    let first = rows::list(tables, &keys::timers(), 1)?;
    Ok(first.first().map(|(key, _)| keys::timer_due(key)))
}

/// The first messages waiting for each target, at most `limit` per target, in sequence order.
///
/// # Errors
/// When storage fails.
pub fn outbox_head(
    tables: &dyn Tables,
    limit: usize,
) -> Result<Vec<(GroupId, Vec<OutboxMessage>)>, TableError> {
    let mut heads = Vec::new();
    let mut from = Some(0);
    while let Some(lowest) = from {
        let first = rows::list(tables, &keys::outbox_from(lowest), 1)?;
        let Some((key, _)) = first.first() else { break };
        let target = keys::outbox_target(key);
        let mut messages = Vec::new();
        for (key, value) in rows::list(tables, &keys::outbox_upto(target, u64::MAX), limit)? {
            messages.push(rows::decode(&key, value)?);
        }
        heads.push((GroupId(target), messages));
        from = target.checked_add(1);
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id, submit};
    use baton_protocol::proto::internal::command::Body as Run;
    use baton_protocol::proto::internal::query::Body;
    use baton_protocol::proto::internal::query_reply::Outcome;
    use baton_protocol::proto::internal::{
        GetIntent, GetStats, GetThread, KeyKind, ListEvents, ListMailbox, ListRecipientIntents, ListThreads,
    };

    #[test]
    fn another_workspace_reads_nothing() {
        let mut replica = Replica::new(1, 1);
        replica.run(Run::Submit(submit("worker", 1)));
        let worker = Some(agent("worker"));
        let intent_id = intent_id(&agent("worker"), 1).to_bytes();
        let bodies = [
            Body::GetIntent(GetIntent {
                intent_id: intent_id.clone(),
                with_payload: true,
            }),
            Body::ListEvents(ListEvents {
                intent_id: intent_id.clone(),
                ..ListEvents::default()
            }),
            Body::ListMailbox(ListMailbox {
                agent: worker.clone(),
                ..ListMailbox::default()
            }),
            Body::ListRecipientIntents(ListRecipientIntents {
                agent: worker.clone(),
                limit: 0,
            }),
            Body::ListThreads(ListThreads {
                owner: worker.clone(),
                ..ListThreads::default()
            }),
            Body::GetThread(GetThread {
                owner: worker,
                thread_id: intent_id,
            }),
            Body::GetStats(GetStats {}),
        ];
        let mut foreign = actor(KeyKind::Workspace, "x");
        foreign.workspace_id = "w2".into();
        for body in bodies {
            let answered = !matches!(replica.ask(body.clone()), Outcome::Rejected(_));
            assert!(answered, "the system reads {body:?}");
            for caller in [
                foreign.clone(),
                actor(KeyKind::Agent, "stranger"),
                actor(KeyKind::Unspecified, "worker"),
            ] {
                let reply = replica.ask_as(Some(caller), body.clone());
                assert!(matches!(reply, Outcome::Rejected(_)), "{body:?} gave {reply:?}");
            }
        }
    }

    #[test]
    fn event_pages_are_exclusive_and_bounded() {
        let mut replica = Replica::new(1, 1);
        replica.run(Run::Submit(submit("worker", 1)));
        let page = |since, limit| {
            let q = ListEvents {
                intent_id: intent_id(&agent("worker"), 1).to_bytes(),
                since,
                limit,
            };
            let Outcome::Events(page) = replica.ask(Body::ListEvents(q)) else {
                panic!("refused")
            };
            page.events.iter().map(|e| e.seq).collect::<Vec<_>>()
        };
        assert_eq!(page(0, 0), [1, 2, 3]);
        assert_eq!(page(1, 1), [2]);
        assert!(page(3, 0).is_empty());
        assert!(page(u32::MAX, 0).is_empty());
    }
}
