//! AXP over HTTP: decode, authorise, call the service, encode.

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::config::GatewayConfig;
use crate::ports::Ports;

/// The whole surface as one router.
pub(crate) fn router(_config: Arc<GatewayConfig>, _ports: Ports, _shutdown: CancellationToken) -> Router {
    Router::new()
}
