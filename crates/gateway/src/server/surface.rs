//! Both surfaces behind one port: gRPC by its content type, everything else is HTTP.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, ServiceExt as _};

use crate::grpc::is_grpc;

/// What a connection serves.
#[derive(Debug, Clone)]
pub(super) struct Surface {
    http: Router,
    /// Absent while the node is starting.
    grpc: Option<GrpcWebService<Router>>,
}

impl Surface {
    pub(super) fn new(http: Router, grpc: Option<Router>) -> Self {
        Self {
            http,
            grpc: grpc.map(|router| GrpcWebLayer::new().layer(router)),
        }
    }

    pub(super) async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        match self.grpc {
            Some(grpc) if is_grpc(request.headers()) => {
                Ok(Box::pin(grpc.oneshot(request)).await?.map(Body::new))
            }
            _ => self.http.oneshot(request).await,
        }
    }
}
