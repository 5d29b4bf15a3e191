//! For operators: what the cluster is doing, and moving leaders.

use crate::client::{Safety, unary};
use crate::types::{ClusterStatus, Group};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::admin_service_client::AdminServiceClient;

impl Client {
    /// The cluster as one node sees it.
    ///
    /// # Errors
    /// `policy_denied` without an operator key, and what any call gives.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        let request = v1::GetStatusRequest {};
        let answer = unary!(self, Safety::Repeatable, AdminServiceClient.get_status(request))?;
        Ok(ClusterStatus::from_wire(answer))
    }

    /// The groups as one node sees them.
    ///
    /// # Errors
    /// As [`cluster_status`](Self::cluster_status).
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        let request = v1::ListGroupsRequest {};
        let answer = unary!(self, Safety::Repeatable, AdminServiceClient.list_groups(request))?;
        Ok(answer.groups.into_iter().map(Group::from_wire).collect())
    }

    /// Moves the leadership of a group to a node; gives the new leader.
    ///
    /// # Errors
    /// As [`cluster_status`](Self::cluster_status); also when the node cannot lead the group.
    pub async fn transfer_leader(&self, group_id: u32, to_node_id: u64) -> Result<u64, Error> {
        let request = v1::TransferLeaderRequest { group_id, to_node_id };
        let answer = unary!(
            self,
            Safety::Repeatable,
            AdminServiceClient.transfer_leader(request)
        )?;
        Ok(answer.leader_node_id)
    }
}
