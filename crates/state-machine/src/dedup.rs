//! Commands that were applied and whose origin may not know it yet, with their replies.
//!
//! An origin (one start of one node) numbers its commands per group and says with each how far all answers have
//! arrived. What is settled is forgotten at once, so this stays as small as what is in flight, and a copy of a settled
//! command is refused however late it commits. (RIFL: Lee et al., "Implementing Linearizability at Large Scale and Low
//! Latency", SOSP 2015.)

use crate::apply::is_deduplicated;
use crate::keys;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Transaction, rejected};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{
    Command, CommandBlock, CommandOrigin, CommandRecord, Rejection, Reply,
};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Commands whose answers share a row: neighbours come together and are settled together, and a row costs more than
/// what is in it.
const BLOCK: u64 = 16;
/// Settled commands that one entry forgets per origin, beside two per command of its own.
const SETTLE_ROWS_EXTRA: u64 = 64;
/// Rows of origins not heard of for long that go when a new origin appears.
const STALE_ROWS_MAX: usize = 256;

/// What an entry knows about the origins of its commands.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeMap<u64, Origin>);

#[derive(Debug)]
struct Origin {
    row: CommandOrigin,
    /// A row exists, so rows of its commands may exist too.
    stored: bool,
    /// Highest sequence of the entries before this one: no row holds a higher one.
    highest_before: u64,
    /// What the commands of this entry say is settled.
    settled_below: u64,
    /// Answers of this entry, by block.
    new: BTreeMap<u64, CommandBlock>,
}

/// Whether a retry of this command must find its first answer.
pub(crate) fn applies_to(command: &Command) -> bool {
    command.origin != 0 && command.body.as_ref().is_some_and(is_deduplicated)
}

/// The answer a copy of this command gets: the stored one, or a refusal when nobody waits for it any more. Asked once per
/// command, before it is applied.
pub(crate) fn find(tx: &mut Transaction<'_, '_>, command: &Command) -> Result<Option<Reply>, TableError> {
    let origin = match tx.origins.0.entry(command.origin) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let row: Option<CommandOrigin> = rows::read(&*tx.tables, &keys::command_origin(command.origin))?;
            let stored = row.is_some();
            let row = row.unwrap_or_default();
            entry.insert(Origin {
                highest_before: row.highest,
                stored,
                row,
                settled_below: 0,
                new: BTreeMap::new(),
            })
        }
    };
    // Whoever sends a command still waits for it.
    let settled_below = command.settled_below.min(command.sequence);
    origin.settled_below = origin.settled_below.max(settled_below);
    if command.sequence < origin.row.settled_below {
        return Ok(Some(rejected(Rejection {
            code: ErrorCode::CommandExpired.number(),
            message: "command was settled before this copy of it arrived; nothing was changed".into(),
            existing_service_account: None,
        })));
    }
    if command.sequence > origin.row.highest {
        return Ok(None);
    }
    let number = command.sequence / BLOCK;
    let key = keys::commands(command.origin, number);
    if let Some(reply) = origin.new.get(&number).and_then(|b| answer(b, command.sequence)) {
        return rows::decode(&key, reply).map(Some);
    }
    if command.sequence > origin.highest_before {
        return Ok(None);
    }
    let block: Option<CommandBlock> = rows::read(&*tx.tables, &key)?;
    let reply = block.and_then(|b| answer(&b, command.sequence));
    reply.map(|reply| rows::decode(&key, reply)).transpose()
}

fn answer(block: &CommandBlock, sequence: u64) -> Option<Bytes> {
    let record = block.records.iter().find(|r| r.sequence == sequence)?;
    Some(record.reply.clone())
}

/// Keeps the answer; [`settle`] stores it. [`find`] has said that there is none.
pub(crate) fn remember(tx: &mut Transaction<'_, '_>, command: &Command, reply: &Reply) {
    if let Some(origin) = tx.origins.0.get_mut(&command.origin) {
        origin.row.highest = origin.row.highest.max(command.sequence);
        let block = origin.new.entry(command.sequence / BLOCK).or_default();
        block.records.push(CommandRecord {
            sequence: command.sequence,
            reply: reply.encode_to_vec().into(),
        });
    }
}

/// Stores the answers of this entry, and forgets what its origins have settled.
pub(crate) fn settle(tx: &mut Transaction<'_, '_>, commands: usize) -> Result<(), TableError> {
    let rows_max = (commands as u64).saturating_mul(2) + SETTLE_ROWS_EXTRA;
    for (id, origin) in std::mem::take(&mut tx.origins).0 {
        if !origin.stored {
            forget_stale_origins(tx)?;
        }
        let from = origin.row.settled_below;
        let upto = match origin.stored {
            true => origin.settled_below.clamp(from, from.saturating_add(rows_max)),
            // Nothing older is stored.
            false => origin.settled_below,
        };
        let settled = upto / BLOCK;
        for (number, block) in origin.new.range(settled..) {
            let key = keys::commands(id, *number);
            if number * BLOCK > origin.highest_before {
                rows::insert(tx.tables, key, block);
            } else {
                let before = tx.tables.get(&key)?.unwrap_or_default();
                let mut row = Vec::with_capacity(before.len() + block.encoded_len());
                row.extend_from_slice(&before);
                block.encode_raw(&mut row);
                tx.tables.put(key, row);
            }
        }
        if origin.stored {
            for number in from / BLOCK..settled {
                tx.tables.delete(keys::commands(id, number));
            }
        }
        let row = CommandOrigin {
            settled_below: upto,
            seen_at_ms: tx.now_ms,
            ..origin.row
        };
        rows::write(tx.tables, keys::command_origin(id), &row);
    }
    Ok(())
}

/// Removes origins that no pending command can be from: every command expires before the dedup window ends.
fn forget_stale_origins(tx: &mut Transaction<'_, '_>) -> Result<(), TableError> {
    let before_ms = tx.now_ms.saturating_sub(tx.ctx.settings.command_dedup_ms);
    let mut left = STALE_ROWS_MAX;
    for (key, value) in rows::list(&*tx.tables, &keys::command_origins(), STALE_ROWS_MAX)? {
        let origin: CommandOrigin = rows::decode(&key, value)?;
        if origin.seen_at_ms >= before_ms || left == 0 {
            continue;
        }
        let commands = rows::list(&*tx.tables, &keys::commands_of(keys::origin_of(&key)), left)?;
        left -= commands.len();
        for (command, _) in commands {
            tx.tables.delete(command);
        }
        if left > 0 {
            left -= 1;
            tx.tables.delete(key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Replica, START_MS, refusal, submit};
    use baton_protocol::proto::internal::Batch;
    use baton_protocol::proto::internal::command::Body;

    fn command(sequence: u64, settled_below: u64) -> Command {
        Command {
            origin: 7,
            sequence,
            settled_below,
            expires_at_ms: START_MS + 10,
            body: Some(Body::Submit(submit("worker", sequence))),
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

    fn rows_of(replica: &Replica, key: &[u8]) -> usize {
        replica.tables.rows().filter(|(k, _)| k[0] == key[0]).count()
    }

    /// How many rows hold answers.
    fn blocks(replica: &Replica) -> usize {
        rows_of(replica, &keys::commands(0, 0))
    }

    #[test]
    fn a_known_command_is_answered_from_memory() {
        let mut replica = Replica::new(1, 1);
        let first = run(&mut replica, vec![command(1, 1)]);
        // Also after its expiry: it was applied, only the answer got lost.
        replica.now_ms += 100;
        let again = run(&mut replica, vec![command(1, 1)]);
        assert_eq!(again, first);
        assert!(replica.last.effects.is_empty());
    }

    #[test]
    fn two_copies_in_one_entry_count_once() {
        let mut replica = Replica::new(1, 1);
        let replies = run(&mut replica, vec![command(1, 1), command(1, 1)]);
        assert_eq!(replies[0], replies[1]);
        assert_eq!(replica.last.effects.len(), 1, "one birth");
    }

    #[test]
    fn an_expired_command_is_refused_and_not_remembered() {
        let mut replica = Replica::new(1, 1);
        let late = Command {
            expires_at_ms: START_MS - 1,
            ..command(1, 1)
        };
        assert_eq!(
            refusal(&run(&mut replica, vec![late])[0]),
            Some(ErrorCode::CommandExpired)
        );
        assert_eq!(refusal(&run(&mut replica, vec![command(1, 1)])[0]), None);
    }

    #[test]
    fn what_is_settled_is_forgotten_and_late_copies_are_refused() {
        let mut replica = Replica::new(1, 1);
        run(&mut replica, (1..=BLOCK).map(|n| command(n, 1)).collect());
        assert_eq!(blocks(&replica), 2);
        run(&mut replica, vec![command(BLOCK + 1, BLOCK - 1)]);
        assert_eq!(blocks(&replica), 2, "one of the first is not settled");
        run(&mut replica, vec![command(BLOCK + 2, BLOCK + 1)]);
        assert_eq!(blocks(&replica), 1, "the first are gone, the others are kept");
        let before = replica.hash();
        let late = run(&mut replica, vec![command(2, 1)]);
        assert_eq!(refusal(&late[0]), Some(ErrorCode::CommandExpired));
        assert!(replica.last.effects.is_empty());
        assert_eq!(replica.hash(), before);
        // A command that was overtaken, and never came before, is none of the settled ones.
        let next = BLOCK + 3;
        run(&mut replica, vec![command(next + 1, next)]);
        assert_eq!(refusal(&run(&mut replica, vec![command(next, next)])[0]), None);
    }

    #[test]
    fn settling_is_bounded_per_entry() {
        let mut replica = Replica::new(1, 1);
        for sequence in 1..=200 {
            run(&mut replica, vec![command(sequence, 1)]);
        }
        let full = blocks(&replica);
        run(&mut replica, vec![command(201, 201)]);
        assert_eq!(
            blocks(&replica),
            full - ((2 + SETTLE_ROWS_EXTRA) / BLOCK) as usize
        );
        for sequence in 202..=206 {
            run(&mut replica, vec![command(sequence, sequence)]);
        }
        assert_eq!(blocks(&replica), 1);
    }

    #[test]
    fn a_new_origin_sweeps_out_the_dead() {
        let mut replica = Replica::new(1, 1);
        run(&mut replica, vec![command(1, 1), command(2, 1)]);
        let other = |replica: &mut Replica, origin| {
            let command = Command {
                origin,
                expires_at_ms: 0,
                ..command(1, 1)
            };
            run(replica, vec![command]);
        };
        other(&mut replica, 8);
        assert_eq!(rows_of(&replica, &keys::command_origin(0)), 2, "both are alive");
        replica.now_ms += replica.ctx.settings.command_dedup_ms + 1;
        other(&mut replica, 9);
        assert_eq!(rows_of(&replica, &keys::command_origin(0)), 1);
        assert_eq!(blocks(&replica), 1);
    }
}
