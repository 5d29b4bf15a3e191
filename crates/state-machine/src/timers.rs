//! Timers are rows ordered by due time. They are fired by `Pulse`.

use crate::keys;
use crate::rows;
use crate::transaction::Transaction;
use baton_protocol::Slot;
use baton_protocol::proto::internal::{Timer, TimerKind};
use bytes::Bytes;

/// Arms a timer. The same (due, kind, subject) twice is one timer.
pub(crate) fn add(
    tx: &mut Transaction<'_, '_>,
    due_ms: u64,
    slot: Slot,
    kind: TimerKind,
    subject: &[u8],
    guard: u64,
) {
    let timer = Timer {
        due_ms,
        kind: kind.into(),
        subject: Bytes::copy_from_slice(subject),
        guard,
    };
    rows::write(tx.tables, keys::timer(due_ms, slot, kind, subject), &timer);
    tx.note_timer(due_ms);
}

/// Disarms a timer; a missing one is fine.
pub(crate) fn remove(tx: &mut Transaction<'_, '_>, due_ms: u64, slot: Slot, kind: TimerKind, subject: &[u8]) {
    tx.tables.delete(keys::timer(due_ms, slot, kind, subject));
}
