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

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, START_MS, refusal, submit};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{Batch, Command, Reply};
    use bytes::Bytes;

    fn command(id: u64, expires_at_ms: u64, n: u64) -> Command {
        Command {
            command_id: Bytes::copy_from_slice(&id.to_be_bytes()),
            expires_at_ms,
            body: Some(Body::Submit(submit("worker", n))),
        }
    }

    fn run(replica: &mut Replica, commands: Vec<Command>) -> Vec<Reply> {
        let log_time_ms = replica.now_ms;
        replica
            .apply(&Batch {
                log_time_ms,
                commands,
            })
            .replies
    }

    #[test]
    fn a_known_command_is_answered_from_memory() {
        let mut replica = Replica::new(1, 1);
        let first = run(&mut replica, vec![command(1, START_MS + 10, 1)]);
        // Also after its expiry: it was applied, only the answer got lost.
        replica.now_ms += 100;
        let again = run(&mut replica, vec![command(1, START_MS + 10, 1)]);
        assert_eq!(again, first);
        assert!(replica.last.events.is_empty());
    }

    #[test]
    fn an_expired_command_is_refused_and_not_remembered() {
        let mut replica = Replica::new(1, 1);
        let late = run(&mut replica, vec![command(1, START_MS - 1, 1)]);
        assert_eq!(refusal(&late[0]), Some(ErrorCode::CommandExpired));
        let fresh = run(&mut replica, vec![command(1, START_MS + 1, 1)]);
        assert_eq!(refusal(&fresh[0]), None);
    }

    #[test]
    fn old_rows_go_a_bounded_number_per_entry() {
        let mut replica = Replica::new(1, 1);
        for n in 0..30 {
            run(&mut replica, vec![command(n, 0, n)]);
        }
        replica.now_ms += replica.ctx.settings.command_dedup_ms + 1;
        let rows = |replica: &Replica| {
            let tag = crate::keys::command(b"")[0];
            replica.tables.rows().filter(|(key, _)| key[0] == tag).count()
        };
        assert_eq!(rows(&replica), 30);
        run(&mut replica, vec![]);
        assert_eq!(rows(&replica), 22);
        run(&mut replica, vec![command(99, 0, 99)]);
        assert_eq!(rows(&replica), 13, "two per command and eight more go, one came");
    }
}
