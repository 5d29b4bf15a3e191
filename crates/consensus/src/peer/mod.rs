//! The link between nodes, independent of what carries it.
//!
//! A [`Transport`] connects to peers and serves a [`PeerService`]. Two exist: HTTP/2 ([`TonicTransport`]) and
//! in-process channels over a controllable network ([`SimNetwork`]).

pub(crate) mod frames;
mod link;
mod log_limit;
mod sim;
mod tls;
mod tonic_client;
mod tonic_server;

pub(crate) use frames::{call_body, group_ref};
pub(crate) use log_limit::LogLimit;
pub use sim::SimNetwork;
pub use tls::PeerTls;
pub use tonic_client::TonicTransport;

use async_trait::async_trait;
use baton_protocol::proto::internal as pb;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Frames waiting on one application stream, per direction.
pub const STREAM_FRAMES_MAX: usize = 256;
/// Largest message on the peer link, in bytes: an append of several full entries.
pub const PEER_MESSAGE_BYTES_MAX: usize = 96 * 1024 * 1024;

/// `host:port` of a node's peer listener.
pub type NodeAddress = String;

/// Why a call to a peer did not give its answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// Not delivered: nothing happened at the peer.
    #[error("peer {address} is unreachable: {reason}")]
    Unreachable { address: String, reason: String },
    /// The connection ended or the deadline passed: the call may or may not have taken effect.
    #[error("peer call ended without an answer: {0}")]
    Lost(String),
    /// The peer answered that it will not.
    #[error("{}", .0.message)]
    Failed(Box<pb::PeerFailure>),
}

impl PeerError {
    /// A failure of `kind` for the wire.
    #[must_use]
    pub fn failed(kind: pb::peer_failure::Kind, message: impl Into<String>) -> Self {
        Self::Failed(Box::new(pb::PeerFailure {
            kind: kind.into(),
            message: message.into(),
            ..Default::default()
        }))
    }

    /// The same as a message; a lost call is of unknown outcome.
    #[must_use]
    pub fn into_failure(self) -> pb::PeerFailure {
        use pb::peer_failure::Kind;
        let (kind, message) = match self {
            Self::Failed(failure) => return *failure,
            Self::Unreachable { .. } => (Kind::Unavailable, self.to_string()),
            Self::Lost(reason) => (Kind::UnknownOutcome, reason),
        };
        pb::PeerFailure {
            kind: kind.into(),
            message,
            ..Default::default()
        }
    }

    /// The failure's kind, if the peer answered at all.
    #[must_use]
    pub fn kind(&self) -> Option<pb::peer_failure::Kind> {
        match self {
            Self::Failed(failure) => Some(failure.kind()),
            Self::Unreachable { .. } | Self::Lost(_) => None,
        }
    }
}

/// What is called at a peer on the shared stream.
pub type CallBody = pb::call_frame::Body;
/// What it answers.
pub type ReplyBody = pb::reply_frame::Body;
/// Requests of one replication stream.
pub type AppendInput = BoxStream<'static, pb::PeerAppend>;
/// Its answers, in order; an error ends it.
pub type AppendOutput = BoxStream<'static, Result<pb::PeerAppendReply, PeerError>>;
/// Parts of one snapshot.
pub type SnapshotInput = BoxStream<'static, Result<pb::PeerSnapshotChunk, PeerError>>;
/// Both ends of an application stream.
pub type FrameStream = (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>);

/// One peer as seen by this node. Connects when first used and again after every loss.
#[async_trait]
pub trait PeerClient: Send + Sync + 'static {
    /// A frame on the one shared stream. `header` opens that stream if it is not open; every call to a peer
    /// carries the same one, apart from its group.
    async fn call(
        &self,
        header: &pb::PeerHeader,
        body: CallBody,
        deadline: Duration,
    ) -> Result<ReplyBody, PeerError>;

    /// The replication stream of one group.
    async fn append_stream(
        &self,
        header: pb::PeerHeader,
        input: AppendInput,
    ) -> Result<AppendOutput, PeerError>;

    /// Sends one snapshot.
    async fn snapshot(
        &self,
        header: pb::PeerHeader,
        chunks: BoxStream<'static, pb::PeerSnapshotChunk>,
    ) -> Result<pb::PeerSnapshotReply, PeerError>;

    /// Opens an application stream.
    async fn open_stream(&self, header: pb::PeerHeader) -> Result<FrameStream, PeerError>;

    /// Asks who is there.
    async fn probe(&self, request: pb::ProbeRequest) -> Result<pb::ProbeReply, PeerError>;

    /// Makes an empty node a member.
    async fn adopt(&self, request: pb::AdoptRequest) -> Result<pb::AdoptReply, PeerError>;
}

/// What a node answers to its peers. Transport implementations call it; identity checks happen inside.
#[async_trait]
pub trait PeerService: Send + Sync + 'static {
    /// Checks the header of the shared stream before any of its frames is read.
    fn accept(&self, header: &pb::PeerHeader) -> Result<(), PeerError>;
    /// See [`PeerClient::call`].
    async fn call(&self, header: &pb::PeerHeader, body: CallBody) -> Result<ReplyBody, PeerError>;
    /// See [`PeerClient::append_stream`].
    async fn append(&self, header: pb::PeerHeader, input: AppendInput) -> Result<AppendOutput, PeerError>;
    /// See [`PeerClient::snapshot`].
    async fn snapshot(
        &self,
        header: pb::PeerHeader,
        chunks: SnapshotInput,
    ) -> Result<pb::PeerSnapshotReply, PeerError>;
    /// See [`PeerClient::open_stream`].
    async fn open(&self, header: pb::PeerHeader, frames: FrameStream) -> Result<(), PeerError>;
    /// See [`PeerClient::probe`].
    async fn probe(&self, request: pb::ProbeRequest) -> Result<pb::ProbeReply, PeerError>;
    /// See [`PeerClient::adopt`].
    async fn adopt(&self, request: pb::AdoptRequest) -> Result<pb::AdoptReply, PeerError>;
}

/// Carries calls between nodes.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// A client of the node at `target`. Returns at once; must be called inside the consensus runtime.
    fn connect(&self, target: &NodeAddress) -> Arc<dyn PeerClient>;

    /// Listens at `own` and answers with `service` until the returned guard is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound, or must not be (not loopback and no TLS).
    async fn serve(
        &self,
        own: &NodeAddress,
        service: Arc<dyn PeerService>,
    ) -> std::io::Result<Box<dyn std::any::Any + Send>>;
}
