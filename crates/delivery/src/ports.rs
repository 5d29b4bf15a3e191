//! What delivery needs from the rest of a node, as small traits it owns. `baton server` writes the adapters.

use async_trait::async_trait;
use baton_protocol::proto::internal::{AgentRef, OutboxMessage, Query, QueryReply, Reply, command};
use baton_protocol::{GroupId, IntentId, Route, ServiceError, Slot};
use baton_state_machine::{Applied, DeliveryRows};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;

/// One group while this node leads it, in one term. An object outlives its term: then [`is_leader`] is false and
/// [`propose`] fails.
///
/// [`is_leader`]: LedGroup::is_leader
/// [`propose`]: LedGroup::propose
#[async_trait]
pub trait LedGroup: Send + Sync + 'static {
    /// The group.
    fn group_id(&self) -> GroupId;

    /// The term of this leadership.
    fn term(&self) -> u64;

    /// Whether intents with this slot live in this group; of others it holds no more than a delivery.
    fn owns(&self, slot: Slot) -> bool;

    /// Whether this node still leads in [`term`](LedGroup::term). Asked immediately before anything leaves.
    fn is_leader(&self) -> bool;

    /// Returns when the leadership is over.
    async fn leadership_ended(&self);

    /// Reads the local tables as they are now.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when the tables cannot be read.
    fn query(&self, query: &Query) -> Result<QueryReply, ServiceError>;

    /// Commits a command as leader of this term; never forwarded. Returns after the entry was applied locally.
    ///
    /// # Errors
    /// `NotLeader` when the leadership is over, otherwise `Unavailable`, `QueueFull` or `Timeout`.
    async fn propose(&self, body: command::Body) -> Result<Reply, ServiceError>;

    /// Cluster time, unix milliseconds.
    fn now_ms(&self) -> u64;

    /// When the earliest timer of the tables is due, unix milliseconds; `None` without timers.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when the tables cannot be read.
    fn next_due_ms(&self) -> Result<Option<u64>, ServiceError>;

    /// The first messages waiting for each target, at most `limit` per target, in sequence order.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when the tables cannot be read.
    fn outbox_head(&self, limit: usize) -> Result<Vec<(GroupId, Vec<OutboxMessage>)>, ServiceError>;

    /// Cursor and intent of an agent's open deliveries above `since`, at most `limit`, in cursor order, from the
    /// local tables.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when the tables cannot be read.
    fn open_deliveries(
        &self,
        agent: &AgentRef,
        since: u64,
        limit: usize,
    ) -> Result<Vec<(u64, IntentId)>, ServiceError>;

    /// The rows of these intents, in their order, from the local tables; `None` for one that is gone.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when the tables cannot be read.
    fn delivery_rows(
        &self,
        ids: &[IntentId],
        payload_bytes_max: usize,
    ) -> Result<Vec<Option<DeliveryRows>>, ServiceError>;

    /// What is applied from now on. An entry is announced only after the tables show it.
    fn applied(&self) -> Box<dyn AppliedFeed>;
}

/// A bounded queue of applied entries of one group.
#[async_trait]
pub trait AppliedFeed: Send {
    /// Waits for the next notice. Safe to cancel.
    async fn next(&mut self) -> AppliedNotice;
}

/// One step of an [`AppliedFeed`].
#[derive(Debug, Clone)]
pub enum AppliedNotice {
    /// An entry was applied.
    Entry(Arc<Applied>),
    /// Entries were missed; whoever follows reads the tables again.
    Lagged,
    /// No more will come.
    Closed,
}

/// A `tokio` broadcast channel is a feed as it is.
#[async_trait]
impl AppliedFeed for tokio::sync::broadcast::Receiver<Arc<Applied>> {
    async fn next(&mut self) -> AppliedNotice {
        use tokio::sync::broadcast::error::RecvError;
        match self.recv().await {
            Ok(entry) => AppliedNotice::Entry(entry),
            Err(RecvError::Lagged(_)) => AppliedNotice::Lagged,
            Err(RecvError::Closed) => AppliedNotice::Closed,
        }
    }
}

/// The way to other groups, wherever their leader is.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Commits `body` in the group of `route`; a rejection is an `Ok` reply.
    ///
    /// # Errors
    /// `Unavailable`, `QueueFull`, `Timeout`: the outcome of a timeout is unknown.
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError>;

    /// Opens a bidirectional, bounded frame stream to the node that leads `group`, in-process when that is this
    /// one. Either end closes it by dropping its halves.
    ///
    /// # Errors
    /// `Unavailable` when no leader is known or it cannot be reached.
    async fn open_stream(
        &self,
        group: GroupId,
        header: Bytes,
    ) -> Result<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>), ServiceError>;
}
