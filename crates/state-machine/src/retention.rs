//! How long a workspace keeps what is over: ended intents, and inbox threads that nobody touches.
//!
//! What retires is filed by workspace and time, and one timer per workspace removes what is old enough. So a change of
//! the retention counts at once, also for what retired long before.

use crate::commands::pulse;
use crate::keys;
use crate::rows;
use crate::tables::TableError;
use crate::timers;
use crate::transaction::{Stop, Transaction};
use baton_protocol::Slot;
use baton_protocol::proto::internal::{RetentionChanged, Timer, TimerKind, TimerSubject};
use bytes::Bytes;

/// Subjects that one timer removes, about; what is left goes with the next.
const PURGED_MAX: usize = 64;
/// The timer of a workspace belongs to no slot.
const WORKSPACE_SLOT: u16 = 0;

/// Files one thing that retired at `since_ms`, whatever was filed with it before. `guard` comes back when it is removed.
pub(crate) fn file(
    tx: &mut Transaction<'_, '_>,
    workspace_id: &str,
    since_ms: u64,
    slot: Slot,
    kind: TimerKind,
    subject: &[u8],
    guard: u64,
) -> Result<(), TableError> {
    let row = Timer {
        due_ms: since_ms,
        kind: kind.into(),
        subject: Bytes::copy_from_slice(subject),
        guard,
        more: Vec::new(),
    };
    let key = keys::retired(workspace_id, since_ms, slot, kind, subject);
    rows::write(tx.tables, key, &row);
    arm(tx, workspace_id, since_ms)
}

/// Takes back what [`file`] did; a missing one is fine.
pub(crate) fn unfile(
    tx: &mut Transaction<'_, '_>,
    workspace_id: &str,
    since_ms: u64,
    slot: Slot,
    kind: TimerKind,
    subject: &[u8],
) {
    tx.tables
        .delete(keys::retired(workspace_id, since_ms, slot, kind, subject));
}

/// Sees to it that what retired at `since_ms` is removed in time.
pub(crate) fn arm(tx: &mut Transaction<'_, '_>, workspace_id: &str, since_ms: u64) -> Result<(), TableError> {
    let armed = rows::read_u64(&*tx.tables, &keys::retirement_due(workspace_id))?;
    // What the timer waits for is older than what retires now, and that is nearly always the case.
    if armed.is_some() && since_ms >= tx.now_ms {
        return Ok(());
    }
    let due_ms = since_ms.saturating_add(retention_ms(tx, workspace_id)?);
    if armed.is_none_or(|armed_ms| due_ms < armed_ms) {
        disarm(tx, workspace_id)?;
        set_timer(tx, workspace_id, due_ms);
    }
    Ok(())
}

/// Notes how long a workspace keeps what is over, for what is over already as well.
pub(crate) fn change(tx: &mut Transaction<'_, '_>, message: &RetentionChanged) -> Result<(), Stop> {
    let key = keys::retention(&message.workspace_id);
    match message.terminal_retention_ms {
        0 => tx.tables.delete(key),
        ms => rows::write_u64(tx.tables, key, ms),
    }
    disarm(tx, &message.workspace_id)?;
    Ok(arm_next(tx, &message.workspace_id)?)
}

/// Removes what a workspace has kept long enough; returns how many things that were.
pub(crate) fn purge(tx: &mut Transaction<'_, '_>, workspace_id: &[u8]) -> Result<usize, Stop> {
    let Ok(workspace_id) = std::str::from_utf8(workspace_id) else {
        return Ok(0);
    };
    tx.tables.delete(keys::retirement_due(workspace_id));
    let mut gone = 0;
    let keep_ms = retention_ms(tx, workspace_id)?;
    if let Some(until_ms) = tx.now_ms.checked_sub(keep_ms) {
        let range = keys::retired_until(workspace_id, until_ms);
        for (key, value) in rows::list(&*tx.tables, &range, PURGED_MAX)? {
            if gone >= PURGED_MAX {
                break;
            }
            gone += remove(tx, workspace_id, key, value)?;
        }
    }
    arm_next(tx, workspace_id)?;
    Ok(gone)
}

fn remove(
    tx: &mut Transaction<'_, '_>,
    workspace_id: &str,
    key: Vec<u8>,
    value: Bytes,
) -> Result<usize, Stop> {
    let mut timer: Timer = rows::decode(&key, value)?;
    let slot = keys::retired_since(&key, workspace_id).map_or(0, |(_, slot)| slot.number());
    let first = TimerSubject {
        slot: slot.into(),
        subject: std::mem::take(&mut timer.subject),
    };
    tx.tables.delete(key);
    let mut gone = 0;
    for subject in std::iter::once(first).chain(std::mem::take(&mut timer.more)) {
        timer.subject = subject.subject;
        let slot = Slot::from_bits(subject.slot as u16);
        // One that refuses is spent all the same: it must not hold up the others for ever.
        let _refused = tx.atomically(|tx| pulse::fire(tx, slot, &timer))?;
        gone += 1;
    }
    Ok(gone)
}

/// Arms the timer of a workspace that has none for the oldest thing it has filed.
fn arm_next(tx: &mut Transaction<'_, '_>, workspace_id: &str) -> Result<(), TableError> {
    let oldest = rows::list(&*tx.tables, &keys::retired_of(workspace_id), 1)?;
    let since = oldest
        .first()
        .and_then(|(key, _)| keys::retired_since(key, workspace_id));
    if let Some((since_ms, _)) = since {
        let due_ms = since_ms.saturating_add(retention_ms(tx, workspace_id)?);
        // What is overdue gets in line behind what else is: deadlines do not wait for a purge.
        set_timer(tx, workspace_id, due_ms.max(tx.now_ms));
    }
    Ok(())
}

fn set_timer(tx: &mut Transaction<'_, '_>, workspace_id: &str, due_ms: u64) {
    rows::write_u64(tx.tables, keys::retirement_due(workspace_id), due_ms);
    let (slot, subject) = (Slot::from_bits(WORKSPACE_SLOT), workspace_id.as_bytes());
    timers::add(tx, due_ms, slot, TimerKind::WorkspaceRetention, subject, 0);
}

fn disarm(tx: &mut Transaction<'_, '_>, workspace_id: &str) -> Result<(), TableError> {
    let key = keys::retirement_due(workspace_id);
    if let Some(due_ms) = rows::read_u64(&*tx.tables, &key)? {
        let (slot, subject) = (Slot::from_bits(WORKSPACE_SLOT), workspace_id.as_bytes());
        timers::remove(tx, due_ms, slot, TimerKind::WorkspaceRetention, subject);
        tx.tables.delete(key);
    }
    Ok(())
}

fn retention_ms(tx: &Transaction<'_, '_>, workspace_id: &str) -> Result<u64, TableError> {
    let own = rows::read_u64(&*tx.tables, &keys::retention(workspace_id))?;
    Ok(own.unwrap_or(tx.ctx.settings.terminal_retention_ms))
}
