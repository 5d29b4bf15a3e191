//! `WorkspaceService`.

use std::sync::Arc;

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::workspace_service_server::WorkspaceService;
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::decode;
use super::status::status;
use crate::app::App;
use crate::service::workspaces::Retention;

const ID_CHARS_MAX: usize = 64;

pub(super) struct Workspaces(pub(super) Arc<App>);

#[tonic::async_trait]
impl WorkspaceService for Workspaces {
    async fn get_retention(
        &self,
        request: Request<v1::GetRetentionRequest>,
    ) -> Result<Response<v1::GetRetentionResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let id = decode::text(request.workspace_id, "workspace_id", ID_CHARS_MAX).map_err(status)?;
        let found = self.0.service.retention(&call.caller, id.as_deref()).await;
        Ok(Response::new(v1::GetRetentionResponse {
            retention: Some(convert(found.map_err(status)?)),
        }))
    }

    async fn set_retention(
        &self,
        request: Request<v1::SetRetentionRequest>,
    ) -> Result<Response<v1::SetRetentionResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let id = decode::text(request.workspace_id, "workspace_id", ID_CHARS_MAX).map_err(status)?;
        let (service, ms) = (&self.0.service, request.terminal_retention_ms);
        let set = service.set_retention(&call.caller, id.as_deref(), ms).await;
        Ok(Response::new(v1::SetRetentionResponse {
            retention: Some(convert(set.map_err(status)?)),
        }))
    }
}

fn convert(retention: Retention) -> v1::Retention {
    v1::Retention {
        workspace_id: retention.workspace_id,
        terminal_retention_ms: retention.terminal_retention_ms,
        inherited: retention.inherited,
        terminal_retention_min_ms: retention.min_ms,
        terminal_retention_max_ms: retention.max_ms,
    }
}
