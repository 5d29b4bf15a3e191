//! `SetFeatureLevel`: switches on behaviour that every replica of the group understands. It never goes down.

use crate::keys;
use crate::rows;
use crate::transaction::{Outcome, Transaction, done};
use baton_protocol::proto::internal::SetFeatureLevel;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &SetFeatureLevel) -> Outcome {
    let level = u64::from(command.level);
    let current = rows::read_u64(&*tx.tables, &keys::feature_level())?.unwrap_or(0);
    if level > current {
        rows::write_u64(tx.tables, keys::feature_level(), level);
    }
    Ok(done())
}
