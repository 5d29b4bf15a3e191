//! openraft's type parameters, fixed for Baton.

use baton_protocol::proto::internal::Reply;
use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, EmptyNode, InlineBatch, TokioRuntime, leader_id_std};
use openraft::raft::responder::Responder;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};
use std::fmt;

/// Types of every Raft group. Written by hand because of the generic [`BoxResponder`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = EntryData;
    type R = ApplyResponse;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<EntryData, u64, EmptyNode>;
    type Entry = openraft::impls::Entry<CommittedLeaderId, Self::Payload>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = BoxResponder<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// The leader half of a log id: the term alone.
pub type CommittedLeaderId = openraft::vote::leader_id_std::CommittedLeaderId<u64>;
/// Position of a log entry.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote of a replica.
pub type Vote = openraft::impls::Vote<leader_id_std::LeaderId<u64, u64>>;
/// A log entry.
pub type Entry = openraft::impls::Entry<CommittedLeaderId, Payload>;
/// What an entry carries.
pub type Payload = EntryPayload<EntryData, u64, EmptyNode>;
/// Voters and learners of a group, by replica id.
pub type Membership = openraft::Membership<u64, EmptyNode>;
/// A membership with the log id that set it.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, EmptyNode>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, EmptyNode>;
/// A snapshot as openraft passes it around.
pub type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, EmptyNode, crate::snapshot::SnapshotFile>;

/// The log id of (term, index).
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// Application data of one log entry: an encoded `Batch`, or nothing (an entry that only moves the index).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EntryData(pub Bytes);

impl fmt::Debug for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryData({} bytes)", self.0.len())
    }
}

impl fmt::Display for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// One reply per command of the entry, in order; empty for entries without commands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApplyResponse(pub Vec<Reply>);

/// Hands a result to a closure. openraft calls it exactly once: after the entry was applied, or when the proposal
/// failed. The closure runs on the thread that applies, so it must be short and must not block.
pub struct BoxResponder<T>(Box<dyn FnOnce(T) + Send>);

impl<T> BoxResponder<T> {
    /// Runs `f` with the result.
    pub fn new(f: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(f))
    }
}

impl<T> fmt::Debug for BoxResponder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxResponder")
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for BoxResponder<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
