//! Command ids that were applied, with their replies. Rows of an age are removed as later entries pass, so no
//! timer is needed.

use crate::keys;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::Transaction;
use baton_protocol::proto::internal::{CommandRecord, Reply};

/// Rows one entry removes at most, beside two per command: the table shrinks even when traffic stops growing.
const PRUNE_ROWS_EXTRA: usize = 8;

/// The stored reply of a command that was applied before.
pub(crate) fn find(tables: &dyn Tables, command_id: &[u8]) -> Result<Option<Reply>, TableError> {
    let record: Option<CommandRecord> = rows::read(tables, &keys::command(command_id))?;
    Ok(record.and_then(|r| r.reply))
}

pub(crate) fn remember(tx: &mut Transaction<'_, '_>, command_id: &[u8], reply: &Reply) {
    let record = CommandRecord {
        reply: Some(reply.clone()),
        applied_at_ms: tx.now_ms,
    };
    rows::write(tx.tables, keys::command(command_id), &record);
    tx.tables
        .put(keys::command_time(tx.now_ms, command_id), Vec::new());
}

/// Removes rows older than the dedup window.
pub(crate) fn prune(tx: &mut Transaction<'_, '_>, commands: usize) -> Result<(), TableError> {
    let before_ms = tx.now_ms.saturating_sub(tx.ctx.settings.command_dedup_ms);
    let limit = commands.saturating_mul(2).saturating_add(PRUNE_ROWS_EXTRA);
    for (key, _) in rows::list(&*tx.tables, &keys::commands_before(before_ms), limit)? {
        tx.tables.delete(keys::command(keys::command_of_time(&key)));
        tx.tables.delete(key);
    }
    Ok(())
}
