//! `AdminService`: for operator keys.

use std::sync::Arc;

use baton_protocol::GroupId;
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::status::status;
use crate::app::App;
use crate::ports::{ClusterNode, ClusterView};

pub(super) struct Admin(pub(super) Arc<App>);

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let (call, _) = Admitted::split(request)?;
        let service = &self.0.service;
        let view = service.cluster(&call.caller).map_err(status)?;
        let leaderless = view.groups.iter().filter(|g| g.leader_node.is_none()).count();
        Ok(Response::new(v1::GetStatusResponse {
            shard_groups: service.ports.group_map.shard_groups(),
            node_id: view.node_id,
            version: service.config.version.clone(),
            nodes: view.nodes.iter().map(|node| node_of(node, &view)).collect(),
            groups_without_leader: u32::try_from(leaderless).unwrap_or(u32::MAX),
            cluster_id: view.cluster_id,
        }))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let (call, _) = Admitted::split(request)?;
        let view = self.0.service.cluster(&call.caller).map_err(status)?;
        let groups = view.groups.into_iter().map(|group| v1::Group {
            group_id: group.group.0,
            leader_node_id: group.leader_node.unwrap_or(0),
            term: group.term,
            last_log_index: group.last_log_index,
            applied_index: group.applied_index,
            intents: group.intents,
            voter_node_ids: group.voter_nodes,
        });
        Ok(Response::new(v1::ListGroupsResponse {
            groups: groups.collect(),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let (group, to_node) = (GroupId(request.group_id), request.to_node_id);
        let moved = self.0.service.transfer_leader(&call.caller, group, to_node).await;
        moved.map_err(status)?;
        Ok(Response::new(v1::TransferLeaderResponse {
            leader_node_id: to_node,
        }))
    }
}

fn node_of(node: &ClusterNode, view: &ClusterView) -> v1::Node {
    let led = view.groups.iter().filter(|g| g.leader_node == Some(node.node_id));
    v1::Node {
        node_id: node.node_id,
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
        reachable: node.reachable,
        groups_led: u32::try_from(led.count()).unwrap_or(u32::MAX),
        clock_offset_ms: node.clock_offset_ms,
    }
}
