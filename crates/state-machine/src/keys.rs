//! Keys of every row: one byte of table, the slot (u16, big-endian), then the id, so that a group can be split
//! by slot. Rows that are ordered across the slots of a group carry [`GROUP_WIDE`] in place of the slot.
//!
//! | Tag | Table | Key after tag | Value |
//! |---|---|---|---|
//! | 00 | state hash | | u64 |
//! | 01 | clock | wide | u64, log time |
//! | 02 | feature level | wide | u64 |
//! | 03 | intent count | wide | u64 |
//! | 10 | intents | slot, intent id | `IntentRow` |
//! | 11 | payloads | slot, intent id | `Payload`, when too large for the intent's row |
//! | 12 | events | slot, intent id, seq u32 | `Event`, when the intent's row is full |
//! | 13 | agents | slot, agent key | `AgentState` |
//! | 14 | mailbox | slot, len u16, agent key, cursor u64 | intent id |
//! | 15 | recipients | slot, len u16, agent key, inverted intent id (newest first) | empty |
//! | 16 | timers | wide, due u64, slot, kind u8, subject | `Timer` |
//! | 17 | idempotency | slot, key hash | `IdempotencyRecord` |
//! | 18 | outbox | wide, target u32, seq u64 | `OutboxMessage` |
//! | 19 | outbox next | wide, target u32 | u64 |
//! | 1a | inbound next | wide, source u32 | u64 |
//! | 1b | commands | wide, origin u64, block u64 | `CommandBlock` |
//! | 1c | command origins | wide, origin u64 | `CommandOrigin` |
//! | 1d | threads | slot of owner, len u16, owner key, inverted thread id (newest first) | `Thread` |
//! | 1e | scenarios | slot, parent id | `Scenario` |
//! | 24 | deliveries by push | slot, intent id, agent hash u64, replay u32 | `Delivery` |
//! | 25 | deliveries of a workspace | wide, len u16, workspace id, inverted intent id (newest first), agent hash u64, replay u32 | empty |
//! | 26 | replays | slot of agent, len u16, agent key, due u64, intent id, replay u32 | empty |
//! | 28 | human tasks | slot, intent id | `Gate`, the latest of the intent |
//! | 29 | open human tasks | slot, len u16, workspace id, intent id | empty |
//! | 2a | notices | slot, intent id, number u32 | `Notice` |
//! | 2b | notices by due time | wide, due u64, intent id, number u32 | empty |
//! | 2e | references | wide, intent id of another group | `IntentRow` without events |
//! | 38 | audit chains | wide, workspace id | `AuditChain` |
//! | 39 | audit events | wide, len u16, workspace id, inverted sequence (newest first) | `AuditEvent` |
//! | 3a | retention of a workspace | wide, workspace id | u64, ms, when it is not the cluster's |
//! | 3b | retired | wide, len u16, workspace id, since u64, slot, kind u8, subject | `Timer`, due that much later |
//! | 3c | retirement due | wide, workspace id | u64, when the timer of "retired" fires |
//! | 80 | cluster | | `ClusterRecord` |
//! | 81 | nodes | node id u64 | `NodeRecord` |
//! | 82 | organizations | org id | `Organization` |
//! | 83 | organization slugs | slug | org id |
//! | 84 | workspaces | workspace id | `Workspace` |
//! | 85 | workspace slugs | len u16, org id, slug | workspace id |
//! | 86 | service accounts | account id | `ServiceAccount` |
//! | 87 | account addresses | address | account id |
//! | 88 | account names | len u16, workspace id, name | account id |
//! | 89 | accounts of a workspace | len u16, workspace id, account id | empty |
//! | 8a | keys | SHA-256 of the token | `ApiKey` |
//! | 8b | keys of an account | len u16, account id, key id | SHA-256 of the token |
//! | 8c | account count | | u64 |
//! | 8d | schemas | len u16, workspace id, semantic type | `SemanticSchema` |
//! | 90 | push agents | address | account id |
//! | 91 | callback secrets | account id | `CallbackSecrets` |
//!
//! Tags from 80 on exist in the meta group only, which is never split.

mod audit;
mod notices;
mod pushes;
mod retention;
mod tenants;

pub(crate) use audit::*;
pub(crate) use notices::*;
pub(crate) use pushes::*;
pub(crate) use retention::*;
pub(crate) use tenants::*;

use crate::tables::prefix_end;
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::{AgentRef, TimerKind};
use baton_protocol::{IntentId, Slot};

/// Stands where a slot stands in the keys of rows that are ordered over the whole group.
pub(crate) const GROUP_WIDE: u16 = u16::MAX;

const CLOCK: u8 = 0x01;
const FEATURE_LEVEL: u8 = 0x02;
const INTENT_COUNT: u8 = 0x03;
const INTENT: u8 = 0x10;
const PAYLOAD: u8 = 0x11;
const EVENT: u8 = 0x12;
const AGENT: u8 = 0x13;
const MAILBOX: u8 = 0x14;
const RECIPIENT: u8 = 0x15;
const TIMER: u8 = 0x16;
const IDEMPOTENCY: u8 = 0x17;
const OUTBOX: u8 = 0x18;
const OUTBOX_NEXT: u8 = 0x19;
const INBOUND: u8 = 0x1a;
const COMMAND: u8 = 0x1b;
const COMMAND_ORIGIN: u8 = 0x1c;
const THREAD: u8 = 0x1d;
const SCENARIO: u8 = 0x1e;
const GATE: u8 = 0x28;
const OPEN_TASK: u8 = 0x29;
const REFERENCE: u8 = 0x2e;

/// Half-open range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl Range {
    fn of(prefix: Vec<u8>) -> Self {
        Self {
            to: prefix_end(&prefix),
            from: prefix,
        }
    }
}

fn row(tag: u8, slot: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + parts.iter().map(|p| p.len()).sum::<usize>());
    key.push(tag);
    key.extend_from_slice(&slot.to_be_bytes());
    parts.iter().for_each(|p| key.extend_from_slice(p));
    key
}

fn meta(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![tag];
    parts.iter().for_each(|p| key.extend_from_slice(p));
    key
}

/// Length prefix of a text, so that one owner's rows are never a prefix of another's.
fn len(text: &str) -> [u8; 2] {
    u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()
}

pub(crate) fn clock() -> Vec<u8> {
    row(CLOCK, GROUP_WIDE, &[])
}

pub(crate) fn feature_level() -> Vec<u8> {
    row(FEATURE_LEVEL, GROUP_WIDE, &[])
}

pub(crate) fn intent_count() -> Vec<u8> {
    row(INTENT_COUNT, GROUP_WIDE, &[])
}

pub(crate) fn intent(id: IntentId) -> Vec<u8> {
    row(INTENT, id.slot().number(), &[id.as_bytes()])
}

pub(crate) fn payload(id: IntentId) -> Vec<u8> {
    row(PAYLOAD, id.slot().number(), &[id.as_bytes()])
}

pub(crate) fn event(id: IntentId, seq: u32) -> Vec<u8> {
    row(EVENT, id.slot().number(), &[id.as_bytes(), &seq.to_be_bytes()])
}

/// Events of one intent with `seq > since`.
pub(crate) fn events_after(id: IntentId, since: u32) -> Range {
    let all = Range::of(row(EVENT, id.slot().number(), &[id.as_bytes()]));
    Range {
        from: event(id, since.saturating_add(1)),
        to: all.to,
    }
}

/// A delivery is named by its intent alone, so the slot of the agent is not in the key.
pub(crate) fn reference(id: IntentId) -> Vec<u8> {
    row(REFERENCE, GROUP_WIDE, &[id.as_bytes()])
}

pub(crate) fn agent(agent: &AgentRef) -> Vec<u8> {
    row(AGENT, slot_of(agent).number(), &[agent.key.as_bytes()])
}

pub(crate) fn mailbox(agent: &AgentRef, cursor: u64) -> Vec<u8> {
    let mut key = mailbox_prefix(agent);
    key.extend_from_slice(&cursor.to_be_bytes());
    key
}

fn mailbox_prefix(agent: &AgentRef) -> Vec<u8> {
    let key = &agent.key;
    row(MAILBOX, slot_of(agent).number(), &[&len(key), key.as_bytes()])
}

/// Entries of one mailbox with `cursor > since`.
pub(crate) fn mailbox_after(agent: &AgentRef, since: u64) -> Range {
    Range {
        from: mailbox(agent, since.saturating_add(1)),
        to: prefix_end(&mailbox_prefix(agent)),
    }
}

/// Cursor and intent of a mailbox row.
pub(crate) fn delivery_of(key: &[u8], value: &[u8]) -> Option<(u64, IntentId)> {
    Some((tail_u64(key), IntentId::from_slice(value)?))
}

pub(crate) fn recipient(agent: &AgentRef, id: IntentId) -> Vec<u8> {
    let mut key = recipients(agent).from;
    key.extend(id.as_bytes().iter().map(|b| !b));
    key
}

pub(crate) fn recipients(agent: &AgentRef) -> Range {
    let key = &agent.key;
    Range::of(row(
        RECIPIENT,
        slot_of(agent).number(),
        &[&len(key), key.as_bytes()],
    ))
}

/// Intent id of a recipient row.
pub(crate) fn recipient_intent(key: &[u8]) -> Option<IntentId> {
    let inverted = key.get(key.len().checked_sub(16)?..)?;
    let bytes: Vec<u8> = inverted.iter().map(|b| !b).collect();
    IntentId::from_slice(&bytes)
}

pub(crate) fn timer(due_ms: u64, slot: Slot, kind: TimerKind, subject: &[u8]) -> Vec<u8> {
    let kind = u8::try_from(kind as i32).unwrap_or(0);
    row(
        TIMER,
        GROUP_WIDE,
        &[
            &due_ms.to_be_bytes(),
            &slot.number().to_be_bytes(),
            &[kind],
            subject,
        ],
    )
}

pub(crate) fn timers() -> Range {
    Range::of(row(TIMER, GROUP_WIDE, &[]))
}

/// Timers due at `now_ms` or before.
pub(crate) fn timers_due(now_ms: u64) -> Range {
    let all = timers();
    Range {
        to: match now_ms.checked_add(1) {
            Some(next) => row(TIMER, GROUP_WIDE, &[&next.to_be_bytes()]),
            None => all.to,
        },
        from: all.from,
    }
}

/// Due time of a timer row.
pub(crate) fn timer_due(key: &[u8]) -> u64 {
    key.get(..11).map_or(0, tail_u64)
}

/// Slot of a timer row.
pub(crate) fn timer_slot(key: &[u8]) -> Slot {
    let byte = |i: usize| u16::from(key.get(i).copied().unwrap_or(0));
    Slot::from_bits(byte(11) << 8 | byte(12))
}

pub(crate) fn idempotency(slot: Slot, key_hash: &[u8]) -> Vec<u8> {
    row(IDEMPOTENCY, slot.number(), &[key_hash])
}

pub(crate) fn outbox(target: u32, seq: u64) -> Vec<u8> {
    row(OUTBOX, GROUP_WIDE, &[&target.to_be_bytes(), &seq.to_be_bytes()])
}

pub(crate) fn outbox_from(target: u32) -> Range {
    Range {
        from: outbox(target, 0),
        to: prefix_end(&row(OUTBOX, GROUP_WIDE, &[])),
    }
}

/// Target of an outbox row.
pub(crate) fn outbox_target(key: &[u8]) -> u32 {
    key.get(3..7)
        .and_then(|part| <[u8; 4]>::try_from(part).ok())
        .map_or(0, u32::from_be_bytes)
}

/// Messages to `target` with `seq <= upto`.
pub(crate) fn outbox_upto(target: u32, upto: u64) -> Range {
    Range {
        from: outbox(target, 0),
        to: match upto.checked_add(1) {
            Some(next) => outbox(target, next),
            None => prefix_end(&row(OUTBOX, GROUP_WIDE, &[&target.to_be_bytes()])),
        },
    }
}

pub(crate) fn outbox_next(target: u32) -> Vec<u8> {
    row(OUTBOX_NEXT, GROUP_WIDE, &[&target.to_be_bytes()])
}

pub(crate) fn inbound(source: u32) -> Vec<u8> {
    row(INBOUND, GROUP_WIDE, &[&source.to_be_bytes()])
}

pub(crate) fn commands(origin: u64, block: u64) -> Vec<u8> {
    row(
        COMMAND,
        GROUP_WIDE,
        &[&origin.to_be_bytes(), &block.to_be_bytes()],
    )
}

/// Commands of one origin.
pub(crate) fn commands_of(origin: u64) -> Range {
    Range::of(row(COMMAND, GROUP_WIDE, &[&origin.to_be_bytes()]))
}

pub(crate) fn command_origin(origin: u64) -> Vec<u8> {
    row(COMMAND_ORIGIN, GROUP_WIDE, &[&origin.to_be_bytes()])
}

pub(crate) fn command_origins() -> Range {
    Range::of(row(COMMAND_ORIGIN, GROUP_WIDE, &[]))
}

/// Origin of a row of "command origins".
pub(crate) fn origin_of(key: &[u8]) -> u64 {
    tail_u64(key)
}

pub(crate) fn thread(owner: &AgentRef, thread_id: &[u8]) -> Vec<u8> {
    thread_of(slot_of(owner), &owner.key, thread_id)
}

pub(crate) fn thread_of(slot: Slot, owner_key: &str, thread_id: &[u8]) -> Vec<u8> {
    let mut key = row(THREAD, slot.number(), &[&len(owner_key), owner_key.as_bytes()]);
    key.extend(thread_id.iter().map(|b| !b));
    key
}

pub(crate) fn threads(owner: &AgentRef) -> Range {
    Range::of(thread(owner, &[]))
}

pub(crate) fn scenario(parent: IntentId) -> Vec<u8> {
    row(SCENARIO, parent.slot().number(), &[parent.as_bytes()])
}

pub(crate) fn gate(id: IntentId) -> Vec<u8> {
    row(GATE, id.slot().number(), &[id.as_bytes()])
}

pub(crate) fn open_task(workspace_id: &str, id: IntentId) -> Vec<u8> {
    let mut key = open_tasks(workspace_id, id.slot()).from;
    key.extend_from_slice(id.as_bytes());
    key
}

/// Open human tasks of one workspace in one slot, by intent id.
pub(crate) fn open_tasks(workspace_id: &str, slot: Slot) -> Range {
    Range::of(row(
        OPEN_TASK,
        slot.number(),
        &[&len(workspace_id), workspace_id.as_bytes()],
    ))
}

/// Open human tasks of every workspace from `slot` on.
pub(crate) fn open_tasks_from(slot: Slot) -> Range {
    Range {
        from: row(OPEN_TASK, slot.number(), &[]),
        to: prefix_end(&[OPEN_TASK]),
    }
}

/// Intent of a row of "open human tasks".
pub(crate) fn open_task_of(key: &[u8]) -> Option<IntentId> {
    IntentId::from_slice(key.get(key.len().checked_sub(16)?..)?)
}

fn tail_u64(key: &[u8]) -> u64 {
    key.len()
        .checked_sub(8)
        .and_then(|at| <[u8; 8]>::try_from(&key[at..]).ok())
        .map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_rows_begin_with_tag_and_slot() {
        let id = IntentId::new(1, Slot::new(0x123).unwrap(), 9);
        let agent_ref = AgentRef {
            key: "agent://a/b/cc".into(),
            ..AgentRef::default()
        };
        let slot = slot_of(&agent_ref).number().to_be_bytes();
        for key in [intent(id), payload(id), event(id, 4), scenario(id)] {
            assert_eq!(key[1..3], [0x01, 0x23]);
        }
        for key in [
            agent(&agent_ref),
            mailbox(&agent_ref, 7),
            recipient(&agent_ref, id),
            thread(&agent_ref, id.as_bytes()),
        ] {
            assert_eq!(key[1..3], slot);
        }
        let delivery = delivery_of(&mailbox(&agent_ref, 7), id.as_bytes());
        assert_eq!(delivery, Some((7, id)));
        assert_eq!(recipient_intent(&recipient(&agent_ref, id)), Some(id));
        let due = timer(5, id.slot(), TimerKind::Deadline, id.as_bytes());
        assert_eq!(timer_slot(&due), id.slot());
        assert!(due >= timers_due(5).from && due < timers_due(5).to && due >= timers_due(4).to);
    }
}
