//! What the gateway needs from the rest of a node, as small traits it owns. `baton server` writes the adapters.

use std::sync::Arc;

use async_trait::async_trait;
use baton_protocol::proto::internal::{AgentRef, Event, Query, QueryReply, Reply, command};
use baton_protocol::{
    FeedItem, GroupId, GroupMap, IntentId, Listen, Route, ServiceError, WorkBatch, WorkInput, WorkOpen,
};
use tokio::sync::{mpsc, watch};

/// Commits commands. Retries, forwarding and deduplication are the implementation's work.
#[async_trait]
pub trait Proposer: Send + Sync {
    /// Commits `body` in the group of `route` and returns what `apply` answered (a rejection is an `Ok` reply).
    ///
    /// # Errors
    /// `Unavailable`, `QueueFull`, `Timeout`: the outcome of a timeout is unknown.
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError>;
}

/// Reads tables.
#[async_trait]
pub trait Reader: Send + Sync {
    /// A linearizable read.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when no leader answers.
    async fn read(&self, route: Route, query: Query) -> Result<QueryReply, ServiceError>;

    /// Reads the replica of this node as it is; may lag behind.
    ///
    /// # Errors
    /// `StaleReplica` for meta when the replica has not been confirmed by its leader for too long;
    /// `Unavailable` when this node has no replica of the group.
    fn read_local(&self, route: Route, query: &Query) -> Result<QueryReply, ServiceError>;

    /// Brings this node's meta replica up to date with the meta leader (rate-limited; concurrent calls share one).
    ///
    /// # Errors
    /// `Unavailable` when no leader answers.
    async fn refresh_meta(&self) -> Result<(), ServiceError>;
}

/// Wakes streams when an intent gets new events on this node.
pub trait EventFeed: Send + Sync {
    /// The value changes after every append to this intent's event log. Subscribe first, then read.
    fn subscribe(&self, intent_id: IntentId) -> watch::Receiver<u64>;

    /// Sends the terminal event of this intent with `token` when it is applied on this node, once. The intent may
    /// not exist yet. For one that is terminal already nothing is sent: ask first, then read. A replica restored
    /// from a snapshot skips what the snapshot covers, so who waits for long reads now and then.
    fn notify_end(&self, intent_id: IntentId, token: u64, to: &EndSender);

    /// Takes back what `notify_end` asked for.
    fn forget_end(&self, intent_id: IntentId, token: u64);
}

/// Takes terminal events under the token they were asked for with. Bounded by what was asked for.
pub type EndSender = mpsc::UnboundedSender<(u64, Event)>;

/// Deliveries of an agent, decided by the leader of the agent's group.
#[async_trait]
pub trait AgentFeed: Send + Sync {
    /// Opens a subscription: first every open delivery above `since` in cursor order, then new ones as they
    /// commit. The channel closes when the leader changes or the subscription is revoked; subscribe again.
    /// Dropping the receiver ends it.
    ///
    /// # Errors
    /// `Unavailable` when the group has no leader within the call's deadline.
    async fn subscribe(&self, listen: Listen) -> Result<mpsc::Receiver<FeedItem>, ServiceError>;

    /// Tells the leader of the group of `holder` that `credential` has fetched this intent. Best effort, never waits.
    fn picked_up(&self, intent_id: IntentId, holder: &AgentRef, credential: &str);
}

/// Competing consumption of an agent's deliveries, decided by the leader of the agent's group.
#[async_trait]
pub trait WorkFeed: Send + Sync {
    /// Enters a worker, whose right to the agent's deliveries has been checked. It stays through changes of the
    /// leader; dropping it gives its items to the others.
    ///
    /// # Errors
    /// `ShuttingDown` when this node is about to stop.
    async fn open(&self, open: WorkOpen) -> Result<Arc<dyn WorkPort>, ServiceError>;
}

/// One worker. Both directions may be used at the same time.
#[async_trait]
pub trait WorkPort: Send + Sync {
    /// How long an item may go without a report, as granted.
    fn lease_ms(&self) -> u32;

    /// Hands over what the worker says. Waits while too many of its reports have no receipt that it took.
    ///
    /// # Errors
    /// `InvalidArgument` for more credits or reports than the limits allow, `ShuttingDown` at the end.
    async fn send(&self, input: WorkInput) -> Result<(), ServiceError>;

    /// Waits for items and receipts. An item that is returned counts as written to the worker. `None` at the end;
    /// an error is the last thing before it. Safe to cancel; for one caller at a time.
    async fn next(&self) -> Option<Result<WorkBatch, ServiceError>>;
}

/// What surrounds a node: time, randomness, other nodes. Injected so that whole nodes can be simulated.
pub trait Environment: Send + Sync {
    /// Wall clock as the cluster agrees on it, unix milliseconds.
    fn now_ms(&self) -> u64;
    /// Cryptographically secure random bytes.
    fn fill_random(&self, into: &mut [u8]);
    /// Nodes that serve clients now, this one included; limits of the cluster are divided by it.
    fn live_nodes(&self) -> usize;
}

/// One line of `/readyz?verbose`.
#[derive(Debug, Clone)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// Health of this node only, never of the cluster as a whole.
pub trait Health: Send + Sync {
    /// Threads make progress.
    fn live(&self) -> Vec<Check>;
    /// Caught up, knows leaders, not draining.
    fn ready(&self) -> Vec<Check>;
    /// Recovery is over.
    fn started(&self) -> Vec<Check>;
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// UUID text.
    pub cluster_id: String,
    /// The node that answers.
    pub node_id: u64,
    pub nodes: Vec<ClusterNode>,
    pub groups: Vec<ClusterGroup>,
}

/// One node.
#[derive(Debug, Clone, Default)]
pub struct ClusterNode {
    pub node_id: u64,
    pub client_address: String,
    pub peer_address: String,
    pub reachable: bool,
    /// How far its wall clock is ahead of cluster time.
    pub clock_offset_ms: i64,
}

/// One group.
#[derive(Debug, Clone)]
pub struct ClusterGroup {
    pub group: GroupId,
    /// `None` = unknown.
    pub leader_node: Option<u64>,
    pub term: u64,
    pub last_log_index: u64,
    pub applied_index: u64,
    /// Intents in the tables here.
    pub intents: u64,
    pub voter_nodes: Vec<u64>,
}

/// What operators see and steer.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Nodes and groups, from what this node knows.
    fn view(&self) -> ClusterView;

    /// Client address (`host:port`) of the node that leads `group`; `None` when it is this one or not known.
    fn leader_elsewhere(&self, group: GroupId) -> Option<String>;

    /// Has a group's leader, wherever it is, hand it to a node, and waits until that is the leader.
    ///
    /// # Errors
    /// `NotFound` for an unknown node or group, `Unavailable` without a leader, `Timeout` when it did not take over.
    async fn transfer_leader(&self, group: GroupId, to_node: u64) -> Result<(), ServiceError>;
}

/// Everything the gateway needs from its node.
#[derive(Clone)]
pub struct Ports {
    pub proposer: Arc<dyn Proposer>,
    pub reader: Arc<dyn Reader>,
    pub events: Arc<dyn EventFeed>,
    pub agents: Arc<dyn AgentFeed>,
    pub work: Arc<dyn WorkFeed>,
    pub environment: Arc<dyn Environment>,
    pub health: Arc<dyn Health>,
    pub cluster: Arc<dyn Cluster>,
    /// Slot to group, fixed when the cluster was created.
    pub group_map: GroupMap,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports")
            .field("group_map", &self.group_map)
            .finish_non_exhaustive()
    }
}
