//! `grpc.health.v1`: what `/readyz` says, for the server and for each of its services.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::app::App;

/// Names that may be asked for; the empty one is the server.
const SERVICES: [&str; 6] = [
    "",
    "baton.v1.AdminService",
    "baton.v1.AgentService",
    "baton.v1.InboxService",
    "baton.v1.IntentService",
    "baton.v1.ScenarioService",
];
/// How often a watched status is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Probe(pub(super) Arc<App>);

impl Probe {
    fn now(&self) -> ServingStatus {
        let ready = self.0.service.ports.health.ready().iter().all(|check| check.ok);
        if ready && !self.0.shutdown.is_cancelled() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Probe {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if SERVICES.contains(&service.as_str()) {
            Ok(Response::new(response(self.now())))
        } else {
            Err(Status::not_found("no such service on this server"))
        }
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let permit = self.0.stream_permit().map_err(super::status::status)?;
        let known = SERVICES.contains(&request.into_inner().service.as_str());
        let (messages, receiver) = mpsc::channel(1);
        let probe = Self(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _permit = permit;
            let mut told = None;
            loop {
                let now = if known {
                    probe.now()
                } else {
                    ServingStatus::ServiceUnknown
                };
                if told != Some(now) && messages.send(Ok(response(now))).await.is_err() {
                    return;
                }
                told = Some(now);
                tokio::select! {
                    () = messages.closed() => return,
                    () = tokio::time::sleep(WATCH_EVERY) => {}
                }
                if probe.0.shutdown.is_cancelled() {
                    // Said last, so that a balancer turns away.
                    let _ = messages.send(Ok(response(ServingStatus::NotServing))).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
