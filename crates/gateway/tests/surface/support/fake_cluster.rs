//! A cluster of one node, as operators see it.

use async_trait::async_trait;
use baton_gateway::ports::{Cluster, ClusterGroup, ClusterNode, ClusterView};
use baton_protocol::{ErrorCode, GroupId, GroupMap, ServiceError};

use super::fake::{FakeNode, SHARD_GROUPS};

#[async_trait]
impl Cluster for FakeNode {
    fn view(&self) -> ClusterView {
        let group = |group| ClusterGroup {
            group,
            leader_node: Some(1),
            term: 1,
            last_log_index: 0,
            applied_index: 0,
            intents: 0,
            voter_nodes: vec![1],
        };
        ClusterView {
            cluster_id: "fake".into(),
            node_id: 1,
            nodes: vec![ClusterNode {
                node_id: 1,
                client_address: "here:1".into(),
                reachable: true,
                ..ClusterNode::default()
            }],
            groups: GroupMap::new(SHARD_GROUPS).unwrap().all().map(group).collect(),
        }
    }

    fn leader_elsewhere(&self, _: GroupId) -> Option<String> {
        self.leader()
    }

    async fn transfer_leader(&self, _: GroupId, to_node: u64) -> Result<(), ServiceError> {
        match to_node {
            1 => Ok(()),
            2 => Err(ServiceError::new(
                ErrorCode::Timeout,
                "node 2 did not take over group 1",
            )),
            _ => Err(ServiceError::new(ErrorCode::NotFound, "no such node")),
        }
    }
}
