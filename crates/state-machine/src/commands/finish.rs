//! `FinishIdempotency`: the reserved create went through; its answer is kept for later identical calls.

use crate::idempotency;
use crate::keys::idempotency_slot;
use crate::transaction::{Outcome, Transaction, done, invalid, not_found};
use baton_protocol::proto::internal::{FinishIdempotency, Reply};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &FinishIdempotency) -> Outcome {
    let answer = command
        .reply
        .as_ref()
        .filter(|answer| idempotency::is_success(answer))
        .ok_or_else(|| invalid("only a successful reply can be kept"))?;
    let slot = idempotency_slot(&command.key_hash);
    let mut record =
        idempotency::find(&*tx.tables, slot, &command.key_hash)?.ok_or_else(|| not_found("reservation"))?;
    if record.reply.is_none() {
        record.reply = Some(Reply {
            replayed: false,
            outcome: answer.outcome.clone(),
        });
        idempotency::store(tx, slot, &command.key_hash, &record);
    }
    Ok(done())
}
