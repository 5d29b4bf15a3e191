//! `FailAttempt`: a delivery was written to a listener and nobody picked it up in time.

use crate::lifecycle::{self, DELIVERY_FAILED, Entry, SCHEDULER};
use crate::mailbox;
use crate::rows;
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
    let stale = || {
        reject(
            ErrorCode::StaleAttempt,
            "this delivery is over or has a newer cursor; drop it",
        )
    };
    let id = IntentId::from_slice(intent_id).ok_or_else(stale)?;
    rows::intent(&*tx.tables, id)?
        .filter(|intent| cursor != 0 && intent.mailbox_cursor == cursor)
        .ok_or_else(stale)
}
