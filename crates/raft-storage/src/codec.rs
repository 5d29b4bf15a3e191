//! Protobuf encoding of openraft's types. Part of the disk format: golden bytes below.

use crate::types::{LogId, Membership, SnapshotMeta, StoredMembership, Vote, log_id};
use baton_protocol::proto::internal as pb;
use openraft::impls::EmptyNode;
use openraft::vote::RaftVote as _;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Stored bytes are not what this program writes.
#[derive(Debug, thiserror::Error)]
#[error("stored {what} cannot be decoded: {reason}")]
pub struct DecodeError {
    what: &'static str,
    reason: String,
}

impl DecodeError {
    pub(crate) fn new(what: &'static str, reason: impl ToString) -> Self {
        Self {
            what,
            reason: reason.to_string(),
        }
    }
}

impl From<DecodeError> for std::io::Error {
    fn from(e: DecodeError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// Decodes a stored message, naming it in the error.
pub(crate) fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|e| DecodeError::new(what, e))
}

/// Log id to protobuf.
#[must_use]
pub fn log_id_to_pb(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

/// Log id from protobuf.
#[must_use]
pub fn log_id_from_pb(id: &pb::LogId) -> LogId {
    log_id(id.term, id.index)
}

/// Vote to protobuf.
#[must_use]
pub fn vote_to_pb(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        replica_id: vote.leader_id.voted_for,
        committed: vote.is_committed(),
    }
}

/// Vote from protobuf.
#[must_use]
pub fn vote_from_pb(vote: &pb::Vote) -> Vote {
    let leader = openraft::impls::leader_id_std::LeaderId {
        term: vote.term,
        voted_for: vote.replica_id,
    };
    Vote::from_leader_id(leader, vote.committed)
}

/// Membership to protobuf.
#[must_use]
pub fn membership_to_pb(m: &Membership) -> pb::Membership {
    pb::Membership {
        configs: m
            .get_joint_config()
            .iter()
            .map(|set| pb::VoterSet {
                replica_ids: set.iter().copied().collect(),
            })
            .collect(),
        replica_ids: m.nodes().map(|(id, _)| *id).collect(),
    }
}

/// Membership from protobuf.
///
/// # Errors
/// When a voter is missing among the replicas.
pub fn membership_from_pb(m: &pb::Membership) -> Result<Membership, DecodeError> {
    let configs: Vec<BTreeSet<u64>> = m
        .configs
        .iter()
        .map(|set| set.replica_ids.iter().copied().collect())
        .collect();
    let nodes: BTreeMap<u64, EmptyNode> = m.replica_ids.iter().map(|id| (*id, EmptyNode::new())).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|e| DecodeError::new("membership", e))
}

/// Stored membership to protobuf.
#[must_use]
pub fn stored_membership_to_pb(m: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: m.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(m.membership())),
    }
}

/// Stored membership from protobuf.
///
/// # Errors
/// When a voter is missing among the replicas.
pub fn stored_membership_from_pb(m: &pb::StoredMembership) -> Result<StoredMembership, DecodeError> {
    let membership = m.membership.as_ref().map(membership_from_pb).transpose()?;
    Ok(StoredMembership::new(
        m.log_id.as_ref().map(log_id_from_pb),
        membership.unwrap_or_default(),
    ))
}

/// Snapshot meta from a snapshot header.
///
/// # Errors
/// When the membership is malformed.
pub fn snapshot_meta_from_pb(header: &pb::SnapshotHeader) -> Result<SnapshotMeta, DecodeError> {
    let last_membership = header
        .membership
        .as_ref()
        .map(stored_membership_from_pb)
        .transpose()?;
    Ok(SnapshotMeta {
        last_log_id: header.last_log_id.as_ref().map(log_id_from_pb),
        last_membership: last_membership.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The bytes below are on disks. A change here needs a migration, not a new expectation.

    #[test]
    fn log_id_bytes_are_stable() {
        let pb = log_id_to_pb(&log_id(7, 300));
        assert_eq!(pb.encode_to_vec(), [0x08, 7, 0x10, 0xac, 0x02]);
        assert_eq!(log_id_from_pb(&pb), log_id(7, 300));
    }

    #[test]
    fn vote_bytes_are_stable() {
        let vote = Vote::new_committed(5, 9);
        let pb = vote_to_pb(&vote);
        assert_eq!(pb.encode_to_vec(), [0x08, 5, 0x10, 9, 0x18, 1]);
        assert_eq!(vote_from_pb(&pb), vote);
    }

    #[test]
    fn joint_membership_bytes_are_stable() {
        let joint = Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            [1, 2, 3, 4]
                .map(|id| (id, EmptyNode::new()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        )
        .unwrap();
        let stored = StoredMembership::new(Some(log_id(1, 2)), joint);
        let pb = stored_membership_to_pb(&stored);
        let expected = [
            0x0a, 4, 0x08, 1, 0x10, 2, // log id
            0x12, 18, 0x0a, 4, 0x0a, 2, 1, 2, 0x0a, 4, 0x0a, 2, 2, 3, 0x12, 4, 1, 2, 3, 4,
        ];
        assert_eq!(pb.encode_to_vec(), expected);
        assert_eq!(stored_membership_from_pb(&pb).unwrap(), stored);
    }

    #[test]
    fn empty_membership_round_trips() {
        let stored = StoredMembership::default();
        assert_eq!(
            stored_membership_from_pb(&stored_membership_to_pb(&stored)).unwrap(),
            stored
        );
    }

    #[test]
    fn a_voter_outside_the_replicas_is_refused() {
        let pb = pb::Membership {
            configs: vec![pb::VoterSet { replica_ids: vec![9] }],
            replica_ids: vec![1],
        };
        assert!(membership_from_pb(&pb).is_err());
    }
}
