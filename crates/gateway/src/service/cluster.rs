//! What operators see and steer.

use baton_protocol::{ErrorCode, GroupId, ServiceError};

use super::{Caller, Service};
use crate::ports::ClusterView;

impl Service {
    /// The cluster as this node sees it.
    ///
    /// # Errors
    /// `PolicyDenied` for any but an operator key.
    pub(crate) fn cluster(&self, caller: &Caller) -> Result<ClusterView, ServiceError> {
        require_operator(caller)?;
        Ok(self.ports.cluster.view())
    }

    /// Moves the leadership of a group that this node leads.
    ///
    /// # Errors
    /// `PolicyDenied`; `NotLeader`, naming the node that leads; `NotFound`; `Timeout`.
    #[tracing::instrument(name = "cluster.transfer_leader", skip_all, fields(group = group.0, to_node))]
    pub(crate) async fn transfer_leader(
        &self,
        caller: &Caller,
        group: GroupId,
        to_node: u64,
    ) -> Result<(), ServiceError> {
        require_operator(caller)?;
        let moved = self.ports.cluster.transfer_leader(group, to_node).await;
        match moved {
            Err(error) if error.code == ErrorCode::NotLeader => Err(self.ask_the_leader(group)),
            other => other,
        }
    }

    fn ask_the_leader(&self, group: GroupId) -> ServiceError {
        let view = self.ports.cluster.view();
        let leader = view
            .groups
            .iter()
            .find(|g| g.group == group)
            .and_then(|g| g.leader_node);
        let named = leader.and_then(|id| view.nodes.iter().find(|node| node.node_id == id));
        let message = match named {
            Some(node) => format!(
                "group {group} is led by node {}; ask that one, at {}",
                node.node_id, node.client_address
            ),
            None => format!("the leader of group {group} is not known here; retry"),
        };
        ServiceError::new(ErrorCode::NotLeader, message)
    }
}

fn require_operator(caller: &Caller) -> Result<(), ServiceError> {
    if caller.is_operator() {
        Ok(())
    } else {
        Err(ServiceError::new(
            ErrorCode::PolicyDenied,
            "this needs an operator key",
        ))
    }
}
