//! Keys of what is over and waits for the end of its retention, by workspace.

use super::{GROUP_WIDE, Range, len, row};
use baton_protocol::Slot;
use baton_protocol::proto::internal::TimerKind;

const RETENTION: u8 = 0x3a;
const RETIRED: u8 = 0x3b;
const RETIREMENT_DUE: u8 = 0x3c;
/// Of the time in a key of [`retired`].
const SINCE_BYTES: usize = 8;

pub(crate) fn retention(workspace_id: &str) -> Vec<u8> {
    row(RETENTION, GROUP_WIDE, &[workspace_id.as_bytes()])
}

pub(crate) fn retirement_due(workspace_id: &str) -> Vec<u8> {
    row(RETIREMENT_DUE, GROUP_WIDE, &[workspace_id.as_bytes()])
}

pub(crate) fn retired(
    workspace_id: &str,
    since_ms: u64,
    slot: Slot,
    kind: TimerKind,
    subject: &[u8],
) -> Vec<u8> {
    let kind = u8::try_from(kind as i32).unwrap_or(0);
    let mut key = retired_of(workspace_id).from;
    key.extend_from_slice(&since_ms.to_be_bytes());
    key.extend_from_slice(&slot.number().to_be_bytes());
    key.push(kind);
    key.extend_from_slice(subject);
    key
}

/// All that a workspace has retired, oldest first.
pub(crate) fn retired_of(workspace_id: &str) -> Range {
    let parts: [&[u8]; 2] = [&len(workspace_id), workspace_id.as_bytes()];
    Range::of(row(RETIRED, GROUP_WIDE, &parts))
}

/// What a workspace retired at `until_ms` or before.
pub(crate) fn retired_until(workspace_id: &str, until_ms: u64) -> Range {
    let all = retired_of(workspace_id);
    match until_ms.checked_add(1) {
        None => all,
        Some(next_ms) => {
            let mut to = all.from.clone();
            to.extend_from_slice(&next_ms.to_be_bytes());
            Range { from: all.from, to }
        }
    }
}

/// Time and slot of a row of [`retired`].
pub(crate) fn retired_since(key: &[u8], workspace_id: &str) -> Option<(u64, Slot)> {
    let tail = key.get(retired_of(workspace_id).from.len()..)?;
    let (since, rest) = tail.split_at_checked(SINCE_BYTES)?;
    let slot = <[u8; 2]>::try_from(rest.get(..2)?).ok()?;
    Some((
        u64::from_be_bytes(since.try_into().ok()?),
        Slot::from_bits(u16::from_be_bytes(slot)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_key_reads_back_and_sorts_by_time() {
        let slot = Slot::from_bits(0x123);
        let key = |workspace: &str, since| retired(workspace, since, slot, TimerKind::IntentRetention, b"id");
        assert_eq!(retired_since(&key("w1", 7), "w1"), Some((7, slot)));
        let until = retired_until("w1", 7);
        assert!(key("w1", 7) >= until.from && key("w1", 7) < until.to);
        assert!(key("w1", 8) >= until.to && key("w2", 1) >= until.to);
        assert!(key("w1", 8) < retired_until("w1", u64::MAX).to);
    }
}
