//! `Pulse`: fires timers that are due.

use crate::audit;
use crate::envelope;
use crate::gates;
use crate::idempotency;
use crate::intents;
use crate::keys;
use crate::lifecycle::{self, SCHEDULER};
use crate::mailbox;
use crate::pushes;
use crate::references;
use crate::reminders;
use crate::retention;
use crate::rows;
use crate::scenario;
use crate::threads;
use crate::transaction::{Outcome, Stop, Transaction, reply};
use baton_protocol::proto::internal::{
    EventDetails, Pulsed, Status, Timer, TimerKind, TimerSubject, reply as outcome,
};
use baton_protocol::{IntentId, Slot, limits};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>) -> Outcome {
    let due = rows::list(&*tx.tables, &keys::timers_due(tx.now_ms), limits::PULSE_ITEMS_MAX)?;
    let (mut tried, mut fired) = (0, 0);
    for (key, value) in due {
        if tried >= limits::PULSE_ITEMS_MAX {
            break;
        }
        let mut timer: Timer = rows::decode(&key, value)?;
        if timer.kind() == TimerKind::WorkspaceRetention {
            tx.tables.delete(key);
            let purged = retention::purge(tx, &timer.subject)?;
            tried += purged.max(1);
            fired += purged as u32;
            continue;
        }
        let first = TimerSubject {
            slot: keys::timer_slot(&key).number().into(),
            subject: std::mem::take(&mut timer.subject),
        };
        tx.tables.delete(key);
        for subject in std::iter::once(first).chain(std::mem::take(&mut timer.more)) {
            tried += 1;
            timer.subject = subject.subject;
            let slot = Slot::from_bits(subject.slot as u16);
            // A timer whose subject refuses it is spent all the same: it must not hold up the others for ever.
            if tx.atomically(|tx| fire(tx, slot, &timer))?.is_ok() {
                fired += 1;
            }
        }
    }
    Ok(reply(outcome::Outcome::Pulsed(Pulsed { fired })))
}

/// What becomes due, for one subject of a timer. The purge of a workspace has many and is not here.
pub(crate) fn fire(tx: &mut Transaction<'_, '_>, slot: Slot, timer: &Timer) -> Result<(), Stop> {
    match timer.kind() {
        TimerKind::IdempotencyRetention => idempotency::expire(tx, slot, &timer.subject, timer.guard),
        TimerKind::ThreadRetention => expire_thread(tx, slot, timer),
        TimerKind::Deadline => with_intent(tx, timer, |tx, id| time_out(tx, id, timer.guard)),
        TimerKind::Step => with_intent(tx, timer, |tx, id| scenario::timer(tx, id, timer.guard)),
        TimerKind::PushRetry => with_intent(tx, timer, |tx, id| push_again(tx, id, timer.guard)),
        TimerKind::Attempt => with_intent(tx, timer, |tx, id| envelope::attempt_over(tx, id, timer)),
        TimerKind::IntentRetention => with_intent(tx, timer, lifecycle::erase),
        TimerKind::GateDeadline => with_intent(tx, timer, |tx, id| gates::expire(tx, id, timer)),
        TimerKind::GateReminder => with_intent(tx, timer, |tx, id| gates::remind(tx, id, timer)),
        TimerKind::ReferenceRetention => with_intent(tx, timer, |tx, id| references::expire(tx, id, timer)),
        TimerKind::IntentReminder => with_intent(tx, timer, |tx, id| reminders::remind_intent(tx, id, timer)),
        TimerKind::AuditRetention => audit::prune(tx, &timer.subject),
        TimerKind::WorkspaceRetention | TimerKind::Unspecified => Ok(()),
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
    let open = intents::intent(&*tx.tables, id)?
        .filter(|i| !i.status().is_terminal() && i.deadline_at_ms == deadline_at_ms);
    let Some(mut intent) = open else {
        return Ok(());
    };
    if reminders::escalates_at_deadline(tx, id, &mut intent)? {
        return lifecycle::save(tx, &intent);
    }
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

/// A fresh cursor for the delivery that has waited under `cursor`.
fn push_again(tx: &mut Transaction<'_, '_>, id: IntentId, cursor: u64) -> Result<(), Stop> {
    let waited = references::header(&*tx.tables, id)?
        .filter(|i| i.mailbox_cursor == cursor && pushes::waiting(i).is_some_and(|(at, _)| at == cursor));
    let Some(mut intent) = waited else {
        return Ok(());
    };
    mailbox::requeue(tx, &mut intent)?;
    references::save(tx, &intent)
}

/// Subject: 16 bytes of thread id, then the owner's key. Guard: [`threads::touched_ms`] of the thread.
fn expire_thread(tx: &mut Transaction<'_, '_>, slot: Slot, timer: &Timer) -> Result<(), Stop> {
    let Some((thread_id, owner)) = timer.subject.split_at_checked(16) else {
        return Ok(());
    };
    let Ok(owner_key) = std::str::from_utf8(owner) else {
        return Ok(());
    };
    let key = keys::thread_of(slot, owner_key, thread_id);
    let stored: Option<baton_protocol::proto::internal::Thread> = rows::read(&*tx.tables, &key)?;
    if stored.is_some_and(|thread| threads::touched_ms(&thread) == timer.guard) {
        tx.tables.delete(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, START_MS, agent, intent_id, submit};
    use crate::{Effect, next_due_ms};
    use baton_protocol::limits::PULSE_ITEMS_MAX;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{Pulse, Reply, Status, SubmitIntent, reply};

    fn due_in(n: u64, ms: u64) -> Body {
        Body::Submit(SubmitIntent {
            deadline_at_ms: START_MS + ms,
            ..submit("worker", n)
        })
    }

    fn fired(reply: &Reply) -> u32 {
        let Some(reply::Outcome::Pulsed(pulsed)) = &reply.outcome else {
            panic!("no pulse")
        };
        pulsed.fired
    }

    #[test]
    fn a_deadline_ends_the_intent_and_retention_removes_it() {
        let mut replica = Replica::new(1, 1);
        replica.run(due_in(1, 5_000));
        let due_ms = START_MS + 5_000;
        assert!(replica.last.effects.contains(&Effect::Timer { due_ms }));
        let id = intent_id(&agent("worker"), 1);
        replica.now_ms += 4_999;
        assert_eq!(fired(&replica.run(Body::Pulse(Pulse {}))), 0);
        replica.now_ms += 1;
        assert_eq!(fired(&replica.run(Body::Pulse(Pulse {}))), 1);
        let view = replica.view(id).unwrap();
        assert_eq!(view.intent.unwrap().status(), Status::TimedOut);
        let details = view.terminal_event.unwrap().details.unwrap();
        assert_eq!(details.deadline_at_ms, due_ms);
        replica.now_ms = next_due_ms(&replica.tables).unwrap().unwrap();
        assert_eq!(fired(&replica.run(Body::Pulse(Pulse {}))), 1);
        assert_eq!(replica.view(id), None);
        assert_eq!(next_due_ms(&replica.tables).unwrap(), None);
    }

    #[test]
    fn a_pulse_is_bounded() {
        let mut replica = Replica::new(1, 1);
        let more = PULSE_ITEMS_MAX as u64 + 10;
        for n in 0..more {
            replica.run(due_in(n, 1));
        }
        replica.now_ms += 1;
        assert_eq!(fired(&replica.run(Body::Pulse(Pulse {}))), PULSE_ITEMS_MAX as u32);
        assert_eq!(fired(&replica.run(Body::Pulse(Pulse {}))), 10);
    }

    #[test]
    fn log_time_never_goes_back() {
        let mut replica = Replica::new(1, 1);
        replica.now_ms += 10_000;
        replica.run(Body::Pulse(Pulse {}));
        replica.now_ms = START_MS;
        replica.run(due_in(1, 1));
        assert_eq!(replica.last.log_time_ms, START_MS + 10_000);
        assert_eq!(fired(&replica.run(Body::Pulse(Pulse {}))), 1, "due in log time");
    }
}
