//! `FinishIdempotency`: the reserved create went through; its answer is kept for later identical calls.

use crate::idempotency;
use crate::transaction::{Outcome, Transaction, done, invalid, not_found};
use baton_protocol::Slot;
use baton_protocol::proto::internal::{FinishIdempotency, Reply};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &FinishIdempotency) -> Outcome {
    let answer = command
        .reply
        .as_ref()
        .filter(|answer| idempotency::is_success(answer))
        .ok_or_else(|| invalid("only a successful reply can be kept"))?;
    let slot = Slot::of_hash(&command.key_hash);
    let mut record =
        idempotency::find(&*tx.tables, slot, &command.key_hash)?.ok_or_else(|| not_found("reservation"))?;
    if record.reply.is_none() {
        record.reply = Some(Reply {
            replayed: false,
            outcome: answer.outcome.clone(),
        });
        idempotency::update(tx, slot, &command.key_hash, &record);
    }
    Ok(done())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, agent, intent_id, refusal};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        FinishIdempotency, IdempotencyClaim, Rejection, Reply, ReserveIdempotency, Submitted, reply,
    };
    use bytes::Bytes;

    fn reserve(n: u64, request: &'static [u8]) -> Body {
        Body::Reserve(ReserveIdempotency {
            claim: Some(IdempotencyClaim {
                key_hash: Bytes::from_static(b"key"),
                request_hash: Bytes::from_static(request),
                in_intent_slot: false,
            }),
            intent_id: intent_id(&agent("worker"), n).to_bytes(),
        })
    }

    fn finish(outcome: reply::Outcome) -> Body {
        Body::Finish(FinishIdempotency {
            key_hash: Bytes::from_static(b"key"),
            reply: Some(Reply {
                replayed: false,
                outcome: Some(outcome),
            }),
        })
    }

    #[test]
    fn a_reservation_keeps_its_first_id_until_it_is_done() {
        let mut replica = Replica::new(1, 1);
        let submitted = reply::Outcome::Submitted(Submitted::default());
        let unknown = replica.run(finish(submitted.clone()));
        assert_eq!(refusal(&unknown), Some(ErrorCode::NotFound));
        let first = replica.run(reserve(1, b"body"));
        replica.now_ms += 50;
        assert_eq!(replica.run(reserve(2, b"body")), first);
        let other = replica.run(reserve(3, b"other"));
        assert_eq!(refusal(&other), Some(ErrorCode::IdempotencyConflict));
        let failed = reply::Outcome::Rejected(Rejection::default());
        assert_eq!(
            refusal(&replica.run(finish(failed))),
            Some(ErrorCode::InvalidArgument)
        );
        replica.run(finish(submitted.clone()));
        let replay = replica.run(reserve(4, b"body"));
        assert!(replay.replayed);
        assert_eq!(replay.outcome, Some(submitted));
    }
}
