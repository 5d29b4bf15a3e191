//! Idempotency keys of client calls: one record per key, kept for the retention time.

use crate::keys;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::timers;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject};
use baton_protocol::proto::internal::{IdempotencyClaim, IdempotencyRecord, Reply, TimerKind, reply};
use baton_protocol::{ErrorCode, IntentId, Slot};
use bytes::Bytes;

const HASH_BYTES_MAX: usize = 64;

/// Runs `call` once per key: a known key with the same request answers what the first call answered, with
/// another request it is a conflict. Only successes are kept, so that a refused call may be corrected and sent again.
pub(crate) fn once(
    tx: &mut Transaction<'_, '_>,
    slot: Slot,
    claim: Option<&IdempotencyClaim>,
    intent_id: &Bytes,
    call: impl FnOnce(&mut Transaction<'_, '_>) -> Outcome,
) -> Outcome {
    let Some(claim) = claim else {
        return call(tx);
    };
    let existing = lookup(tx, slot, claim)?;
    if let Some(reply) = existing.as_ref().and_then(|r| r.reply.as_ref()) {
        return Ok(replayed(reply));
    }
    if let Some(record) = &existing
        && record.intent_id != *intent_id
    {
        return Err(reject(
            ErrorCode::Conflict,
            "this idempotency key was reserved for another intent id; reserve it again",
        ));
    }
    let answer = call(tx)?;
    let record = IdempotencyRecord {
        request_hash: claim.request_hash.clone(),
        reserved_at_ms: existing.as_ref().map_or(tx.now_ms, |r| r.reserved_at_ms),
        intent_id: intent_id.clone(),
        reply: Some(Reply {
            replayed: false,
            outcome: answer.outcome.clone(),
        }),
    };
    match existing {
        Some(_) => update(tx, slot, &claim.key_hash, &record),
        None => insert(tx, slot, &claim.key_hash, &record),
    }
    Ok(answer)
}

/// What this very call was answered before. The caller of then may no longer have the right to it: whoever hands an intent on
/// and asks again gets its answer.
pub(crate) fn answered(
    tx: &Transaction<'_, '_>,
    intent_id: &[u8],
    claim: Option<&IdempotencyClaim>,
) -> Result<Option<Reply>, Stop> {
    let (Some(id), Some(claim)) = (IntentId::from_slice(intent_id), claim) else {
        return Ok(None);
    };
    let record = lookup(tx, id.slot(), claim)?;
    Ok(record.and_then(|r| r.reply).as_ref().map(replayed))
}

/// [`once`] for a call that is about no intent: the record's slot follows from the key.
pub(crate) fn once_by_key(
    tx: &mut Transaction<'_, '_>,
    claim: Option<&IdempotencyClaim>,
    call: impl FnOnce(&mut Transaction<'_, '_>) -> Outcome,
) -> Outcome {
    let slot = Slot::of_hash(claim.map(|c| c.key_hash.as_ref()).unwrap_or_default());
    once(tx, slot, claim, &Bytes::new(), call)
}

/// The record of a claim; a different request under the same key is refused.
pub(crate) fn lookup(
    tx: &Transaction<'_, '_>,
    slot: Slot,
    claim: &IdempotencyClaim,
) -> Result<Option<IdempotencyRecord>, Stop> {
    if claim.key_hash.is_empty() || claim.key_hash.len() > HASH_BYTES_MAX {
        return Err(invalid(format!(
            "idempotency key hash must have 1 to {HASH_BYTES_MAX} bytes"
        )));
    }
    let record = find(&*tx.tables, slot, &claim.key_hash)?;
    match record {
        Some(record) if record.request_hash != claim.request_hash => Err(reject(
            ErrorCode::IdempotencyConflict,
            "idempotency key reused with different payload",
        )),
        other => Ok(other),
    }
}

pub(crate) fn find(
    tables: &dyn Tables,
    slot: Slot,
    key_hash: &[u8],
) -> Result<Option<IdempotencyRecord>, TableError> {
    rows::read(tables, &keys::idempotency(slot, key_hash))
}

/// Writes a new record, reserved now, with its retention timer. [`lookup`] has said that there is none.
pub(crate) fn insert(tx: &mut Transaction<'_, '_>, slot: Slot, key_hash: &Bytes, record: &IdempotencyRecord) {
    rows::insert(tx.tables, keys::idempotency(slot, key_hash), record);
    let due_ms = record
        .reserved_at_ms
        .saturating_add(tx.ctx.settings.idempotency_retention_ms);
    timers::retire(
        tx,
        due_ms,
        slot,
        TimerKind::IdempotencyRetention,
        key_hash.clone(),
        record.reserved_at_ms,
    );
}

/// Rewrites a record.
pub(crate) fn update(tx: &mut Transaction<'_, '_>, slot: Slot, key_hash: &[u8], record: &IdempotencyRecord) {
    rows::write(tx.tables, keys::idempotency(slot, key_hash), record);
}

/// Fires the retention timer of a record.
pub(crate) fn expire(
    tx: &mut Transaction<'_, '_>,
    slot: Slot,
    key_hash: &[u8],
    guard: u64,
) -> Result<(), Stop> {
    if find(&*tx.tables, slot, key_hash)?.is_some_and(|r| r.reserved_at_ms == guard) {
        tx.tables.delete(keys::idempotency(slot, key_hash));
    }
    Ok(())
}

/// The stored answer as a later call sees it.
pub(crate) fn replayed(reply: &Reply) -> Reply {
    Reply {
        replayed: true,
        outcome: reply.outcome.clone(),
    }
}

/// Whether a reply may be kept: it says something and is no refusal.
pub(crate) fn is_success(reply: &Reply) -> bool {
    match &reply.outcome {
        None | Some(reply::Outcome::Rejected(_)) => false,
        Some(
            reply::Outcome::Submitted(_)
            | reply::Outcome::Transitioned(_)
            | reply::Outcome::Reserved(_)
            | reply::Outcome::Done(_)
            | reply::Outcome::ScenarioStarted(_)
            | reply::Outcome::Pulsed(_)
            | reply::Outcome::ServiceAccount(_)
            | reply::Outcome::ApiKey(_)
            | reply::Outcome::Delivery(_)
            | reply::Outcome::ThreadWritten(_)
            | reply::Outcome::Schema(_)
            | reply::Outcome::Workspace(_),
        ) => true,
    }
}
