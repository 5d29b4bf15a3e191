//! openraft's network over the peer link.

mod session;
mod snapshot;

use crate::codec;
use crate::directory::Directory;
use crate::peer::{CallBody, LogLimit, PeerClient, PeerError, ReplyBody, call_body, frames};
use baton_protocol::GroupId;
use baton_protocol::proto::internal as pb;
use baton_raft_storage::{SnapshotFile, TypeConfig, Vote};
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

type Rpc<T> = Result<T, RPCError<TypeConfig>>;
type AppendAnswers<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

/// Shortest wait for the answer to an append on a stream: one slow fsync must not break the session.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_millis(1_000);
/// How often a peer that cannot be reached is mentioned in the log.
const DEAD_PEER_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Pauses between attempts to reach a peer: the first, and the longest.
const BACKOFF_MS: (u64, u64) = (50, 500);

/// The clients of every other node.
pub(crate) struct Links {
    pub(crate) directory: Arc<Directory>,
    clients: HashMap<u64, Arc<dyn PeerClient>>,
    dead_log: HashMap<u64, LogLimit>,
    /// Appends that a peer has not answered yet, all groups.
    unanswered: HashMap<u64, Arc<AtomicUsize>>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links")
            .field("peers", &self.clients.len())
            .finish_non_exhaustive()
    }
}

impl Links {
    pub(crate) fn new(directory: Arc<Directory>, clients: HashMap<u64, Arc<dyn PeerClient>>) -> Self {
        let dead_log = clients
            .keys()
            .map(|id| (*id, LogLimit::new(DEAD_PEER_LOG_INTERVAL)))
            .collect();
        let unanswered = clients.keys().map(|id| (*id, Arc::default())).collect();
        Self {
            directory,
            clients,
            dead_log,
            unanswered,
        }
    }

    fn unanswered(&self, node: u64) -> Arc<AtomicUsize> {
        self.unanswered.get(&node).cloned().unwrap_or_default()
    }

    pub(crate) fn client(&self, node: u64) -> Result<&Arc<dyn PeerClient>, PeerError> {
        self.clients.get(&node).ok_or_else(|| PeerError::Unreachable {
            address: format!("node {node}"),
            reason: "not a member of this cluster".into(),
        })
    }

    /// A frame to `node`, on behalf of `group` when one is given.
    pub(crate) async fn call(
        &self,
        node: u64,
        group: Option<GroupId>,
        body: CallBody,
        deadline: Duration,
    ) -> Result<ReplyBody, PeerError> {
        let header = self.directory.header(node, group);
        let result = self.client(node)?.call(&header, body, deadline).await;
        if let Err(error) = &result {
            self.note(node, error);
        }
        result
    }

    fn note(&self, node: u64, error: &PeerError) {
        let identity = error.kind() == Some(pb::peer_failure::Kind::Identity);
        if matches!(error, PeerError::Failed(_)) && !identity {
            return;
        }
        if let Some(suppressed) = self.dead_log.get(&node).and_then(LogLimit::pass) {
            tracing::warn!(peer = node, suppressed, %error, "peer does not answer");
        }
    }
}

/// Makes a [`GroupNetwork`] per replica.
#[derive(Debug, Clone)]
pub(crate) struct NetFactory {
    pub(crate) group: GroupId,
    pub(crate) links: Arc<Links>,
}

impl RaftNetworkFactory<TypeConfig> for NetFactory {
    type Network = GroupNetwork;

    async fn new_client(&mut self, target: u64, _node: &openraft::EmptyNode) -> GroupNetwork {
        self.network(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &openraft::EmptyNode) -> GroupNetwork {
        self.network(target, true)
    }
}

impl NetFactory {
    fn network(&self, target: u64, heartbeat: bool) -> GroupNetwork {
        GroupNetwork {
            group: self.group,
            node: self
                .links
                .directory
                .node_of(self.group, target)
                .unwrap_or_default(),
            target,
            heartbeat,
            links: self.links.clone(),
        }
    }
}

/// One replica of one group, as openraft calls it.
#[derive(Debug)]
pub(crate) struct GroupNetwork {
    group: GroupId,
    target: u64,
    node: u64,
    /// Appends are heartbeats: single items that go as frames of the shared stream.
    heartbeat: bool,
    links: Arc<Links>,
}

impl GroupNetwork {
    async fn call(&self, body: CallBody, option: &RPCOption) -> Rpc<ReplyBody> {
        self.links
            .call(self.node, Some(self.group), body, option.hard_ttl())
            .await
            .map_err(rpc_error)
    }

    fn timeout(&self, after: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(Timeout {
            action: RPCTypes::AppendEntries,
            id: self
                .links
                .directory
                .replica_on(self.group, self.links.directory.node_id)
                .unwrap_or_default(),
            target: self.target,
            timeout: after,
        })
    }

    async fn heartbeat<S>(&self, mut input: S, option: RPCOption) -> Rpc<AppendAnswers<'static>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    {
        let Some(request) = input.next().await else {
            return Ok(futures::stream::empty().boxed());
        };
        let reply = self
            .call(CallBody::Append(codec::append_to_pb(request)), &option)
            .await?;
        let reply = picked(reply, frames::append)?;
        let result = codec::append_result_from_pb(reply).map_err(network_error)?;
        Ok(futures::stream::iter([Ok(result)]).boxed())
    }

    async fn ask_vote(&self, body: CallBody, option: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        let reply = picked(self.call(body, &option).await?, frames::vote)?;
        codec::vote_response_from_pb(&reply).map_err(network_error)
    }
}

impl NetBackoff<TypeConfig> for GroupNetwork {
    fn backoff(&self) -> Option<Backoff> {
        let (first, longest) = BACKOFF_MS;
        let steps = std::iter::successors(Some(first), move |ms| Some((ms * 2).min(longest)));
        Some(Backoff::new(steps.map(Duration::from_millis)))
    }
}

impl NetStreamAppend<TypeConfig> for GroupNetwork {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<AppendAnswers<'s>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if self.heartbeat {
                self.heartbeat(input, option).await
            } else {
                session::open(self, input, option).await
            }
        })
    }
}

impl NetVote<TypeConfig> for GroupNetwork {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_vote(CallBody::Vote(codec::vote_request_to_pb(&rpc)), option)
            .await
    }

    // The trait's own version grants everything.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_vote(CallBody::PreVote(codec::vote_request_to_pb(&rpc)), option)
            .await
    }
}

impl NetTransferLeader<TypeConfig> for GroupNetwork {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let reply = self
            .call(CallBody::Transfer(codec::transfer_to_pb(&req)), &option)
            .await?;
        let reply = picked(reply, frames::transfer)?;
        codec::transfer_response_from_pb(&reply).map_err(network_error)
    }
}

impl NetSnapshot<TypeConfig> for GroupNetwork {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: baton_raft_storage::Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = Box::pin(snapshot::send(self, vote, snapshot.snapshot));
        tokio::select! {
            sent = tokio::time::timeout(option.hard_ttl(), send) => {
                sent.unwrap_or_else(|_| Err(self.timeout(option.hard_ttl()))).map_err(Into::into)
            }
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

fn picked<T>(reply: ReplyBody, pick: impl FnOnce(ReplyBody) -> Option<T>) -> Rpc<T> {
    call_body(reply, pick).map_err(rpc_error)
}

fn network_error(reason: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(reason))
}

fn rpc_error(error: PeerError) -> RPCError<TypeConfig> {
    use pb::peer_failure::Kind;
    // Nothing but `Unreachable` makes openraft pause; a peer that cannot take anything now must not be asked in a loop.
    let refuses = matches!(error.kind(), Some(Kind::Identity | Kind::Unavailable));
    if refuses || matches!(error, PeerError::Unreachable { .. }) {
        RPCError::Unreachable(Unreachable::from_string(error))
    } else {
        network_error(error)
    }
}
