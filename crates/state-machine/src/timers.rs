//! Timers are rows ordered by due time. They are fired by `Pulse`.

use crate::keys;
use crate::retention;
use crate::rows;
use crate::tables::TableError;
use crate::transaction::Transaction;
use baton_protocol::proto::internal::{Timer, TimerKind, TimerSubject};
use baton_protocol::{IntentId, Slot};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Subjects of one timer row.
const SUBJECTS_MAX: usize = 64;

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
        more: Vec::new(),
    };
    rows::write(tx.tables, keys::timer(due_ms, slot, kind, subject), &timer);
    tx.note_timer(due_ms);
}

/// Arms a timer that is never disarmed. Those of one entry that agree on due time, kind and guard share rows, written by
/// [`flush`]. The subject must be armed only once.
pub(crate) fn retire(
    tx: &mut Transaction<'_, '_>,
    due_ms: u64,
    slot: Slot,
    kind: TimerKind,
    subject: Bytes,
    guard: u64,
) {
    tx.push_retirement(Retirement {
        workspace_id: None,
        at_ms: due_ms,
        kind,
        guard,
        subject: TimerSubject {
            slot: slot.number().into(),
            subject,
        },
    });
}

/// [`retire`] of what is kept as long as its workspace says, from now on.
pub(crate) fn retire_for(
    tx: &mut Transaction<'_, '_>,
    workspace_id: &str,
    slot: Slot,
    kind: TimerKind,
    subject: Bytes,
) {
    tx.push_retirement(Retirement {
        workspace_id: Some(workspace_id.to_owned()),
        at_ms: tx.now_ms,
        kind,
        guard: 0,
        subject: TimerSubject {
            slot: slot.number().into(),
            subject,
        },
    });
}

/// What [`retire`] was asked for.
#[derive(Debug)]
pub(crate) struct Retirement {
    /// Whose retention counts, from `at_ms` on; without one, `at_ms` is when it is due.
    workspace_id: Option<String>,
    at_ms: u64,
    kind: TimerKind,
    guard: u64,
    subject: TimerSubject,
}

/// Writes the timers of everything that the entry retired.
pub(crate) fn flush(tx: &mut Transaction<'_, '_>) -> Result<(), TableError> {
    let mut alike = BTreeMap::<_, Vec<TimerSubject>>::new();
    for retired in tx.take_retirements() {
        let of_a_kind = (
            retired.workspace_id,
            retired.at_ms,
            retired.kind as i32,
            retired.guard,
        );
        alike.entry(of_a_kind).or_default().push(retired.subject);
    }
    for ((workspace_id, at_ms, kind, guard), subjects) in alike {
        for chunk in subjects.chunks(SUBJECTS_MAX) {
            let Some((first, more)) = chunk.split_first() else {
                continue;
            };
            let timer = Timer {
                due_ms: at_ms,
                kind,
                subject: first.subject.clone(),
                guard,
                more: more.to_vec(),
            };
            let slot = Slot::from_bits(first.slot as u16);
            let key = match &workspace_id {
                Some(id) => keys::retired(id, at_ms, slot, timer.kind(), &first.subject),
                None => keys::timer(at_ms, slot, timer.kind(), &first.subject),
            };
            rows::insert(tx.tables, key, &timer);
        }
        match workspace_id {
            Some(id) => retention::arm(tx, &id, at_ms)?,
            None => tx.note_timer(at_ms),
        }
    }
    Ok(())
}

/// Arms the deadline that a header names; 0 is none.
pub(crate) fn add_deadline(tx: &mut Transaction<'_, '_>, id: IntentId, deadline_at_ms: u64) {
    if deadline_at_ms != 0 {
        let kind = TimerKind::Deadline;
        add(tx, deadline_at_ms, id.slot(), kind, id.as_bytes(), deadline_at_ms);
    }
}

/// Takes back what [`add_deadline`] did.
pub(crate) fn remove_deadline(tx: &mut Transaction<'_, '_>, id: IntentId, deadline_at_ms: u64) {
    if deadline_at_ms != 0 {
        remove(tx, deadline_at_ms, id.slot(), TimerKind::Deadline, id.as_bytes());
    }
}

/// Disarms a timer; a missing one is fine.
pub(crate) fn remove(tx: &mut Transaction<'_, '_>, due_ms: u64, slot: Slot, kind: TimerKind, subject: &[u8]) {
    tx.tables.delete(keys::timer(due_ms, slot, kind, subject));
}
