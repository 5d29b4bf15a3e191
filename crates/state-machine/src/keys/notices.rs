//! Keys of messages to people.

use super::{GROUP_WIDE, Range, row};
use baton_protocol::IntentId;

const NOTICE: u8 = 0x2a;
const NOTICE_DUE: u8 = 0x2b;

pub(crate) fn notice(id: IntentId, number: u32) -> Vec<u8> {
    let mut key = notices_of(id).from;
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Notices of one intent.
pub(crate) fn notices_of(id: IntentId) -> Range {
    Range::of(row(NOTICE, id.slot().number(), &[id.as_bytes()]))
}

pub(crate) fn notice_due(due_ms: u64, id: IntentId, number: u32) -> Vec<u8> {
    row(
        NOTICE_DUE,
        GROUP_WIDE,
        &[&due_ms.to_be_bytes(), id.as_bytes(), &number.to_be_bytes()],
    )
}

/// Every notice of the group, by the time of its next attempt.
pub(crate) fn notices_due() -> Range {
    Range::of(row(NOTICE_DUE, GROUP_WIDE, &[]))
}

/// Intent and number of a row of "notices by due time".
pub(crate) fn notice_of_due(key: &[u8]) -> Option<(IntentId, u32)> {
    let tail = key.get(key.len().checked_sub(20)?..)?;
    let (id, number) = tail.split_at(16);
    Some((
        IntentId::from_slice(id)?,
        u32::from_be_bytes(number.try_into().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;

    #[test]
    fn what_is_in_a_key_reads_back() {
        let id = IntentId::new(1, Slot::from_bits(0x123), 9);
        assert_eq!(notice(id, 7)[1..3], [0x01, 0x23]);
        let due = notice_due(5, id, 7);
        assert_eq!(notice_of_due(&due), Some((id, 7)));
        assert!(due >= notices_due().from && due < notices_due().to);
        assert!(due < notice_due(6, id, 1));
    }
}
