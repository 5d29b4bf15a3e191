//! Both surfaces behind one port: gRPC by its content type, everything else is HTTP.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::CorsLayer;

use crate::grpc::is_grpc;

/// What a connection serves.
#[derive(Debug, Clone)]
pub(super) struct Surface {
    routes: Routes,
    cors: Option<CorsLayer>,
}

#[derive(Debug, Clone)]
struct Routes {
    http: Router,
    /// Absent while the node is starting.
    grpc: Option<GrpcWebService<Router>>,
}

impl Surface {
    pub(super) fn new(http: Router, grpc: Option<Router>, cors: Option<CorsLayer>) -> Self {
        let grpc = grpc.map(|router| GrpcWebLayer::new().layer(router));
        Self {
            routes: Routes { http, grpc },
            cors,
        }
    }

    pub(super) async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let routes = self.routes;
        match self.cors {
            // A preflight names neither key nor content type, so it is answered before the surfaces part.
            Some(cors) => {
                let service = service_fn(|request| routes.clone().answer(request));
                cors.layer(service).oneshot(request).await
            }
            None => routes.answer(request).await,
        }
    }
}

impl Routes {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        match self.grpc {
            Some(grpc) if is_grpc(request.headers()) => {
                Ok(Box::pin(grpc.oneshot(request)).await?.map(Body::new))
            }
            _ => self.http.oneshot(request).await,
        }
    }
}
