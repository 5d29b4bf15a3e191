//! Small helpers around the generated frame types.

use super::{PeerError, ReplyBody};
use baton_protocol::GroupId;
use baton_protocol::proto::internal as pb;

/// The group part of a header.
pub(crate) fn group_ref(group: GroupId, sender_replica: u64, receiver_replica: u64) -> pb::PeerGroup {
    pb::PeerGroup {
        group_id: group.0,
        sender_replica,
        receiver_replica,
    }
}

/// Takes the answer apart with `pick`; anything else is a protocol error.
pub(crate) fn call_body<T>(
    reply: ReplyBody,
    pick: impl FnOnce(ReplyBody) -> Option<T>,
) -> Result<T, PeerError> {
    match reply {
        ReplyBody::Failure(failure) => Err(PeerError::Failed(Box::new(failure))),
        other @ (ReplyBody::Append(_)
        | ReplyBody::Vote(_)
        | ReplyBody::Transfer(_)
        | ReplyBody::ReadIndex(_)
        | ReplyBody::Forward(_)
        | ReplyBody::Query(_)
        | ReplyBody::Time(_)
        | ReplyBody::SnapshotOffset(_)
        | ReplyBody::LogEnd(_)
        | ReplyBody::HandOver(_)) => {
            pick(other).ok_or_else(|| PeerError::Lost("peer answered with another kind of frame".into()))
        }
    }
}

macro_rules! pickers {
    ($($name:ident, $variant:ident, $type:ty;)*) => {$(
        /// The answer, if it is of this kind.
        pub(crate) fn $name(reply: ReplyBody) -> Option<$type> {
            if let ReplyBody::$variant(answer) = reply { Some(answer) } else { None }
        }
    )*};
}

pickers! {
    append, Append, pb::PeerAppendReply;
    vote, Vote, pb::PeerVoteReply;
    transfer, Transfer, pb::PeerTransferReply;
    read_index, ReadIndex, pb::ReadIndexReply;
    forward, Forward, pb::Reply;
    query, Query, pb::QueryReply;
    time, Time, pb::TimeExchange;
    snapshot_offset, SnapshotOffset, pb::PeerSnapshotOffset;
    log_end, LogEnd, pb::LogEnd;
    hand_over, HandOver, pb::HandOverReply;
}
