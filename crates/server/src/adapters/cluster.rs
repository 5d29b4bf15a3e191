//! What operators see and steer through the client port.

use async_trait::async_trait;
use baton_consensus::{ConsensusHandle, GroupStatus, PeerStatus};
use baton_gateway::ports::{Cluster, ClusterGroup, ClusterNode, ClusterView};
use baton_protocol::proto::internal::{GetStats, Query, query, query_reply};
use baton_protocol::{GroupId, Route, ServiceError};
use std::net::SocketAddr;

/// The cluster through this node's consensus.
#[derive(Debug, Clone)]
pub struct ConsensusCluster {
    handle: ConsensusHandle,
}

impl ConsensusCluster {
    /// The cluster of a running node.
    #[must_use]
    pub fn new(handle: ConsensusHandle) -> Self {
        Self { handle }
    }

    fn node(&self, status: &PeerStatus) -> ClusterNode {
        let members = self.handle.members();
        let record = members
            .into_iter()
            .find(|record| record.node_id == status.node_id);
        let record = record.unwrap_or_default();
        ClusterNode {
            node_id: status.node_id,
            client_address: record.client_address,
            peer_address: record.peer_address,
            reachable: status.reachable,
            clock_offset_ms: status.clock_offset_ms,
        }
    }

    fn group(&self, status: GroupStatus) -> ClusterGroup {
        ClusterGroup {
            intents: self.intents(status.group),
            group: status.group,
            leader_node: status.leader_node,
            term: status.term,
            last_log_index: status.last_log,
            applied_index: status.applied,
            voter_nodes: status.voters,
        }
    }

    /// 0 when the tables cannot be read; the group's own state tells why.
    fn intents(&self, group: GroupId) -> u64 {
        let query = Query {
            actor: None,
            body: Some(query::Body::GetStats(GetStats {})),
        };
        let reply = self.handle.read_local(Route::Group(group), &query);
        match reply.ok().and_then(|reply| reply.outcome) {
            Some(query_reply::Outcome::Stats(stats)) => stats.intents,
            _ => 0,
        }
    }
}

#[async_trait]
impl Cluster for ConsensusCluster {
    fn view(&self) -> ClusterView {
        let status = self.handle.status();
        let id = self.handle.cluster_id();
        ClusterView {
            cluster_id: uuid::Uuid::from_slice(&id).map_or_else(|_| String::new(), |id| id.to_string()),
            node_id: status.node_id,
            nodes: status.nodes.iter().map(|node| self.node(node)).collect(),
            groups: status.groups.into_iter().map(|group| self.group(group)).collect(),
        }
    }

    fn leader_elsewhere(&self, group: GroupId) -> Option<String> {
        let leader = self.handle.leadership(group)?.borrow().leader_node?;
        if leader == self.handle.node_id() {
            return None;
        }
        let address = self.handle.member(leader)?.client_address;
        // A node that listens on all interfaces and advertises none has an address that means nothing elsewhere.
        let nowhere = address
            .parse::<SocketAddr>()
            .is_ok_and(|at| at.ip().is_unspecified() || at.port() == 0);
        (!nowhere && !address.is_empty()).then_some(address)
    }

    async fn transfer_leader(&self, group: GroupId, to_node: u64) -> Result<(), ServiceError> {
        self.handle.transfer_leader(group, to_node).await
    }
}
