//! `FailAttempt`: a delivery was written to a listener and nobody picked it up in time, or its push failed.

use crate::handover;
use crate::lifecycle::{self, DELIVERY_FAILED, Entry, SCHEDULER};
use crate::mailbox;
use crate::pushes::{self, RETRY_DELAY_MS_MAX};
use crate::references;
use crate::rows;
use crate::timers;
use crate::transaction::{Outcome, Stop, Transaction, done, reject};
use baton_protocol::proto::internal::{
    DeliveryState, EventDetails, EventType, FailAttempt, Intent, PushReport, Status, TimerKind,
};
use baton_protocol::{ErrorCode, IntentId};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &FailAttempt) -> Outcome {
    let intent = fenced(tx, &command.intent_id, command.cursor)?;
    if let Some(report) = &command.push {
        return not_taken(tx, intent, report);
    }
    again_at_once(tx, intent)
}

/// An attempt has failed and the next one follows at once, if one is left.
pub(crate) fn again_at_once(tx: &mut Transaction<'_, '_>, mut intent: Intent) -> Outcome {
    intent.failed_attempts = intent.failed_attempts.saturating_add(1);
    if intent.failed_attempts < intent.max_delivery_attempts {
        mailbox::requeue(tx, &mut intent)?;
        return keep(tx, &intent);
    }
    used_up(tx, intent)
}

/// There are attempts left.
pub(crate) fn keep(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Outcome {
    references::save(tx, intent)?;
    if intent.reference {
        handover::report(tx, intent, None)?;
    }
    Ok(done())
}

pub(crate) fn used_up(tx: &mut Transaction<'_, '_>, mut intent: Intent) -> Outcome {
    if intent.reference {
        references::give_up(tx, intent)?;
    } else {
        give_up(tx, &mut intent, DELIVERY_FAILED)?;
    }
    Ok(done())
}

/// A push failed. The delivery stays where it is, for whoever listens, and gets a fresh cursor when it is due again.
fn not_taken(tx: &mut Transaction<'_, '_>, mut intent: Intent, report: &PushReport) -> Outcome {
    let cursor = intent.mailbox_cursor;
    let push = intent.push.unwrap_or_default();
    if push.waiting_cursor == cursor || push.taken_cursor == cursor || !pushes::holds(&intent, report) {
        return Err(stale());
    }
    intent.failed_attempts = intent.failed_attempts.saturating_add(1);
    if intent.failed_attempts >= intent.max_delivery_attempts {
        pushes::note_attempt(tx, &mut intent, report, DeliveryState::DeadLettered, 0)?;
        return used_up(tx, intent);
    }
    let due_ms = tx.now_ms.saturating_add(report.delay_ms.min(RETRY_DELAY_MS_MAX));
    pushes::note_attempt(tx, &mut intent, report, DeliveryState::Pending, due_ms)?;
    wait(tx, &mut intent, due_ms)?;
    keep(tx, &intent)
}

/// The open delivery waits for its next attempt. The caller saves the header.
pub(crate) fn wait(tx: &mut Transaction<'_, '_>, intent: &mut Intent, due_ms: u64) -> Result<(), Stop> {
    let (id, cursor) = (rows::id_of(intent)?, intent.mailbox_cursor);
    let push = intent.push.get_or_insert_default();
    (push.waiting_cursor, push.retry_at_ms) = (cursor, due_ms);
    timers::add(tx, due_ms, id.slot(), TimerKind::PushRetry, id.as_bytes(), cursor);
    Ok(())
}

/// Ends an intent that cannot be delivered.
pub(crate) fn give_up(tx: &mut Transaction<'_, '_>, intent: &mut Intent, reason: &str) -> Result<(), Stop> {
    let attempts = EventDetails {
        delivery_attempt: intent.failed_attempts,
        max_delivery_attempts: intent.max_delivery_attempts,
        ..EventDetails::default()
    };
    let entry = Entry::new(EventType::DeliveryFailed, intent.status(), SCHEDULER)
        .waiting(intent.waiting_reason())
        .details(attempts.clone());
    lifecycle::append(tx, intent, entry)?;
    let details = EventDetails {
        reason: reason.to_owned(),
        ..attempts
    };
    lifecycle::finish(tx, intent, Status::Failed, SCHEDULER, details)?;
    Ok(())
}

/// The open delivery at exactly this cursor; anything else has been overtaken.
pub(crate) fn fenced(tx: &Transaction<'_, '_>, intent_id: &[u8], cursor: u64) -> Result<Intent, Stop> {
    let id = IntentId::from_slice(intent_id).ok_or_else(stale)?;
    references::header(&*tx.tables, id)?
        .filter(|intent| cursor != 0 && intent.mailbox_cursor == cursor)
        .ok_or_else(stale)
}

pub(crate) fn stale() -> Stop {
    reject(
        ErrorCode::StaleAttempt,
        "this delivery is over or has a newer cursor; drop it",
    )
}

#[cfg(test)]
mod tests {
    use crate::next_due_ms;
    use crate::testing::{Replica, START_MS, agent, intent_id, pushed, refusal, submit};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        DeliveryState, EventType, FailAttempt, Pulse, RedeliverIntent, ResolveIntent, Status,
    };
    use baton_protocol::{ErrorCode, IntentId};

    fn push_fails(id: IntentId, cursor: u64, delay_ms: u64) -> Body {
        Body::FailAttempt(FailAttempt {
            intent_id: id.to_bytes(),
            cursor,
            push: Some(pushed("worker", 503, delay_ms)),
        })
    }

    #[test]
    fn a_failed_push_waits_its_turn_in_the_mailbox_and_ends_as_dead_letter() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        for (attempt, delay_ms) in [(1, 30_000), (2, 120_000)] {
            let cursor = replica.intent(id).unwrap().mailbox_cursor;
            assert_eq!(refusal(&replica.run(push_fails(id, cursor, delay_ms))), None);
            let again = replica.run(push_fails(id, cursor, delay_ms));
            assert_eq!(refusal(&again), Some(ErrorCode::StaleAttempt), "counted once");
            let intent = replica.intent(id).unwrap();
            assert_eq!((intent.mailbox_cursor, intent.failed_attempts), (cursor, attempt));
            let row = replica.delivery(id, "worker", 0).unwrap();
            assert_eq!(
                (row.state(), row.attempts, row.last_status),
                (DeliveryState::Pending, attempt, 503)
            );
            assert_eq!(row.next_attempt_at_ms, replica.now_ms + delay_ms);
            assert_eq!(
                next_due_ms(&replica.tables).unwrap(),
                Some(replica.now_ms + delay_ms)
            );
            replica.now_ms += delay_ms - 1;
            replica.run(Body::Pulse(Pulse {}));
            assert_eq!(replica.intent(id).unwrap().mailbox_cursor, cursor);
            replica.now_ms += 1;
            replica.run(Body::Pulse(Pulse {}));
            assert!(replica.intent(id).unwrap().mailbox_cursor >= cursor + 2);
        }
        let cursor = replica.intent(id).unwrap().mailbox_cursor;
        replica.run(push_fails(id, cursor, 1));
        let intent = replica.intent(id).unwrap();
        assert_eq!((intent.status(), intent.failed_attempts), (Status::Failed, 3));
        let kinds: Vec<_> = replica.events(id).iter().skip(3).map(|e| e.r#type()).collect();
        assert_eq!(kinds, [EventType::DeliveryFailed, EventType::Failed]);
        let row = replica.delivery(id, "worker", 0).unwrap();
        assert_eq!(
            (row.state(), row.attempts, row.next_attempt_at_ms),
            (DeliveryState::DeadLettered, 3, 0)
        );
        assert!(replica.now_ms > START_MS);
        replica.now_ms = next_due_ms(&replica.tables).unwrap().unwrap();
        replica.run(Body::Pulse(Pulse {}));
        assert_eq!(replica.delivery(id, "worker", 0), None, "it goes with the intent");
        assert_eq!(next_due_ms(&replica.tables).unwrap(), None);
    }

    #[test]
    fn an_intent_that_ends_while_its_push_waits_leaves_no_timer_and_a_failed_delivery() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        let cursor = replica.intent(id).unwrap().mailbox_cursor;
        replica.run(push_fails(id, cursor, 5_000));
        replica.run(Body::Resolve(ResolveIntent {
            intent_id: id.to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        }));
        assert_ne!(
            next_due_ms(&replica.tables).unwrap(),
            Some(replica.now_ms + 5_000)
        );
        let row = replica.delivery(id, "worker", 0).unwrap();
        assert_eq!((row.state(), row.next_attempt_at_ms), (DeliveryState::Failed, 0));
    }

    #[test]
    fn attempts_run_out_behind_a_fence() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        let mut cursors = Vec::new();
        for _ in 0..3 {
            let cursor = replica.intent(id).unwrap().mailbox_cursor;
            let redeliver = RedeliverIntent {
                intent_id: id.to_bytes(),
                cursor,
            };
            replica.run(Body::Redeliver(redeliver));
            let fresh = replica.intent(id).unwrap().mailbox_cursor;
            cursors.extend([cursor, fresh]);
            let fail = |cursor| {
                Body::FailAttempt(FailAttempt {
                    intent_id: id.to_bytes(),
                    cursor,
                    push: None,
                })
            };
            assert_eq!(refusal(&replica.run(fail(cursor))), Some(ErrorCode::StaleAttempt));
            assert_eq!(refusal(&replica.run(fail(fresh))), None);
        }
        assert!(cursors.windows(2).all(|w| w[1] >= w[0] + 2), "{cursors:?}");
        let intent = replica.intent(id).unwrap();
        assert_eq!((intent.status(), intent.failed_attempts), (Status::Failed, 3));
        let events = replica.events(id);
        let kinds: Vec<_> = events.iter().skip(3).map(|e| (e.r#type(), e.status())).collect();
        assert_eq!(
            kinds,
            [
                (EventType::DeliveryFailed, Status::Delivered),
                (EventType::Failed, Status::Failed)
            ]
        );
        let details = events[3].details.clone().unwrap();
        assert_eq!((details.delivery_attempt, details.max_delivery_attempts), (3, 3));
    }
}
