//! What delivery asks of its node.

use async_trait::async_trait;
use baton_consensus::{AppliedEntry, ConsensusHandle, FrameStream, Leadership, StreamHandler};
use baton_delivery::{AppliedFeed, AppliedNotice, DeliveryRows, Dispatcher, LedGroup, Network};
use baton_protocol::proto::internal::{AgentRef, OutboxMessage, Query, QueryReply, Reply, command};
use baton_protocol::{ErrorCode, GroupId, IntentId, Route, ServiceError, Slot};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

/// One group in one term of this node's leadership.
#[derive(Debug)]
pub struct Led {
    handle: ConsensusHandle,
    group: GroupId,
    term: u64,
    leadership: watch::Receiver<Leadership>,
}

impl Led {
    /// The leadership that `leadership` shows now.
    #[must_use]
    pub fn new(handle: ConsensusHandle, leadership: watch::Receiver<Leadership>) -> Self {
        let now = *leadership.borrow();
        Self {
            handle,
            group: now.group,
            term: now.term,
            leadership,
        }
    }

    fn route(&self) -> Route {
        Route::Group(self.group)
    }
}

#[async_trait]
impl LedGroup for Led {
    fn group_id(&self) -> GroupId {
        self.group
    }

    fn term(&self) -> u64 {
        self.term
    }

    fn owns(&self, slot: Slot) -> bool {
        self.handle.group_map().group_of(slot) == self.group
    }

    fn is_leader(&self) -> bool {
        self.handle.led_term(self.group) == Some(self.term)
    }

    async fn leadership_ended(&self) {
        let mut leadership = self.leadership.clone();
        // An error means that the group has stopped, which ends every leadership.
        _ = leadership
            .wait_for(|now| !now.am_leader || now.term != self.term)
            .await;
    }

    fn query(&self, query: &Query) -> Result<QueryReply, ServiceError> {
        self.handle.read_local(self.route(), query)
    }

    async fn propose(&self, body: command::Body) -> Result<Reply, ServiceError> {
        let now = *self.leadership.borrow();
        if !now.am_leader || now.term != self.term {
            return Err(ServiceError::new(
                ErrorCode::NotLeader,
                format!(
                    "the leadership of group {} in term {} is over",
                    self.group, self.term
                ),
            ));
        }
        self.handle.propose_as_leader(self.group, body).await
    }

    fn now_ms(&self) -> u64 {
        self.handle.now_ms()
    }

    fn next_due_ms(&self) -> Result<Option<u64>, ServiceError> {
        self.handle.next_due_ms(self.group)
    }

    fn outbox_head(&self, limit: usize) -> Result<Vec<(GroupId, Vec<OutboxMessage>)>, ServiceError> {
        self.handle.outbox_head(self.group, limit)
    }

    fn open_deliveries(
        &self,
        agent: &AgentRef,
        since: u64,
        limit: usize,
    ) -> Result<Vec<(u64, IntentId)>, ServiceError> {
        self.handle.open_deliveries(self.group, agent, since, limit)
    }

    fn delivery_rows(
        &self,
        ids: &[IntentId],
        payload_bytes_max: usize,
    ) -> Result<Vec<Option<DeliveryRows>>, ServiceError> {
        self.handle.delivery_rows(self.group, ids, payload_bytes_max)
    }

    fn applied(&self) -> Box<dyn AppliedFeed> {
        Box::new(Applied(self.handle.subscribe_applied(self.group)))
    }
}

/// Entries of one group; `None` when it has no replica here.
pub(super) struct Applied(pub(super) Option<broadcast::Receiver<Arc<AppliedEntry>>>);

#[async_trait]
impl AppliedFeed for Applied {
    async fn next(&mut self) -> AppliedNotice {
        let Some(entries) = &mut self.0 else {
            return AppliedNotice::Closed;
        };
        match entries.recv().await {
            Ok(entry) => AppliedNotice::Entry(Arc::clone(&entry.applied)),
            Err(RecvError::Lagged(_)) => AppliedNotice::Lagged,
            Err(RecvError::Closed) => AppliedNotice::Closed,
        }
    }
}

/// The way to other groups.
#[derive(Debug, Clone)]
pub struct ConsensusNetwork {
    handle: ConsensusHandle,
}

impl ConsensusNetwork {
    /// The network of a running node.
    #[must_use]
    pub fn new(handle: ConsensusHandle) -> Self {
        Self { handle }
    }
}

#[async_trait]
impl Network for ConsensusNetwork {
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError> {
        self.handle.propose(route, body).await
    }

    async fn open_stream(
        &self,
        group: GroupId,
        header: Bytes,
    ) -> Result<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>), ServiceError> {
        self.handle.open_stream(group, header).await
    }
}

/// Streams of listening nodes go to the dispatcher of the groups led here.
#[derive(Debug)]
pub struct DispatchStreams(pub Arc<Dispatcher>);

impl StreamHandler for DispatchStreams {
    fn accept(
        &self,
        _peer_node: u64,
        group: GroupId,
        header: Bytes,
        (sender, receiver): FrameStream,
    ) -> Result<(), ServiceError> {
        self.0.accept(group, header, receiver, sender)
    }
}
