//! Who calls: the key of the metadata, judged once per call.

use std::sync::Arc;

use baton_protocol::{ErrorCode, ServiceError};
use tokio::time::Instant;
use tonic::{Extensions, Request, Status};

use super::status::status;
use crate::auth::Credential;
use crate::service::Caller;

/// A call that was let in.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) caller: Arc<Caller>,
    pub(crate) credential: Credential,
    /// W3C `traceparent` of the call's metadata, empty when none.
    pub(crate) trace_parent: Arc<str>,
    /// When the client gives up.
    pub(crate) deadline: Option<Instant>,
}

impl Admitted {
    /// What the outermost layer found out about a call.
    ///
    /// # Errors
    /// `Internal` when that layer is missing.
    pub(super) fn of(extensions: &Extensions) -> Result<Self, Status> {
        extensions.get::<Self>().cloned().ok_or_else(|| {
            status(ServiceError::new(
                ErrorCode::Internal,
                "the call was not authenticated",
            ))
        })
    }

    /// Takes a call apart.
    pub(super) fn split<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let admitted = Self::of(request.extensions())?;
        Ok((admitted, request.into_inner()))
    }
}
