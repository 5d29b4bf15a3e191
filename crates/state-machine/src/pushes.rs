//! Deliveries by HTTP push: what the attempts came to, per intent and agent, and replays that are to come.

use crate::apply::Effect;
use crate::keys;
use crate::listing::{CHUNK_ROWS, SCAN_ROWS_MAX, require_workspace};
use crate::mailbox::require_agent;
use crate::query::{page, require_reader};
use crate::references;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, Transaction, not_found};
use crate::visibility;
use baton_protocol::proto::internal::{
    Actor, AgentRef, Delivery, DeliveryKey, DeliveryPage, DeliveryState, DeliveryView, GetDelivery, Intent,
    ListDeliveries, ListReplays, PushReport, PushState,
};
use baton_protocol::{DeliveryId, IntentId, limits};

/// Longest wait for a next attempt that `apply` accepts.
pub(crate) const RETRY_DELAY_MS_MAX: u64 = 24 * 3_600_000;

/// The agent whose delivery was pushed, if that is still who holds the intent.
pub(crate) fn holds(intent: &Intent, report: &PushReport) -> bool {
    match (intent.holder(), &report.agent) {
        (Some(holder), Some(agent)) => holder.key == agent.key,
        (None, _) | (_, None) => false,
    }
}

/// Puts what an attempt came to on the record of this intent and agent. The caller saves the header.
pub(crate) fn note_attempt(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    report: &PushReport,
    state: DeliveryState,
    next_attempt_at_ms: u64,
) -> Result<(), Stop> {
    let agent = require_agent(report.agent.as_ref(), "agent")?;
    let id = DeliveryId::new(rows::id_of(intent)?, &agent.key);
    let mut row = match stored(&*tx.tables, id)? {
        Some(row) => row,
        None => insert(
            tx,
            id,
            Delivery {
                agent: Some(agent.clone()),
                max_attempts: intent.max_delivery_attempts,
                ..Delivery::default()
            },
        ),
    };
    intent.push.get_or_insert_default();
    row.max_attempts = intent.max_delivery_attempts;
    attempted(&mut row, report, state, tx.now_ms);
    row.next_attempt_at_ms = next_attempt_at_ms;
    rows::write(tx.tables, keys::delivery(id), &row);
    Ok(())
}

/// Says on the record of who holds the intent what became of the delivery without another attempt; `news` is the error
/// and when the next attempt is due.
pub(crate) fn settle(
    tx: &mut Transaction<'_, '_>,
    intent: &Intent,
    state: DeliveryState,
    news: Option<(&str, u64)>,
) -> Result<(), Stop> {
    let Some(holder) = intent.holder() else {
        return Ok(());
    };
    let id = DeliveryId::new(rows::id_of(intent)?, &holder.key);
    if let Some(mut row) = stored(&*tx.tables, id)? {
        row.set_state(state);
        row.next_attempt_at_ms = 0;
        row.updated_at_ms = tx.now_ms;
        if let Some((error, due_ms)) = news {
            error.clone_into(&mut row.last_error);
            row.next_attempt_at_ms = due_ms;
        }
        rows::write(tx.tables, keys::delivery(id), &row);
    }
    Ok(())
}

/// What every attempt changes on its record.
pub(crate) fn attempted(row: &mut Delivery, report: &PushReport, state: DeliveryState, now_ms: u64) {
    row.attempts = row.attempts.saturating_add(1);
    row.set_state(state);
    row.service_account_id.clone_from(&report.service_account_id);
    row.url.clone_from(&report.url);
    row.last_status = report.status;
    row.last_error.clone_from(&report.error);
    row.next_attempt_at_ms = 0;
    row.updated_at_ms = now_ms;
}

/// Writes a new record with its index.
pub(crate) fn insert(tx: &mut Transaction<'_, '_>, id: DeliveryId, row: Delivery) -> Delivery {
    let row = Delivery {
        key: Some(id.to_key()),
        created_at_ms: tx.now_ms,
        updated_at_ms: tx.now_ms,
        ..row
    };
    let workspace_id = row.agent.as_ref().map_or("", |a| a.workspace_id.as_str());
    tx.tables
        .insert(keys::workspace_delivery(workspace_id, id), Vec::new());
    rows::insert(tx.tables, keys::delivery(id), &row);
    row
}

/// Plans the next attempt of a replay.
pub(crate) fn enqueue_replay(tx: &mut Transaction<'_, '_>, id: DeliveryId, row: &mut Delivery, due_ms: u64) {
    row.next_attempt_at_ms = due_ms;
    if let Some(agent) = &row.agent {
        tx.tables.put(keys::replay(agent, due_ms, id), Vec::new());
        tx.push_effect(Effect::Replay {
            agent_key: agent.key.clone(),
        });
    }
}

/// Takes back what [`enqueue_replay`] planned.
pub(crate) fn dequeue_replay(tx: &mut Transaction<'_, '_>, id: DeliveryId, row: &Delivery) {
    if let Some(agent) = row.agent.as_ref().filter(|_| row.next_attempt_at_ms != 0) {
        tx.tables.delete(keys::replay(agent, row.next_attempt_at_ms, id));
    }
}

/// Removes every record of an intent that is erased.
pub(crate) fn erase(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Result<(), Stop> {
    if intent.push.is_none() {
        return Ok(());
    }
    let range = keys::deliveries_of(rows::id_of(intent)?);
    for (key, value) in rows::list(&*tx.tables, &range, usize::MAX)? {
        let row: Delivery = rows::decode(&key, value)?;
        if let Some(id) = row.key.as_ref().and_then(DeliveryId::of) {
            let workspace_id = row.agent.as_ref().map_or("", |a| a.workspace_id.as_str());
            tx.tables.delete(keys::workspace_delivery(workspace_id, id));
            if id.replay > 0 {
                dequeue_replay(tx, id, &row);
            }
        }
        tx.tables.delete(key);
    }
    Ok(())
}

/// The cursor that waits for its next attempt, and when that is due.
pub(crate) fn waiting(intent: &Intent) -> Option<(u64, u64)> {
    let push = intent.push.as_ref()?;
    (push.waiting_cursor != 0).then_some((push.waiting_cursor, push.retry_at_ms))
}

/// Forgets that the open delivery waits.
pub(crate) fn stop_waiting(push: &mut PushState) {
    (push.waiting_cursor, push.retry_at_ms) = (0, 0);
}

pub(crate) fn stored(tables: &dyn Tables, id: DeliveryId) -> Result<Option<Delivery>, TableError> {
    rows::read(tables, &keys::delivery(id))
}

/// A record as callers see it; `None` when its intent is gone.
pub(crate) fn view(tables: &dyn Tables, mut row: Delivery) -> Result<Option<DeliveryView>, TableError> {
    let id = row
        .key
        .as_ref()
        .and_then(|key| IntentId::from_slice(&key.intent_id));
    let Some(id) = id else { return Ok(None) };
    let Some(intent) = references::header(tables, id)? else {
        return Ok(None);
    };
    let own = row.key.as_ref().is_some_and(|key| key.replay == 0);
    let over = intent.status().is_terminal() || references::is_closed(&intent);
    let ours = intent.holder().map(|a| &a.key) == row.agent.as_ref().map(|a| &a.key);
    if own && row.state() == DeliveryState::Pending && (over || !ours) {
        row.set_state(DeliveryState::Failed);
        row.next_attempt_at_ms = 0;
    }
    Ok(Some(DeliveryView {
        delivery: Some(row),
        intent_type: intent.intent_type,
        correlation_id: intent.correlation_id,
    }))
}

/// A record that the actor may see, by its key.
pub(crate) fn visible(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    key: Option<&DeliveryKey>,
) -> Result<(DeliveryId, DeliveryView), Stop> {
    let missing = || not_found("delivery");
    let id = key.and_then(DeliveryId::of).ok_or_else(missing)?;
    let row = stored(tables, id)?.filter(|row| {
        let agent = row.agent.as_ref();
        agent.is_some_and(|agent| visibility::reads_for(actor, agent))
    });
    let view = view(tables, row.ok_or_else(missing)?)?.ok_or_else(missing)?;
    Ok((id, view))
}

pub(crate) fn get(tables: &dyn Tables, actor: Option<&Actor>, q: &GetDelivery) -> Result<DeliveryView, Stop> {
    visible(tables, actor, q.delivery.as_ref()).map(|(_, view)| view)
}

/// One page, newest intent first.
pub(crate) fn list(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &ListDeliveries,
) -> Result<DeliveryPage, Stop> {
    let workspace_id = match &q.agent {
        Some(agent) => {
            let agent = crate::query::require_agent(Some(agent))?;
            require_reader(actor, agent)?;
            &agent.workspace_id
        }
        None => {
            require_workspace(actor, &q.workspace_id)?;
            &q.workspace_id
        }
    };
    let limit = page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX);
    let mut range = keys::workspace_deliveries(workspace_id);
    if let Some(behind) = q.behind.as_ref().and_then(DeliveryId::of) {
        range.from = keys::workspace_delivery(workspace_id, behind);
        // The first key behind that one.
        range.from.push(0);
    }
    let (mut found, mut looked_at) = (DeliveryPage::default(), 0);
    loop {
        let chunk = rows::list(tables, &range, CHUNK_ROWS)?;
        for (key, _) in &chunk {
            let Some(id) = keys::delivery_of_workspace(key) else {
                continue;
            };
            looked_at += 1;
            if let Some(row) = stored(tables, id)?
                && let Some(view) = view(tables, row)?
                && matches(q, &view)
            {
                found.deliveries.push(view);
            }
            if found.deliveries.len() >= limit || looked_at >= SCAN_ROWS_MAX {
                found.reached = Some(id.to_key());
                return Ok(found);
            }
        }
        match chunk.into_iter().nth(CHUNK_ROWS - 1) {
            Some((mut last, _)) => {
                last.push(0);
                range.from = last;
            }
            None => return Ok(found),
        }
    }
}

fn matches(q: &ListDeliveries, view: &DeliveryView) -> bool {
    let Some(row) = &view.delivery else { return false };
    let key_of = |agent: &Option<AgentRef>| agent.as_ref().map(|a| a.key.clone());
    (q.agent.is_none() || key_of(&q.agent) == key_of(&row.agent))
        && (q.service_account_id.is_empty() || q.service_account_id == row.service_account_id)
        && (q.states.is_empty() || q.states.contains(&row.state))
}

/// Replays of an agent that are to come, by due time. For the system only.
pub(crate) fn list_replays(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &ListReplays,
) -> Result<DeliveryPage, Stop> {
    if actor.is_some() {
        return Err(not_found("query"));
    }
    let agent = crate::query::require_agent(q.agent.as_ref())?;
    let limit = page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX);
    let mut found = DeliveryPage::default();
    for (key, _) in rows::list(tables, &keys::replays(agent), limit)? {
        if let Some(id) = keys::delivery_of_replay(&key, agent)
            && let Some(row) = stored(tables, id)?
            && let Some(view) = view(tables, row)?
        {
            found.deliveries.push(view);
        }
    }
    Ok(found)
}
