//! What the gateway asks of its node.

use async_trait::async_trait;
use baton_consensus::ConsensusHandle;
use baton_delivery::{AgentHub, WorkHub, Worker};
use baton_gateway::ports;
use baton_protocol::proto::internal::{AgentRef, Query, QueryReply, Reply, command};
use baton_protocol::{
    ErrorCode, FeedItem, IntentId, Listen, META_GROUP, Route, ServiceError, WorkBatch, WorkInput, WorkOpen,
};
use rand::TryRngCore as _;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Proposals, reads, event wake-ups and cluster time.
#[derive(Debug, Clone)]
pub struct ConsensusPorts {
    handle: ConsensusHandle,
}

impl ConsensusPorts {
    /// Ports over a running node.
    #[must_use]
    pub fn new(handle: ConsensusHandle) -> Self {
        Self { handle }
    }
}

#[async_trait]
impl ports::Proposer for ConsensusPorts {
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError> {
        self.handle.propose(route, body).await
    }
}

#[async_trait]
impl ports::Reader for ConsensusPorts {
    async fn read(&self, route: Route, query: Query) -> Result<QueryReply, ServiceError> {
        self.handle.read(route, query).await
    }

    fn read_local(&self, route: Route, query: &Query) -> Result<QueryReply, ServiceError> {
        // A replica that its leader has not confirmed may still know a key that was revoked.
        if route.group(self.handle.group_map()) == META_GROUP && !self.handle.meta_fresh() {
            return Err(ServiceError::new(
                ErrorCode::StaleReplica,
                "this node has lost touch with the cluster; retry, or use another node",
            ));
        }
        self.handle.read_local(route, query)
    }

    async fn refresh_meta(&self) -> Result<(), ServiceError> {
        self.handle.refresh_meta().await
    }
}

impl ports::EventFeed for ConsensusPorts {
    fn subscribe(&self, intent_id: IntentId) -> watch::Receiver<u64> {
        self.handle.watch_intent(intent_id)
    }

    fn notify_end(&self, intent_id: IntentId, token: u64, to: &ports::EndSender) {
        self.handle.notify_end(intent_id, token, to);
    }

    fn forget_end(&self, intent_id: IntentId, token: u64) {
        self.handle.forget_end(intent_id, token);
    }
}

impl ports::Environment for ConsensusPorts {
    fn now_ms(&self) -> u64 {
        self.handle.now_ms()
    }

    fn fill_random(&self, into: &mut [u8]) {
        rand::rngs::OsRng
            .try_fill_bytes(into)
            .expect("the operating system has given random bytes at start");
    }

    fn live_nodes(&self) -> usize {
        self.handle.live_nodes()
    }
}

/// Deliveries through this node's hub.
#[derive(Debug, Clone)]
pub struct HubFeed {
    hub: Arc<AgentHub>,
}

impl HubFeed {
    /// The feed of `hub`.
    #[must_use]
    pub fn new(hub: Arc<AgentHub>) -> Self {
        Self { hub }
    }
}

#[async_trait]
impl ports::AgentFeed for HubFeed {
    async fn subscribe(&self, listen: Listen) -> Result<mpsc::Receiver<FeedItem>, ServiceError> {
        self.hub.subscribe(listen).await
    }

    fn picked_up(&self, intent_id: IntentId, holder: &AgentRef, credential: &str) {
        self.hub.picked_up(intent_id, holder, credential);
    }
}

/// Work through this node's hub.
#[derive(Debug, Clone)]
pub struct HubWork {
    hub: Arc<WorkHub>,
}

impl HubWork {
    /// The feed of `hub`.
    #[must_use]
    pub fn new(hub: Arc<WorkHub>) -> Self {
        Self { hub }
    }
}

#[async_trait]
impl ports::WorkFeed for HubWork {
    async fn open(&self, open: WorkOpen) -> Result<Arc<dyn ports::WorkPort>, ServiceError> {
        Ok(Arc::new(HubWorker(self.hub.open(open).await?)))
    }
}

struct HubWorker(Worker);

#[async_trait]
impl ports::WorkPort for HubWorker {
    fn lease_ms(&self) -> u32 {
        self.0.lease_ms()
    }

    async fn send(&self, input: WorkInput) -> Result<(), ServiceError> {
        self.0.send(input).await
    }

    async fn next(&self) -> Option<Result<WorkBatch, ServiceError>> {
        self.0.next().await
    }
}
