//! The cloneable handle that the rest of the node uses.

use crate::apply_hub::AppliedEntry;
use crate::core::{Core, Stop};
use crate::leadership::Leadership;
use crate::peer::FrameStream;
use crate::router::internal;
use crate::status::{Heartbeats, NodeStatus, node_status};
use crate::streams::StreamHandler;
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, GroupMap, IntentId, Route, ServiceError};
use baton_raft_storage::TablesHandle;
use baton_state_machine::{DeliveryRows, Settings};
use bytes::Bytes;
use std::sync::{Arc, PoisonError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// A running node, as seen by gateway, delivery and operators. Usable from any runtime.
#[derive(Debug, Clone)]
pub struct ConsensusHandle {
    core: Arc<Core>,
}

impl ConsensusHandle {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.core.directory.node_id
    }

    /// The cluster's id, 16 bytes.
    #[must_use]
    pub fn cluster_id(&self) -> Bytes {
        self.core.directory.cluster_id.clone()
    }

    /// Slots to groups.
    #[must_use]
    pub fn group_map(&self) -> GroupMap {
        self.core.directory.map
    }

    /// Durations of the cluster, fixed when it was created.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.core.directory.settings
    }

    /// Every node of the cluster, this one included, by node id.
    #[must_use]
    pub fn members(&self) -> Vec<pb::NodeRecord> {
        self.core.directory.members.values().cloned().collect()
    }

    /// One node of the cluster.
    #[must_use]
    pub fn member(&self, node_id: u64) -> Option<pb::NodeRecord> {
        self.core.directory.members.get(&node_id).cloned()
    }

    /// Groups with a replica on this node.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.core.groups.keys().copied().collect()
    }

    /// Proposes a command at the leader of `route` and waits until it is applied. Mints number and expiry;
    /// retries with the same id for up to [`crate::PROPOSE_TIMEOUT`]. A rejection by the state machine is an `Ok`
    /// reply.
    ///
    /// # Errors
    /// `Timeout` when the outcome is unknown, `Unavailable`, `QueueFull` … when nothing took effect.
    pub async fn propose(&self, route: Route, body: pb::command::Body) -> Result<pb::Reply, ServiceError> {
        Box::pin(self.core.propose(route, body)).await
    }

    /// A linearizable read: sees every write acknowledged before this call, on any node.
    ///
    /// # Errors
    /// `Unavailable` without a leader, `StaleReplica` when the local replica does not catch up in time.
    pub async fn read(&self, route: Route, query: pb::Query) -> Result<pb::QueryReply, ServiceError> {
        Box::pin(self.core.read(route, &query)).await
    }

    /// A read of the local tables as they are: possibly stale.
    ///
    /// # Errors
    /// When the group has no replica here or the tables cannot be read.
    pub fn read_local(&self, route: Route, query: &pb::Query) -> Result<pb::QueryReply, ServiceError> {
        self.core.read_local(route, query)
    }

    /// Waits until the local tables hold every write acknowledged before this call.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn confirm_read(&self, route: Route) -> Result<(), ServiceError> {
        let group = route.group(self.core.directory.map);
        Box::pin(self.core.catch_up(group, crate::READ_TIMEOUT)).await
    }

    /// Brings the local meta tables up to date; rate-limited, and shared by calls that wait together.
    ///
    /// # Errors
    /// When the meta leader cannot be asked.
    pub async fn refresh_meta(&self) -> Result<(), ServiceError> {
        Box::pin(self.core.refresh_meta()).await
    }

    /// Whether the local meta tables were confirmed within the last second.
    #[must_use]
    pub fn meta_fresh(&self) -> bool {
        self.core.meta_fresh()
    }

    /// Cluster time, unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.core.time.now_ms()
    }

    /// Nodes of the cluster that run, as far as this one has heard within the last second; itself included.
    #[must_use]
    pub fn live_nodes(&self) -> usize {
        self.core.live_nodes()
    }

    /// Leadership of `group` and its changes; `None` without a replica here.
    #[must_use]
    pub fn leadership(&self, group: GroupId) -> Option<watch::Receiver<Leadership>> {
        self.core.groups.get(&group).map(|g| g.leadership.clone())
    }

    /// The term in which this node leads `group` and may act for it now: its tables are up to date and a majority
    /// has confirmed it within the longest election timeout.
    #[must_use]
    pub fn led_term(&self, group: GroupId) -> Option<u64> {
        let lease = self.core.config.timing.election_max();
        self.core.groups.get(&group).and_then(|g| g.led_term(lease))
    }

    /// Entries of `group` applied here from now on. A receiver that lags must read the tables again.
    #[must_use]
    pub fn subscribe_applied(&self, group: GroupId) -> Option<broadcast::Receiver<Arc<AppliedEntry>>> {
        self.core.hub.subscribe(group)
    }

    /// Wakes with the sequence number of each new event of one intent. Starts at 0: read the tables after
    /// subscribing.
    #[must_use]
    pub fn watch_intent(&self, intent: IntentId) -> watch::Receiver<u64> {
        self.core.hub.watch_intent(intent)
    }

    /// Sends the terminal event of `intent` with `token` to `to` when it is applied here, once. `token` is unique in
    /// this process.
    pub fn notify_end(&self, intent: IntentId, token: u64, to: &mpsc::UnboundedSender<(u64, pb::Event)>) {
        self.core.hub.notify_end(intent, token, to);
    }

    /// Takes back what [`Self::notify_end`] asked for.
    pub fn forget_end(&self, intent: IntentId, token: u64) {
        self.core.hub.forget_end(intent, token);
    }

    /// Proposes at this node, which must lead `group`; neither forwarded nor retried.
    ///
    /// # Errors
    /// `NotLeader` when nothing was appended; `Timeout` when the outcome is unknown.
    pub async fn propose_as_leader(
        &self,
        group: GroupId,
        body: pb::command::Body,
    ) -> Result<pb::Reply, ServiceError> {
        Box::pin(self.core.propose_as_leader(group, body)).await
    }

    /// When the earliest timer of `group` is due, from the local tables.
    ///
    /// # Errors
    /// When the group has no replica here or the tables cannot be read.
    pub fn next_due_ms(&self, group: GroupId) -> Result<Option<u64>, ServiceError> {
        let tables = &self.core.group(group)?.tables;
        tables
            .read(baton_state_machine::next_due_ms)
            .map_err(|e| internal(&e))
    }

    /// The first messages that wait for each target, at most `limit` each, from the local tables.
    ///
    /// # Errors
    /// When the group has no replica here or the tables cannot be read.
    pub fn outbox_head(
        &self,
        group: GroupId,
        limit: usize,
    ) -> Result<Vec<(GroupId, Vec<pb::OutboxMessage>)>, ServiceError> {
        let tables = &self.core.group(group)?.tables;
        tables
            .read(|t| baton_state_machine::outbox_head(t, limit))
            .map_err(|e| internal(&e))
    }

    /// Cursor and intent of an agent's open deliveries above `since`, at most `limit`, from the local tables.
    ///
    /// # Errors
    /// When the group has no replica here or the tables cannot be read.
    pub fn open_deliveries(
        &self,
        group: GroupId,
        agent: &pb::AgentRef,
        since: u64,
        limit: usize,
    ) -> Result<Vec<(u64, IntentId)>, ServiceError> {
        let tables = &self.core.group(group)?.tables;
        tables
            .read(|t| baton_state_machine::open_deliveries(t, agent, since, limit))
            .map_err(|e| internal(&e))
    }

    /// The rows of these intents from the local tables, in their order; `None` for one that is gone.
    ///
    /// # Errors
    /// When the group has no replica here or the tables cannot be read.
    pub fn delivery_rows(
        &self,
        group: GroupId,
        ids: &[IntentId],
        payload_bytes_max: usize,
    ) -> Result<Vec<Option<DeliveryRows>>, ServiceError> {
        let tables = &self.core.group(group)?.tables;
        tables
            .read(|t| baton_state_machine::delivery_rows(t, ids, payload_bytes_max))
            .map_err(|e| internal(&e))
    }

    /// The local tables of `group`.
    #[must_use]
    pub fn group_tables(&self, group: GroupId) -> Option<TablesHandle> {
        self.core.groups.get(&group).map(|g| g.tables.clone())
    }

    /// Opens a stream of frames to the node that leads `group`; in-process when that is this node.
    ///
    /// # Errors
    /// When no leader accepts it within a few seconds.
    pub async fn open_stream(&self, group: GroupId, header: Bytes) -> Result<FrameStream, ServiceError> {
        Box::pin(self.core.open_stream(group, header)).await
    }

    /// Who accepts streams toward groups that this node leads.
    pub fn set_stream_handler(&self, handler: Arc<dyn StreamHandler>) {
        *self
            .core
            .stream_handler
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// What this node knows of its groups.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        node_status(&self.core)
    }

    /// Signs of life of this node's threads.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        self.core.heartbeats()
    }

    /// Has the leader of `group` hand it to `to_node`; returns when this node knows the new leader.
    ///
    /// # Errors
    /// `NotFound` for an unknown node, `Unavailable` without a leader, `Timeout` when the target did not take over.
    pub async fn transfer_leader(&self, group: GroupId, to_node: u64) -> Result<(), ServiceError> {
        Box::pin(self.core.transfer_leader(group, to_node)).await
    }

    /// Hands leadership of every led group over; from here on this node takes none back. It goes on answering, so that
    /// whoever asks it meanwhile is forwarded to the new leaders. The first half of [`Self::shutdown`].
    pub async fn hand_over(&self) {
        self.core.set_stopping();
        Box::pin(crate::duties::hand_over(&self.core)).await;
    }

    /// Hands leadership of every led group over, stops all groups, marks the tables clean. Returns when done.
    pub async fn shutdown(&self) {
        self.stop(Stop::Graceful).await;
    }

    /// Stops as if the process had been killed: no hand-over, no clean mark. For crash tests.
    #[doc(hidden)]
    pub async fn abort(&self) {
        self.stop(Stop::Abrupt).await;
    }

    async fn stop(&self, how: fn(oneshot::Sender<()>) -> Stop) {
        let (done, stopped) = oneshot::channel();
        if self.core.stop.send(how(done)).await.is_ok() {
            // An error means that the thread has ended, which is what was asked for.
            let _ = stopped.await;
        }
    }
}
