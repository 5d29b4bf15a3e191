//! openraft's messages as frames of the peer link.

use baton_protocol::proto::internal as pb;
use baton_raft_storage::codec::{
    log_id_from_pb, log_id_to_pb, membership_from_pb, membership_to_pb, vote_from_pb, vote_to_pb,
};
use baton_raft_storage::{Entry, EntryData, LogId, Payload, TypeConfig};
use openraft::entry::RaftEntry as _;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

/// A frame lacks a part or holds nonsense.
#[derive(Debug, thiserror::Error)]
#[error("peer frame is malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn opt_id(id: Option<&pb::LogId>) -> Option<LogId> {
    id.map(log_id_from_pb)
}

pub(crate) fn append_to_pb(request: AppendEntriesRequest<TypeConfig>) -> pb::PeerAppend {
    pb::PeerAppend {
        vote: Some(vote_to_pb(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_to_pb),
        entries: request.entries.into_iter().map(entry_to_pb).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_pb),
    }
}

pub(crate) fn append_from_pb(frame: pb::PeerAppend) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let request = AppendEntriesRequest {
        vote: vote_from_pb(&frame.vote.ok_or(Malformed("append without vote"))?),
        prev_log_id: opt_id(frame.prev_log_id.as_ref()),
        entries: frame
            .entries
            .into_iter()
            .map(entry_from_pb)
            .collect::<Result<Vec<_>, _>>()?,
        leader_commit: opt_id(frame.leader_commit.as_ref()),
    };
    check_order(&request)?;
    Ok(request)
}

/// Raft takes for granted that the entries follow `prev_log_id` without a hole and do not come from a later term
/// than the vote; one frame that breaks this would end the group.
fn check_order(request: &AppendEntriesRequest<TypeConfig>) -> Result<(), Malformed> {
    let mut before = request.prev_log_id;
    for entry in &request.entries {
        let id = entry.log_id;
        let next = before.map_or(Some(0), |id| id.index.checked_add(1));
        if next != Some(id.index) || before.is_some_and(|b| b.leader_id > id.leader_id) {
            return Err(Malformed("entries do not follow each other"));
        }
        before = Some(id);
    }
    if before.is_some_and(|id| id.leader_id.term > request.vote.leader_id.term || id.index == u64::MAX) {
        return Err(Malformed("entries of a later term than the vote"));
    }
    Ok(())
}

fn entry_to_pb(entry: Entry) -> pb::PeerEntry {
    use pb::peer_entry::Payload as P;
    pb::PeerEntry {
        log_id: Some(log_id_to_pb(&entry.log_id)),
        payload: Some(match entry.payload {
            Payload::Blank => P::Blank(pb::PeerBlank {}),
            Payload::Normal(data) => P::Data(data.0),
            Payload::Membership(membership) => P::Membership(membership_to_pb(&membership)),
        }),
    }
}

fn entry_from_pb(frame: pb::PeerEntry) -> Result<Entry, Malformed> {
    use pb::peer_entry::Payload as P;
    let log_id = log_id_from_pb(&frame.log_id.ok_or(Malformed("entry without log id"))?);
    let payload = match frame.payload.ok_or(Malformed("entry without payload"))? {
        P::Blank(_) => Payload::Blank,
        P::Data(data) => Payload::Normal(EntryData(data)),
        P::Membership(m) => Payload::Membership(membership_from_pb(&m).map_err(|_| Malformed("membership"))?),
    };
    Ok(Entry::new(log_id, payload))
}

pub(crate) fn append_result_to_pb(result: StreamAppendResult<TypeConfig>) -> pb::PeerAppendReply {
    use pb::peer_append_reply::Outcome as O;
    let outcome = match result {
        Ok(id) => O::Matched(pb::PeerMatched {
            log_id: id.as_ref().map(log_id_to_pb),
        }),
        Err(StreamAppendError::Conflict(id)) => O::Conflict(log_id_to_pb(&id)),
        Err(StreamAppendError::HigherVote(vote)) => O::HigherVote(vote_to_pb(&vote)),
    };
    pb::PeerAppendReply {
        outcome: Some(outcome),
    }
}

/// `Err` carries the failure of the receiving group.
pub(crate) fn append_result_from_pb(
    reply: pb::PeerAppendReply,
) -> Result<StreamAppendResult<TypeConfig>, String> {
    use pb::peer_append_reply::Outcome as O;
    Ok(
        match reply.outcome.ok_or_else(|| "empty append reply".to_owned())? {
            O::Matched(m) => Ok(opt_id(m.log_id.as_ref())),
            O::Conflict(id) => Err(StreamAppendError::Conflict(log_id_from_pb(&id))),
            O::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_pb(&vote))),
            O::Failure(failure) => return Err(failure.message),
        },
    )
}

pub(crate) fn vote_request_to_pb(request: &VoteRequest<TypeConfig>) -> pb::PeerVoteRequest {
    pb::PeerVoteRequest {
        vote: Some(vote_to_pb(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_to_pb),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_pb(
    frame: &pb::PeerVoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let vote = frame
        .vote
        .as_ref()
        .ok_or(Malformed("vote request without vote"))?;
    let mut request = VoteRequest::new(vote_from_pb(vote), opt_id(frame.last_log_id.as_ref()));
    request.leadership_transfer = frame.leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_response_to_pb(response: &VoteResponse<TypeConfig>) -> pb::PeerVoteReply {
    pb::PeerVoteReply {
        vote: Some(vote_to_pb(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_to_pb),
    }
}

pub(crate) fn vote_response_from_pb(
    frame: &pb::PeerVoteReply,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let vote = frame.vote.as_ref().ok_or(Malformed("vote reply without vote"))?;
    Ok(VoteResponse::new(
        vote_from_pb(vote),
        opt_id(frame.last_log_id.as_ref()),
        frame.granted,
    ))
}

pub(crate) fn transfer_to_pb(request: &TransferLeaderRequest<TypeConfig>) -> pb::PeerTransferRequest {
    pb::PeerTransferRequest {
        from_leader: Some(vote_to_pb(request.from_leader())),
        to_replica: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_to_pb),
    }
}

pub(crate) fn transfer_from_pb(
    frame: &pb::PeerTransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let vote = frame
        .from_leader
        .as_ref()
        .ok_or(Malformed("transfer without vote"))?;
    Ok(TransferLeaderRequest::new(
        vote_from_pb(vote),
        frame.to_replica,
        opt_id(frame.last_log_id.as_ref()),
    ))
}

pub(crate) fn transfer_response_to_pb(response: TransferLeaderResponse<TypeConfig>) -> pb::PeerTransferReply {
    use pb::peer_transfer_reply::Outcome;
    match response {
        Ok(()) => pb::PeerTransferReply {
            outcome: Outcome::Accepted.into(),
            ..Default::default()
        },
        Err(TransferLeaderError::VoteChanged { expected, actual }) => pb::PeerTransferReply {
            outcome: Outcome::VoteChanged.into(),
            expected_vote: Some(vote_to_pb(&expected)),
            actual_vote: Some(vote_to_pb(&actual)),
            ..Default::default()
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => pb::PeerTransferReply {
            outcome: Outcome::LogNotFlushed.into(),
            expected_log_id: expected.as_ref().map(log_id_to_pb),
            actual_log_id: actual.as_ref().map(log_id_to_pb),
            ..Default::default()
        },
    }
}

pub(crate) fn transfer_response_from_pb(
    frame: &pb::PeerTransferReply,
) -> Result<TransferLeaderResponse<TypeConfig>, Malformed> {
    use pb::peer_transfer_reply::Outcome;
    let vote = |v: &Option<pb::Vote>| {
        v.as_ref()
            .map(vote_from_pb)
            .ok_or(Malformed("transfer reply without vote"))
    };
    Ok(match frame.outcome() {
        Outcome::Accepted => Ok(()),
        Outcome::VoteChanged => Err(TransferLeaderError::VoteChanged {
            expected: vote(&frame.expected_vote)?,
            actual: vote(&frame.actual_vote)?,
        }),
        Outcome::LogNotFlushed => Err(TransferLeaderError::LogNotFlushed {
            expected: opt_id(frame.expected_log_id.as_ref()),
            actual: opt_id(frame.actual_log_id.as_ref()),
        }),
        Outcome::Unspecified => return Err(Malformed("transfer reply without outcome")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(term: u64, prev: Option<(u64, u64)>, ids: &[(u64, u64)]) -> pb::PeerAppend {
        let id = |(term, index)| pb::LogId { term, index };
        pb::PeerAppend {
            vote: Some(pb::Vote {
                term,
                replica_id: 1,
                committed: true,
            }),
            prev_log_id: prev.map(id),
            entries: ids
                .iter()
                .map(|at| pb::PeerEntry {
                    log_id: Some(id(*at)),
                    payload: Some(pb::peer_entry::Payload::Blank(pb::PeerBlank {})),
                })
                .collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn only_entries_in_order_reach_raft() {
        assert!(append_from_pb(frame(3, None, &[(0, 0), (1, 1)])).is_ok());
        assert!(append_from_pb(frame(3, Some((2, 7)), &[(2, 8), (3, 9)])).is_ok());
        assert!(append_from_pb(frame(3, Some((2, 7)), &[])).is_ok());
        let broken = [
            frame(3, None, &[(1, 1)]),
            frame(3, Some((2, 7)), &[(2, 9)]),
            frame(3, Some((2, 7)), &[(2, 8), (2, 8)]),
            frame(3, Some((2, 7)), &[(1, 8)]),
            frame(3, Some((2, 7)), &[(4, 8)]),
            frame(3, Some((2, u64::MAX)), &[(2, 0)]),
            frame(3, Some((2, u64::MAX)), &[]),
        ];
        for frame in broken {
            assert!(append_from_pb(frame.clone()).is_err(), "{frame:?}");
        }
    }
}
