//! What this node answers to its peers. Identity is checked first, always.

mod receive;

use crate::bootstrap::Adoption;
use crate::codec::{self, Malformed};
use crate::core::Core;
use crate::disk_watch::DiskWatch;
use crate::group::Group;
use crate::metrics;
use crate::peer::{
    AppendInput, AppendOutput, CallBody, FrameStream, LogLimit, PeerError, PeerService, ReplyBody,
    SnapshotInput,
};
use crate::proposer::ProposeError;
use crate::reads::ReadError;
use async_trait::async_trait;
use baton_protocol::proto::internal as pb;
use baton_protocol::{ErrorCode, GroupId, META_GROUP, Route, ServiceError};
use baton_raft_storage::codec::log_id_to_pb;
use baton_raft_storage::{NodeStamp, TypeConfig};
use futures::StreamExt;
use openraft::raft::AppendEntriesRequest;
use pb::peer_failure::Kind;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The service behind the peer listener, from before the node has an identity until it stops.
pub(crate) struct Endpoint {
    core: OnceLock<Arc<Core>>,
    stamp: Mutex<Option<NodeStamp>>,
    adoptions: mpsc::Sender<Adoption>,
    client_address: String,
    name: String,
    cluster_size: u32,
    refusals: LogLimit,
}

impl Endpoint {
    pub(crate) fn new(
        config: &crate::ConsensusConfig,
        stamp: Option<NodeStamp>,
    ) -> (Arc<Self>, mpsc::Receiver<Adoption>) {
        let (adoptions, adopt) = mpsc::channel(1);
        let endpoint = Self {
            core: OnceLock::new(),
            stamp: Mutex::new(stamp),
            adoptions,
            client_address: config.client_address.clone(),
            name: config.name.clone(),
            cluster_size: u32::try_from(config.peers.len()).unwrap_or(u32::MAX),
            refusals: LogLimit::new(REFUSAL_LOG_INTERVAL),
        };
        (Arc::new(endpoint), adopt)
    }

    pub(crate) fn set_stamp(&self, stamp: NodeStamp) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }

    /// From here on group traffic is answered.
    pub(crate) fn set_core(&self, core: Arc<Core>) {
        // Set once per start.
        let _ = self.core.set(core);
    }

    fn core(&self) -> Result<&Arc<Core>, PeerError> {
        self.core.get().ok_or_else(|| {
            PeerError::failed(
                Kind::Unavailable,
                "this node has not joined a cluster or is still starting",
            )
        })
    }

    /// The running node, if the header is from one of its peers and means it.
    fn checked(&self, header: &pb::PeerHeader) -> Result<&Arc<Core>, PeerError> {
        let core = self.core()?;
        core.directory.check(header).map_err(|reason| {
            metrics::identity_refused();
            if let Some(suppressed) = self.refusals.pass() {
                tracing::warn!(
                    sender_node = header.sender_node,
                    suppressed,
                    reason,
                    "peer refused"
                );
            }
            PeerError::failed(Kind::Identity, format!("peer refused: {reason}"))
        })?;
        Ok(core)
    }

    fn group(&self, header: &pb::PeerHeader) -> Result<(&Arc<Core>, &Arc<Group>), PeerError> {
        let core = self.checked(header)?;
        let id = header.group.as_ref().map(|g| GroupId(g.group_id));
        let group = id.and_then(|id| core.groups.get(&id));
        group
            .map(|group| (core, group))
            .ok_or_else(|| PeerError::failed(Kind::Identity, "call names no group of this node"))
    }
}

fn malformed(error: Malformed) -> PeerError {
    PeerError::failed(Kind::Refused, error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> PeerError {
    PeerError::failed(Kind::Unavailable, format!("group has stopped: {error}"))
}

fn not_leader(leader_node: Option<u64>) -> PeerError {
    PeerError::Failed(Box::new(pb::PeerFailure {
        kind: Kind::NotLeader.into(),
        message: "not the leader of this group".into(),
        code: ErrorCode::NotLeader.number(),
        leader_node: leader_node.unwrap_or_default(),
    }))
}

fn not_proposed(error: ProposeError) -> PeerError {
    match error {
        ProposeError::NotLeader { leader_node } => not_leader(leader_node),
        ProposeError::Unknown(reason) => PeerError::failed(Kind::UnknownOutcome, reason),
        ProposeError::Refused(error) => refused(error),
    }
}

fn refused(error: ServiceError) -> PeerError {
    PeerError::Failed(Box::new(pb::PeerFailure {
        kind: Kind::Refused.into(),
        message: error.message,
        code: error.code.number(),
        leader_node: 0,
    }))
}

#[async_trait]
impl PeerService for Endpoint {
    fn accept(&self, header: &pb::PeerHeader) -> Result<(), PeerError> {
        self.checked(header).map(drop)
    }

    async fn call(&self, header: &pb::PeerHeader, body: CallBody) -> Result<ReplyBody, PeerError> {
        if let CallBody::Time(_) = body {
            let core = self.checked(header)?;
            let wall_ms = core.time.clock().wall_ms();
            return Ok(ReplyBody::Time(pb::TimeExchange {
                wall_ms,
                may_lead: core.may_take_over(),
                disk_low: core.disk.is_low(),
            }));
        }
        let (core, group) = self.group(header)?;
        match body {
            CallBody::Append(frame) => append_one(core, group, frame).await,
            CallBody::Vote(frame) => vote(core, group, &frame, false).await,
            CallBody::PreVote(frame) => vote(core, group, &frame, true).await,
            CallBody::Transfer(frame) => {
                let request = codec::transfer_from_pb(&frame).map_err(malformed)?;
                let response = group
                    .raft
                    .handle_transfer_leader(request)
                    .await
                    .map_err(stopped)?;
                Ok(ReplyBody::Transfer(codec::transfer_response_to_pb(response)))
            }
            CallBody::ReadIndex(_) => match group.reads.read_index(true).await {
                Ok(log_index) => Ok(ReplyBody::ReadIndex(pb::ReadIndexReply { log_index })),
                Err(ReadError::NotLeader { leader_node }) => Err(not_leader(leader_node)),
                Err(error @ (ReadError::QueueFull | ReadError::Unavailable(_))) => {
                    Err(PeerError::failed(Kind::Unavailable, error.to_string()))
                }
            },
            CallBody::Forward(frame) => match core.accept_forwarded(group, frame.command).await {
                Ok(reply) => Ok(ReplyBody::Forward(reply)),
                Err(error) => Err(not_proposed(error)),
            },
            CallBody::HandOver(ask) => match Box::pin(core.hand_to(group, ask.to_node)).await {
                Ok(term) => Ok(ReplyBody::HandOver(pb::HandOverReply { term })),
                Err(error) => Err(not_proposed(error)),
            },
            CallBody::Query(query) => {
                let read = Box::pin(core.read(Route::Group(group.id), &query)).await;
                read.map(ReplyBody::Query).map_err(refused)
            }
            CallBody::SnapshotOffset(ask) => receive::offset(group, &ask).map(ReplyBody::SnapshotOffset),
            CallBody::LogEnd(pb::LogEndRequest {}) => Ok(ReplyBody::LogEnd(pb::LogEnd {
                last_log_id: group.log.last_log_id().as_ref().map(log_id_to_pb),
            })),
            CallBody::Time(_) => unreachable!("answered above"),
        }
    }

    async fn append(&self, header: pb::PeerHeader, input: AppendInput) -> Result<AppendOutput, PeerError> {
        let (core, group) = self.group(&header)?;
        if core.disk.reserve_used() {
            // Said at once, so that the leader pauses instead of opening one stream after the other.
            return Err(no_room());
        }
        let disk = core.disk.clone();
        // A frame that cannot be read ends the stream; the leader starts another.
        let requests = input
            .map(codec::append_from_pb)
            .take_while(move |request| {
                let taken = request.as_ref().is_ok_and(|request| has_room(&disk, request));
                futures::future::ready(taken)
            })
            .filter_map(|request| futures::future::ready(request.ok()));
        let answers = group.raft.stream_append(requests);
        Ok(answers
            .map(|item| item.map(codec::append_result_to_pb).map_err(stopped))
            .boxed())
    }

    async fn snapshot(
        &self,
        header: pb::PeerHeader,
        chunks: SnapshotInput,
    ) -> Result<pb::PeerSnapshotReply, PeerError> {
        let (core, group) = self.group(&header)?;
        if core.disk.reserve_used() {
            return Err(no_room());
        }
        receive::snapshot(group, chunks).await
    }

    async fn open(&self, header: pb::PeerHeader, frames: FrameStream) -> Result<(), PeerError> {
        let (core, group) = self.group(&header)?;
        core.accept_stream(header.sender_node, group.id, header.stream_header, frames)
            .map_err(|error| {
                if error.code == ErrorCode::NotLeader {
                    not_leader(group.lead().leader_node)
                } else {
                    refused(error)
                }
            })
    }

    async fn probe(&self, request: pb::ProbeRequest) -> Result<pb::ProbeReply, PeerError> {
        let stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // While the cluster is being created, its future members' directories are empty by right.
        let created = match self.core.get().and_then(|core| core.groups.get(&META_GROUP)) {
            Some(meta) => meta.raft.is_initialized().await.unwrap_or(false),
            None => false,
        };
        let asker = stamp
            .iter()
            .flat_map(|stamp| &stamp.members)
            .find(|member| created && member.peer_address == request.asker_address);
        Ok(pb::ProbeReply {
            cluster_id: stamp.as_ref().map(|s| s.cluster_id.clone()).unwrap_or_default(),
            node_id: stamp.as_ref().map_or(0, |s| s.node_id),
            asker_node_id: asker.map_or(0, |member| member.node_id),
            client_address: self.client_address.clone(),
            name: self.name.clone(),
            cluster_size: self.cluster_size,
        })
    }

    async fn adopt(&self, request: pb::AdoptRequest) -> Result<pb::AdoptReply, PeerError> {
        let stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(stamp) = stamp {
            let cluster = request
                .cluster
                .as_ref()
                .map(|c| c.cluster_id.clone())
                .unwrap_or_default();
            return if stamp.cluster_id == cluster && stamp.node_id == request.node_id {
                Ok(pb::AdoptReply {})
            } else {
                Err(PeerError::failed(
                    Kind::Identity,
                    "this data directory belongs to another cluster or node",
                ))
            };
        }
        let (answer, done) = oneshot::channel();
        let gone = || PeerError::failed(Kind::Unavailable, "this node does not wait to be adopted");
        self.adoptions
            .try_send(Adoption { request, answer })
            .map_err(|_| gone())?;
        done.await
            .map_err(|_| gone())?
            .map_err(|reason| PeerError::failed(Kind::Refused, reason))?;
        Ok(pb::AdoptReply {})
    }
}

/// Whether this node can store what a leader sends. Heartbeats and announcements always fit.
fn has_room(disk: &DiskWatch, request: &AppendEntriesRequest<TypeConfig>) -> bool {
    request.entries.is_empty() || !disk.reserve_used()
}

fn no_room() -> PeerError {
    PeerError::failed(Kind::Unavailable, "no room on this node's disk")
}

async fn append_one(core: &Core, group: &Group, frame: pb::PeerAppend) -> Result<ReplyBody, PeerError> {
    let request = codec::append_from_pb(frame).map_err(malformed)?;
    if !has_room(&core.disk, &request) {
        return Err(no_room());
    }
    let prev = request.prev_log_id;
    let last = request.entries.last().map(|entry| entry.log_id).or(prev);
    let response = group.raft.append_entries(request).await.map_err(stopped)?;
    if response.is_conflict() && prev.is_none() {
        return Err(malformed(Malformed("conflict without previous log id")));
    }
    Ok(ReplyBody::Append(codec::append_result_to_pb(
        response.into_stream_result(prev, last),
    )))
}

async fn vote(
    core: &Core,
    group: &Group,
    frame: &pb::PeerVoteRequest,
    pre: bool,
) -> Result<ReplyBody, PeerError> {
    let request = codec::vote_request_from_pb(frame).map_err(malformed)?;
    let now = core.time.clock().monotonic();
    if let Some(reason) = group.gate.refusal(now, &request) {
        tracing::debug!(group_id = %group.id, pre_vote = pre, reason, "vote refused");
        return Err(PeerError::failed(Kind::Unavailable, reason));
    }
    let response = if pre {
        group.raft.pre_vote(request).await
    } else {
        group.raft.vote(request).await
    };
    Ok(ReplyBody::Vote(codec::vote_response_to_pb(
        &response.map_err(stopped)?,
    )))
}
