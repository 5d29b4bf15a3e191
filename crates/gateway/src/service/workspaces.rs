//! Settings of workspaces.

use baton_protocol::limits::{TERMINAL_RETENTION_MARGIN_MS, TERMINAL_RETENTION_MS_MAX};
use baton_protocol::proto::internal::{
    GetTenant, SetRetention, TenantView, Workspace, command, query, query_reply, reply,
};
use baton_protocol::{Route, ServiceError};

use super::{Caller, Failure, Service, unexpected};

/// How long a workspace keeps what is over, in milliseconds of cluster time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    pub workspace_id: String,
    pub terminal_retention_ms: u64,
    /// It has none of its own: the cluster's counts.
    pub inherited: bool,
    pub min_ms: u64,
    pub max_ms: u64,
}

impl Service {
    /// How long a workspace, the caller's own unless named, keeps ended intents.
    ///
    /// # Errors
    /// `NotFound` for another workspace without an operator key.
    pub(crate) async fn retention(
        &self,
        caller: &Caller,
        workspace_id: Option<&str>,
    ) -> Result<Retention, ServiceError> {
        let query = query::Body::GetTenant(GetTenant {
            workspace_id: workspace_id.unwrap_or(&caller.scope.workspace_id).to_owned(),
            ..GetTenant::default()
        });
        let found = self
            .read(Route::Meta, Some(caller.actor(None, None)), query)
            .await?;
        let query_reply::Outcome::Tenant(TenantView {
            workspace: Some(workspace),
            ..
        }) = found
        else {
            return Err(unexpected("something else than a workspace"));
        };
        Ok(self.retention_of(workspace))
    }

    /// Sets how long a workspace keeps ended intents; 0 = as long as the cluster does.
    ///
    /// # Errors
    /// `PolicyDenied` without an operator key; `InvalidArgument` for a time out of bounds; `NotFound`.
    pub(crate) async fn set_retention(
        &self,
        caller: &Caller,
        workspace_id: Option<&str>,
        terminal_retention_ms: u64,
    ) -> Result<Retention, Failure> {
        let body = command::Body::SetRetention(SetRetention {
            actor: Some(caller.audited_actor(None, None)),
            workspace_id: workspace_id.unwrap_or(&caller.scope.workspace_id).to_owned(),
            terminal_retention_ms,
        });
        let reply = self.ports.proposer.propose(Route::Meta, body).await?;
        match reply.outcome {
            Some(reply::Outcome::Workspace(workspace)) => Ok(self.retention_of(workspace)),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a workspace").into()),
        }
    }

    fn retention_of(&self, workspace: Workspace) -> Retention {
        let inherited = workspace.terminal_retention_ms == 0;
        Retention {
            workspace_id: workspace.workspace_id,
            terminal_retention_ms: if inherited {
                self.config.terminal_retention_ms
            } else {
                workspace.terminal_retention_ms
            },
            inherited,
            min_ms: self.config.idempotency_retention_ms + TERMINAL_RETENTION_MARGIN_MS,
            max_ms: TERMINAL_RETENTION_MS_MAX,
        }
    }
}
