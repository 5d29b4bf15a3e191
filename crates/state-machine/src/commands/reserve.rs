//! `ReserveIdempotency`: binds an idempotency key to an intent that will be created in another group.

use crate::idempotency;
use crate::transaction::{Outcome, Transaction, invalid, reply};
use baton_protocol::proto::internal::{IdempotencyRecord, ReserveIdempotency, Reserved, reply as outcome};
use baton_protocol::{IntentId, Slot};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &ReserveIdempotency) -> Outcome {
    let claim = command
        .claim
        .as_ref()
        .ok_or_else(|| invalid("a reservation needs a claim"))?;
    if IntentId::from_slice(&command.intent_id).is_none() {
        return Err(invalid("intent id must have 16 bytes"));
    }
    let slot = Slot::of_hash(&claim.key_hash);
    let record = match idempotency::lookup(tx, slot, claim)? {
        Some(IdempotencyRecord {
            reply: Some(known), ..
        }) => return Ok(idempotency::replayed(&known)),
        Some(record) => record,
        None => {
            let record = IdempotencyRecord {
                request_hash: claim.request_hash.clone(),
                reserved_at_ms: tx.now_ms,
                intent_id: command.intent_id.clone(),
                reply: None,
            };
            idempotency::insert(tx, slot, &claim.key_hash, &record);
            record
        }
    };
    Ok(reply(outcome::Outcome::Reserved(Reserved {
        intent_id: record.intent_id,
        reserved_at_ms: record.reserved_at_ms,
    })))
}
