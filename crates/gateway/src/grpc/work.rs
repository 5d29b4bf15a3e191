//! `AgentService.Work`: competing consumers.

use std::sync::Arc;

use baton_protocol::proto::v1::{WorkRequest, WorkResponse};
use baton_protocol::{ErrorCode, ServiceError};
use tonic::{Response, Status, Streaming};

use super::auth::Admitted;
use super::outbound::Messages;
use super::status::status;
use crate::app::App;

/// Serves one worker's stream.
///
/// # Errors
/// `NotImplemented`: this version hands out work by `Subscribe` only.
pub(super) async fn serve(
    _app: &Arc<App>,
    _admitted: Admitted,
    _requests: Streaming<WorkRequest>,
) -> Result<Response<Messages<WorkResponse>>, Status> {
    Err(status(ServiceError::new(
        ErrorCode::NotImplemented,
        "Work is not supported by this version; use Subscribe",
    )))
}
