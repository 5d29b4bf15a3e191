//! `FailAttempt`: a delivery was written to a listener and nobody picked it up in time.

use crate::intents;
use crate::lifecycle::{self, DELIVERY_FAILED, Entry, SCHEDULER};
use crate::mailbox;
use crate::transaction::{Outcome, Stop, Transaction, done, reject};
use baton_protocol::proto::internal::{EventDetails, EventType, FailAttempt, Intent, Status};
use baton_protocol::{ErrorCode, IntentId};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &FailAttempt) -> Outcome {
    let mut intent = fenced(tx, &command.intent_id, command.cursor)?;
    intent.failed_attempts = intent.failed_attempts.saturating_add(1);
    if intent.failed_attempts < intent.max_delivery_attempts {
        mailbox::requeue(tx, &mut intent)?;
        lifecycle::save(tx, &intent)?;
        return Ok(done());
    }
    let attempts = EventDetails {
        delivery_attempt: intent.failed_attempts,
        max_delivery_attempts: intent.max_delivery_attempts,
        ..EventDetails::default()
    };
    let entry = Entry::new(EventType::DeliveryFailed, intent.status(), SCHEDULER)
        .waiting(intent.waiting_reason())
        .details(attempts.clone());
    lifecycle::append(tx, &mut intent, entry)?;
    let details = EventDetails {
        reason: DELIVERY_FAILED.into(),
        ..attempts
    };
    lifecycle::finish(tx, &mut intent, Status::Failed, SCHEDULER, details)?;
    Ok(done())
}

/// The open delivery at exactly this cursor; anything else has been overtaken.
pub(crate) fn fenced(tx: &Transaction<'_, '_>, intent_id: &[u8], cursor: u64) -> Result<Intent, Stop> {
    let id = IntentId::from_slice(intent_id).ok_or_else(stale)?;
    intents::intent(&*tx.tables, id)?
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
    use crate::testing::{Replica, agent, intent_id, refusal, submit};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{EventType, FailAttempt, RedeliverIntent, Status};

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
