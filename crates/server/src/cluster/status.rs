//! What a node says about its groups on `GET /status` of the operator port.

use serde::{Deserialize, Serialize};

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub node_id: u64,
    pub cluster_id: String,
    pub version: String,
    pub shard_groups: u32,
    pub groups: Vec<GroupStatus>,
}

/// One group as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    pub group: u32,
    pub term: u64,
    /// Node id of the leader; absent while none is known.
    pub leader: Option<u64>,
    pub commit: u64,
    pub applied: u64,
    /// Node ids of the voters.
    pub voters: Vec<u64>,
}
