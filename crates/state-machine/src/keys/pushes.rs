//! Keys of deliveries by push.

use super::{GROUP_WIDE, Range, len, meta, row, tail_u64};
use crate::tables::prefix_end;
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::AgentRef;
use baton_protocol::{DeliveryId, IntentId};

const DELIVERY: u8 = 0x24;
const WORKSPACE_DELIVERY: u8 = 0x25;
const REPLAY: u8 = 0x26;
const PUSH_AGENT: u8 = 0x90;
const CALLBACK_SECRETS: u8 = 0x91;

pub(crate) fn delivery(id: DeliveryId) -> Vec<u8> {
    let mut key = deliveries_of(id.intent_id).from;
    key.extend_from_slice(&id.agent_hash.to_be_bytes());
    key.extend_from_slice(&id.replay.to_be_bytes());
    key
}

/// Deliveries of one intent.
pub(crate) fn deliveries_of(id: IntentId) -> Range {
    Range::of(row(DELIVERY, id.slot().number(), &[id.as_bytes()]))
}

pub(crate) fn workspace_delivery(workspace_id: &str, id: DeliveryId) -> Vec<u8> {
    let mut key = workspace_deliveries(workspace_id).from;
    key.extend(id.intent_id.as_bytes().iter().map(|b| !b));
    key.extend_from_slice(&id.agent_hash.to_be_bytes());
    key.extend_from_slice(&id.replay.to_be_bytes());
    key
}

pub(crate) fn workspace_deliveries(workspace_id: &str) -> Range {
    let parts: [&[u8]; 2] = [&len(workspace_id), workspace_id.as_bytes()];
    Range::of(row(WORKSPACE_DELIVERY, GROUP_WIDE, &parts))
}

/// Delivery of a row of "deliveries of a workspace".
pub(crate) fn delivery_of_workspace(key: &[u8]) -> Option<DeliveryId> {
    let tail = key.get(key.len().checked_sub(28)?..)?;
    let (intent, rest) = tail.split_at(16);
    let intent: Vec<u8> = intent.iter().map(|b| !b).collect();
    Some(DeliveryId {
        intent_id: IntentId::from_slice(&intent)?,
        agent_hash: tail_u64(&rest[..8]),
        replay: tail_u32(rest),
    })
}

pub(crate) fn replay(agent: &AgentRef, due_ms: u64, id: DeliveryId) -> Vec<u8> {
    let mut key = replays(agent).from;
    key.extend_from_slice(&due_ms.to_be_bytes());
    key.extend_from_slice(id.intent_id.as_bytes());
    key.extend_from_slice(&id.replay.to_be_bytes());
    key
}

pub(crate) fn replays(agent: &AgentRef) -> Range {
    let key = &agent.key;
    Range::of(row(REPLAY, slot_of(agent).number(), &[&len(key), key.as_bytes()]))
}

/// Delivery of a row of "replays" of this agent.
pub(crate) fn delivery_of_replay(key: &[u8], agent: &AgentRef) -> Option<DeliveryId> {
    let tail = key.get(key.len().checked_sub(20)?..)?;
    let (intent, replay) = tail.split_at(16);
    Some(DeliveryId::new(IntentId::from_slice(intent)?, &agent.key).replayed(tail_u32(replay)))
}

pub(crate) fn push_agent(address: &str) -> Vec<u8> {
    meta(PUSH_AGENT, &[address.as_bytes()])
}

/// Push agents with a higher address.
pub(crate) fn push_agents_after(address: &str) -> Range {
    let mut from = push_agent(address);
    if !address.is_empty() {
        // The first key after that agent's own.
        from.push(0);
    }
    Range {
        from,
        to: prefix_end(&meta(PUSH_AGENT, &[])),
    }
}

pub(crate) fn callback_secrets(account_id: &str) -> Vec<u8> {
    meta(CALLBACK_SECRETS, &[account_id.as_bytes()])
}

fn tail_u32(key: &[u8]) -> u32 {
    key.len()
        .checked_sub(4)
        .and_then(|at| <[u8; 4]>::try_from(&key[at..]).ok())
        .map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;

    #[test]
    fn what_is_in_a_key_reads_back() {
        let id = IntentId::new(1, Slot::from_bits(0x123), 9);
        let agent_ref = AgentRef {
            key: "agent://a/b/cc".into(),
            ..AgentRef::default()
        };
        let pushed = DeliveryId::new(id, &agent_ref.key).replayed(2);
        assert_eq!(delivery(pushed)[1..3], [0x01, 0x23]);
        let listed = workspace_delivery("w1", pushed);
        assert_eq!(delivery_of_workspace(&listed), Some(pushed));
        let queued = replay(&agent_ref, 5, pushed);
        assert_eq!(delivery_of_replay(&queued, &agent_ref), Some(pushed));
        assert!(queued >= replays(&agent_ref).from && queued < replays(&agent_ref).to);
        assert_eq!(queued[1..3], slot_of(&agent_ref).number().to_be_bytes());
    }
}
