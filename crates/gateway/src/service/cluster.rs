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

    /// Moves the leadership of a group to a node.
    ///
    /// # Errors
    /// `PolicyDenied`; `NotFound`; `Unavailable` without a leader; `Timeout`.
    #[tracing::instrument(name = "cluster.transfer_leader", skip_all, fields(group = group.0, to_node))]
    pub(crate) async fn transfer_leader(
        &self,
        caller: &Caller,
        group: GroupId,
        to_node: u64,
    ) -> Result<(), ServiceError> {
        require_operator(caller)?;
        self.ports.cluster.transfer_leader(group, to_node).await
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
