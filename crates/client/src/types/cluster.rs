//! What operators see of the cluster.

use super::number;
use baton_protocol::proto::v1;
use serde::Serialize;

/// The cluster as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    pub cluster_id: String,
    pub shard_groups: u32,
    /// The node that answered.
    pub node_id: u64,
    pub version: String,
    pub nodes: Vec<Node>,
    /// Groups whose leader the answering node does not know.
    pub groups_without_leader: u32,
}

impl ClusterStatus {
    pub(crate) fn from_wire(status: v1::GetStatusResponse) -> Self {
        Self {
            cluster_id: status.cluster_id,
            shard_groups: status.shard_groups,
            node_id: status.node_id,
            version: status.version,
            nodes: status.nodes.into_iter().map(Node::from_wire).collect(),
            groups_without_leader: status.groups_without_leader,
        }
    }
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Node {
    pub node_id: u64,
    pub client_address: String,
    pub peer_address: String,
    /// As seen by the answering node.
    pub reachable: bool,
    pub groups_led: u32,
    /// Distance of its wall clock from cluster time, milliseconds.
    pub clock_offset_ms: i64,
}

impl Node {
    fn from_wire(node: v1::Node) -> Self {
        Self {
            node_id: node.node_id,
            client_address: node.client_address,
            peer_address: node.peer_address,
            reachable: node.reachable,
            groups_led: node.groups_led,
            clock_offset_ms: node.clock_offset_ms,
        }
    }
}

/// A group as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Group {
    pub group_id: u32,
    /// Absent while none is known.
    pub leader_node_id: Option<u64>,
    pub term: u64,
    pub last_log_index: u64,
    pub applied_index: u64,
    pub intents: u64,
    pub voter_node_ids: Vec<u64>,
}

impl Group {
    pub(crate) fn from_wire(group: v1::Group) -> Self {
        Self {
            group_id: group.group_id,
            leader_node_id: number(group.leader_node_id),
            term: group.term,
            last_log_index: group.last_log_index,
            applied_index: group.applied_index,
            intents: group.intents,
            voter_node_ids: group.voter_node_ids,
        }
    }
}
