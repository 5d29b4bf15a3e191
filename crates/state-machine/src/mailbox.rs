//! Mailboxes: open deliveries of an agent, ordered by cursor.

use crate::apply::Effect;
use crate::keys;
use crate::pushes;
use crate::rows;
use crate::timers;
use crate::transaction::{Stop, Transaction, invalid, reject};
use baton_protocol::ErrorCode;
use baton_protocol::address::is_agent_core;
use baton_protocol::proto::internal::{AgentRef, AgentState, Intent, Status, TimerKind, WaitingReason};
use bytes::Bytes;

/// Open deliveries of one agent above which new ones are refused with `BacklogFull`.
pub const BACKLOG_DELIVERIES_MAX: u64 = 100_000;
/// Longest agent key in a row.
pub(crate) const AGENT_KEY_BYTES_MAX: usize = 2_048;
/// Cursors are never consecutive: some clients ask for "last + 1" as an exclusive bound.
const CURSOR_STRIDE: u64 = 2;
/// Cursors count microseconds of log time, as long as an agent gets fewer deliveries than that.
const CURSORS_PER_MS: u64 = 1_000;

/// When a delivery got its cursor; later than that when the agent got very many at once.
pub(crate) fn enqueued_at_ms(cursor: u64) -> u64 {
    cursor / CURSORS_PER_MS
}

/// Address of the agent the intent was sent to.
pub(crate) fn recipient_address(intent: &Intent) -> String {
    intent
        .to_agent
        .as_ref()
        .map_or_else(String::new, |a| a.address.clone())
}

/// Whether the intent belongs in a mailbox while it is open.
pub(crate) fn is_deliverable(intent: &Intent) -> bool {
    !intent.scenario_parent
        && !intent.gate_open
        && !waits_outside(intent)
        && intent.holder().is_some_and(|agent| !is_agent_core(agent))
}

/// Whether the intent waits for something that no agent does.
pub(crate) fn waits_outside(intent: &Intent) -> bool {
    intent.status() == Status::Waiting && intent.waiting_reason() == WaitingReason::Tool
}

/// Checks an agent reference before anything is keyed by it.
pub(crate) fn require_agent<'m>(agent: Option<&'m AgentRef>, field: &str) -> Result<&'m AgentRef, Stop> {
    match agent {
        Some(agent) if !agent.key.is_empty() && agent.key.len() <= AGENT_KEY_BYTES_MAX => Ok(agent),
        Some(_) | None => Err(invalid(format!(
            "{field} must name an agent with a key of 1 to {AGENT_KEY_BYTES_MAX} bytes"
        ))),
    }
}

/// Puts the intent in its holder's mailbox under a fresh cursor. The caller saves the header.
pub(crate) fn enqueue(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    let Some(agent) = intent.holder() else {
        return Ok(());
    };
    let agent_key = keys::agent(agent);
    let mut state: AgentState = rows::read(&*tx.tables, &agent_key)?.unwrap_or_default();
    if state.open_deliveries >= BACKLOG_DELIVERIES_MAX {
        return Err(reject(
            ErrorCode::BacklogFull,
            format!("agent has {BACKLOG_DELIVERIES_MAX} open deliveries; retry when it caught up"),
        ));
    }
    let cursor = state
        .last_cursor
        .saturating_add(CURSOR_STRIDE)
        .max(tx.now_ms.saturating_mul(CURSORS_PER_MS));
    state.last_cursor = cursor;
    state.open_deliveries += 1;
    rows::write(tx.tables, agent_key, &state);
    // A copy: the id is a part of the log entry, which must not stay in memory with the row.
    let value = Bytes::copy_from_slice(&intent.intent_id);
    tx.tables.insert(keys::mailbox(agent, cursor), value);
    tx.push_effect(Effect::Deliver {
        agent_key: agent.key.clone(),
        cursor,
        intent_id: rows::id_of(intent)?,
    });
    intent.mailbox_cursor = cursor;
    Ok(())
}

/// Takes the intent out of its holder's mailbox, if it is in one. The caller saves the header.
pub(crate) fn remove(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    let cursor = std::mem::take(&mut intent.mailbox_cursor);
    // Another agent may get the same cursor: its attempt has not begun.
    intent.timed = None;
    if let Some((_, retry_at_ms)) = pushes::waiting(intent) {
        let id = rows::id_of(intent)?;
        timers::remove(tx, retry_at_ms, id.slot(), TimerKind::PushRetry, id.as_bytes());
        pushes::stop_waiting(intent.push.get_or_insert_default());
    }
    let Some(agent) = intent.holder().filter(|_| cursor != 0) else {
        return Ok(());
    };
    let agent_key = keys::agent(agent);
    let mut state: AgentState = rows::read(&*tx.tables, &agent_key)?.unwrap_or_default();
    state.open_deliveries = state.open_deliveries.saturating_sub(1);
    rows::write(tx.tables, agent_key, &state);
    tx.tables
        .remove(keys::mailbox(agent, cursor), intent.intent_id.clone());
    tx.push_effect(Effect::Withdraw {
        agent_key: agent.key.clone(),
        cursor,
        intent_id: rows::id_of(intent)?,
    });
    Ok(())
}

/// Gives an open delivery a fresh cursor, so that every listener sees it again. The caller saves the header.
pub(crate) fn requeue(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    remove(tx, intent)?;
    enqueue(tx, intent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Replica, agent, intent_id, refusal, submit};
    use crate::write_batch::WriteBatch;
    use baton_protocol::proto::internal::ResolveIntent;
    use baton_protocol::proto::internal::command::Body;

    fn open_deliveries(replica: &Replica) -> u64 {
        let state: Option<AgentState> = rows::read(&replica.tables, &keys::agent(&agent("worker"))).unwrap();
        state.unwrap_or_default().open_deliveries
    }

    #[test]
    fn open_deliveries_are_counted_and_bounded() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        replica.run(Body::Submit(submit("worker", 2)));
        assert_eq!(open_deliveries(&replica), 2);
        let resolve = ResolveIntent {
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            status: Status::Failed.into(),
            ..ResolveIntent::default()
        };
        replica.run(Body::Resolve(resolve));
        assert_eq!(open_deliveries(&replica), 1);
        let full = AgentState {
            last_cursor: 7,
            open_deliveries: BACKLOG_DELIVERIES_MAX,
        };
        let changes = {
            let mut batch = WriteBatch::new(&replica.tables);
            rows::write(&mut batch, keys::agent(&agent("worker")), &full);
            batch.finish().unwrap()
        };
        replica.tables.commit(changes);
        let before = replica.hash();
        let refused = replica.run(Body::Submit(submit("worker", 3)));
        assert_eq!(refusal(&refused), Some(ErrorCode::BacklogFull));
        assert_eq!(replica.hash(), before);
        assert_eq!(refusal(&replica.run(Body::Submit(submit("other", 3)))), None);
    }
}
