//! `AcknowledgeOutbox`: messages have arrived and may be forgotten.

use crate::keys;
use crate::rows;
use crate::transaction::{Outcome, Transaction, done};
use baton_protocol::proto::internal::AcknowledgeOutbox;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &AcknowledgeOutbox) -> Outcome {
    let range = keys::outbox_upto(command.target_group, command.seq);
    for (key, _) in rows::list(&*tx.tables, &range, usize::MAX)? {
        tx.tables.delete(key);
    }
    Ok(done())
}
