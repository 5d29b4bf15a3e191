//! `ResolveIntent`: a caller ends an intent.

use crate::idempotency;
use crate::lifecycle;
use crate::transaction::{Outcome, Transaction, invalid};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::{EventDetails, ResolveIntent, Status};
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &ResolveIntent) -> Outcome {
    let actor = command.actor.as_ref();
    let (id, mut intent) = visibility::load(&*tx.tables, actor, &command.intent_id, Operation::Resolve)?;
    let status = command.status();
    if !matches!(status, Status::Completed | Status::Failed | Status::Canceled) {
        return Err(invalid("status must be COMPLETED, FAILED or CANCELED"));
    }
    let claim = command.idempotency.as_ref();
    idempotency::once(tx, id.slot(), claim, &Bytes::new(), |tx| {
        let details = EventDetails {
            result: command.result.clone(),
            error: command.error.clone(),
            reason: command.reason.clone(),
            ..EventDetails::default()
        };
        let finished = lifecycle::finish(tx, &mut intent, status, visibility::label(actor), details)?;
        Ok(lifecycle::transitioned(
            intent,
            Some(finished.event),
            true,
            finished.completion,
        ))
    })
}
