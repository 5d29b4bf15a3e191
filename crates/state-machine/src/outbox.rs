//! Messages to other groups (and to this one): numbered per target from 1 without gaps, kept until acknowledged.

use crate::keys;
use crate::rows;
use crate::transaction::{Stop, Transaction};
use baton_protocol::GroupId;
use baton_protocol::proto::internal::{OutboxMessage, outbox_message};

/// Messages to `target` that are not acknowledged.
pub(crate) fn waiting(tx: &Transaction<'_, '_>, target: GroupId) -> Result<u64, Stop> {
    let all = keys::outbox_upto(target.0, u64::MAX);
    let Some((_, first)) = rows::list(&*tx.tables, &all, 1)?.into_iter().next() else {
        return Ok(0);
    };
    let first: OutboxMessage = rows::decode(&all.from, first)?;
    let next = rows::read_u64(&*tx.tables, &keys::outbox_next(target.0))?.unwrap_or(1);
    Ok(next.saturating_sub(first.seq))
}

/// Queues a message and returns its number.
pub(crate) fn send(
    tx: &mut Transaction<'_, '_>,
    target: GroupId,
    body: outbox_message::Body,
) -> Result<u64, Stop> {
    let next_key = keys::outbox_next(target.0);
    let seq = rows::read_u64(&*tx.tables, &next_key)?.unwrap_or(1);
    let message = OutboxMessage {
        source_group: tx.ctx.group.0,
        target_group: target.0,
        seq,
        body: Some(body),
    };
    rows::write(tx.tables, keys::outbox(target.0, seq), &message);
    rows::write_u64(tx.tables, next_key, seq.saturating_add(1));
    tx.note_send(target);
    Ok(seq)
}
