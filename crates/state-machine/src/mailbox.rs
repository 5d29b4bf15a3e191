//! Mailboxes: open deliveries of an agent, ordered by cursor.

use crate::apply::Effect;
use crate::keys;
use crate::rows;
use crate::transaction::{Stop, Transaction, invalid, reject};
use baton_protocol::ErrorCode;
use baton_protocol::address::is_agent_core;
use baton_protocol::proto::internal::{AgentRef, AgentState, Intent, MailboxEntry};

/// Open deliveries of one agent above which new ones are refused with `BacklogFull`.
pub const BACKLOG_DELIVERIES_MAX: u64 = 100_000;
/// Longest agent key in a row.
pub(crate) const AGENT_KEY_BYTES_MAX: usize = 2_048;
/// Cursors are never consecutive: some clients ask for "last + 1" as an exclusive bound.
const CURSOR_STRIDE: u64 = 2;

/// Who holds the intent's delivery: the handler, which is the recipient until a transfer.
pub(crate) fn holder(intent: &Intent) -> Option<&AgentRef> {
    intent.handler.as_ref().or(intent.to_agent.as_ref())
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
    !intent.scenario_parent && holder(intent).is_some_and(|agent| !is_agent_core(agent))
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
    let Some(agent) = holder(intent).cloned() else {
        return Ok(());
    };
    let agent_key = keys::agent(&agent);
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
        .max(tx.now_ms.saturating_mul(1_000));
    state.last_cursor = cursor;
    state.open_deliveries += 1;
    rows::write(tx.tables, agent_key, &state);
    let entry = MailboxEntry {
        intent_id: intent.intent_id.clone(),
        enqueued_at_ms: tx.now_ms,
    };
    rows::write(tx.tables, keys::mailbox(&agent, cursor), &entry);
    intent.mailbox_cursor = cursor;
    tx.push_effect(Effect::Deliver {
        agent_key: agent.key,
        cursor,
        intent_id: rows::id_of(intent)?,
    });
    Ok(())
}

/// Takes the intent out of its holder's mailbox, if it is in one. The caller saves the header.
pub(crate) fn remove(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    let cursor = std::mem::take(&mut intent.mailbox_cursor);
    let Some(agent) = holder(intent).filter(|_| cursor != 0).cloned() else {
        return Ok(());
    };
    let agent_key = keys::agent(&agent);
    let mut state: AgentState = rows::read(&*tx.tables, &agent_key)?.unwrap_or_default();
    state.open_deliveries = state.open_deliveries.saturating_sub(1);
    rows::write(tx.tables, agent_key, &state);
    tx.tables.delete(keys::mailbox(&agent, cursor));
    tx.push_effect(Effect::Withdraw {
        agent_key: agent.key,
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
