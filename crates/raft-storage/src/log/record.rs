//! One log entry as the engine stores it: index, term, kind, payload inside a rust-protobuf 2 `BytesValue`, the
//! only place where that library is used. Part of the disk format.

use crate::codec::{self, DecodeError};
use crate::types::{Entry, EntryData, Payload, log_id};
use baton_protocol::proto::internal as pb;
use bytes::Bytes;
use prost::Message as _;
use protobuf::well_known_types::BytesValue;
use raft_engine::MessageExt;

const INDEX_END: usize = 8;
const TERM_END: usize = 16;
const HEADER_BYTES: usize = 17;

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Tells the engine where the index is.
#[derive(Debug)]
pub(super) struct Record;

impl MessageExt for Record {
    type Entry = BytesValue;

    fn index(record: &BytesValue) -> u64 {
        record
            .value
            .first_chunk::<INDEX_END>()
            .map_or(0, |b| u64::from_le_bytes(*b))
    }
}

pub(super) fn encode(entry: &Entry) -> BytesValue {
    let membership;
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        Payload::Blank => (KIND_BLANK, &[]),
        Payload::Normal(data) => (KIND_NORMAL, &data.0),
        Payload::Membership(m) => {
            membership = codec::membership_to_pb(m).encode_to_vec();
            (KIND_MEMBERSHIP, &membership)
        }
    };
    let mut value = Vec::with_capacity(HEADER_BYTES + payload.len());
    value.extend_from_slice(&entry.log_id.index.to_le_bytes());
    value.extend_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
    value.push(kind);
    value.extend_from_slice(payload);
    let mut record = BytesValue::new();
    record.value = value;
    record
}

pub(super) fn decode(record: BytesValue) -> Result<Entry, DecodeError> {
    let bytes = Bytes::from(record.value);
    if bytes.len() < HEADER_BYTES {
        return Err(DecodeError::new("log entry", "too short"));
    }
    let number = |range: std::ops::Range<usize>| {
        let mut raw = [0; 8];
        raw.copy_from_slice(&bytes[range]);
        u64::from_le_bytes(raw)
    };
    let id = log_id(number(INDEX_END..TERM_END), number(0..INDEX_END));
    let payload = bytes.slice(HEADER_BYTES..);
    let payload = match bytes[TERM_END] {
        KIND_BLANK => Payload::Blank,
        KIND_NORMAL => Payload::Normal(EntryData(payload)),
        KIND_MEMBERSHIP => {
            let membership: pb::Membership = codec::decode("membership", &payload)?;
            Payload::Membership(codec::membership_from_pb(&membership)?)
        }
        other => return Err(DecodeError::new("log entry", format!("kind {other} is unknown"))),
    };
    Ok(Entry { log_id: id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Membership;
    use openraft::impls::EmptyNode;
    use std::collections::{BTreeMap, BTreeSet};

    // On disks: a change here needs a migration, not a new expectation.
    #[test]
    fn entry_bytes_are_stable() {
        let entry = Entry {
            log_id: log_id(3, 258),
            payload: Payload::Normal(EntryData(Bytes::from_static(b"xy"))),
        };
        let record = encode(&entry);
        assert_eq!(
            record.value,
            [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, b'x', b'y']
        );
        assert_eq!(Record::index(&record), 258);
        assert_eq!(decode(record).unwrap(), entry);
    }

    #[test]
    fn every_kind_round_trips() {
        let nodes = BTreeMap::from([(1, EmptyNode::new()), (2, EmptyNode::new())]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        for payload in [Payload::Blank, Payload::Membership(membership)] {
            let entry = Entry {
                log_id: log_id(1, 1),
                payload,
            };
            assert_eq!(decode(encode(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn damaged_entries_are_errors() {
        let mut short = BytesValue::new();
        short.value = vec![0; 16];
        assert!(decode(short).is_err());
        let mut unknown = BytesValue::new();
        unknown.value = vec![9; 20];
        assert!(decode(unknown).is_err());
    }
}
