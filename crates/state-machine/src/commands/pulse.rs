//! `Pulse`: fires timers that are due.

use crate::idempotency;
use crate::keys;
use crate::lifecycle::{self, SCHEDULER};
use crate::rows;
use crate::scenario;
use crate::transaction::{Outcome, Stop, Transaction, reply};
use baton_protocol::proto::internal::{EventDetails, Pulsed, Status, Timer, TimerKind, reply as outcome};
use baton_protocol::{IntentId, Slot, limits};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>) -> Outcome {
    let due = rows::list(&*tx.tables, &keys::timers_due(tx.now_ms), limits::PULSE_ITEMS_MAX)?;
    let mut fired = 0;
    for (key, value) in due {
        let timer: Timer = rows::decode(&key, value)?;
        let slot = keys::timer_slot(&key);
        tx.tables.delete(key);
        // A timer whose subject refuses it is spent all the same: it must not hold up the others for ever.
        if tx.atomically(|tx| fire(tx, slot, &timer))?.is_ok() {
            fired += 1;
        }
    }
    Ok(reply(outcome::Outcome::Pulsed(Pulsed { fired })))
}

fn fire(tx: &mut Transaction<'_, '_>, slot: Slot, timer: &Timer) -> Result<(), Stop> {
    match timer.kind() {
        TimerKind::IdempotencyRetention => idempotency::expire(tx, slot, &timer.subject, timer.guard),
        TimerKind::ThreadRetention => expire_thread(tx, slot, timer),
        TimerKind::Deadline => with_intent(tx, timer, |tx, id| time_out(tx, id, timer.guard)),
        TimerKind::StepRetry => with_intent(tx, timer, |tx, id| scenario::retry(tx, id, timer.guard)),
        TimerKind::IntentRetention => with_intent(tx, timer, lifecycle::erase),
        TimerKind::Unspecified => Ok(()),
    }
}

fn with_intent(
    tx: &mut Transaction<'_, '_>,
    timer: &Timer,
    fire: impl FnOnce(&mut Transaction<'_, '_>, IntentId) -> Result<(), Stop>,
) -> Result<(), Stop> {
    match IntentId::from_slice(&timer.subject) {
        Some(id) => fire(tx, id),
        None => Ok(()),
    }
}

fn time_out(tx: &mut Transaction<'_, '_>, id: IntentId, deadline_at_ms: u64) -> Result<(), Stop> {
    let open = rows::intent(&*tx.tables, id)?
        .filter(|i| !i.status().is_terminal() && i.deadline_at_ms == deadline_at_ms);
    let Some(mut intent) = open else {
        return Ok(());
    };
    let mut details = EventDetails {
        deadline_at_ms,
        ..EventDetails::default()
    };
    if let Some(step) = &intent.step {
        details.step_id = step.step_id.clone();
        details.reason = "step_timeout".into();
    }
    lifecycle::finish(tx, &mut intent, Status::TimedOut, SCHEDULER, details)?;
    Ok(())
}

/// Subject: 16 bytes of thread id, then the owner's key. Guard: when the thread was last written.
fn expire_thread(tx: &mut Transaction<'_, '_>, slot: Slot, timer: &Timer) -> Result<(), Stop> {
    let Some((thread_id, owner)) = timer.subject.split_at_checked(16) else {
        return Ok(());
    };
    let Ok(owner_key) = std::str::from_utf8(owner) else {
        return Ok(());
    };
    let key = keys::thread_of(slot, owner_key, thread_id);
    let stored: Option<baton_protocol::proto::internal::Thread> = rows::read(&*tx.tables, &key)?;
    if stored.is_some_and(|thread| thread.updated_at_ms == timer.guard) {
        tx.tables.delete(key);
    }
    Ok(())
}
