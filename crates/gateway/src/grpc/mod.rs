//! The native gRPC API (`baton.v1`): decode, call the service, encode. JSON passes here only as bytes: scenario
//! bundles, schemas, answers to forms.

mod admin;
mod admit;
mod agents;
mod audit;
mod auth;
mod body;
mod callbacks;
mod convert;
mod decode;
mod deliveries;
mod health;
mod human_task;
mod inbox;
mod intents;
mod leader;
mod method;
mod outbound;
mod scenarios;
mod schemas;
mod status;
mod tasks;
mod work;
mod workspaces;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use baton_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use baton_protocol::proto::v1;
use baton_protocol::{ErrorCode, ServiceError};
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::service::Routes;

use crate::app::App;

/// Whether a request is gRPC or gRPC-Web.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A generated server with the API's message limits and compressions.
macro_rules! bounded {
    ($server:expr) => {
        $server
            .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            .accept_compressed(Gzip)
            .accept_compressed(Zstd)
            .send_compressed(Gzip)
            .send_compressed(Zstd)
    };
}

/// Every service of the API as one router.
///
/// # Errors
/// When the descriptors that reflection serves cannot be read.
pub(crate) fn router(app: &Arc<App>) -> std::io::Result<Router> {
    use v1::admin_service_server::AdminServiceServer;
    use v1::agent_service_server::AgentServiceServer;
    use v1::audit_service_server::AuditServiceServer;
    use v1::delivery_service_server::DeliveryServiceServer;
    use v1::inbox_service_server::InboxServiceServer;
    use v1::intent_service_server::IntentServiceServer;
    use v1::scenario_service_server::ScenarioServiceServer;
    use v1::schema_service_server::SchemaServiceServer;
    use v1::task_service_server::TaskServiceServer;
    use v1::workspace_service_server::WorkspaceServiceServer;

    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(std::io::Error::other)?;
    let new = || Arc::clone(app);
    let routes = Routes::new(bounded!(IntentServiceServer::new(intents::Intents(new()))))
        .add_service(bounded!(AgentServiceServer::new(agents::Agents(new()))))
        .add_service(bounded!(InboxServiceServer::new(inbox::Inbox(new()))))
        .add_service(bounded!(ScenarioServiceServer::new(scenarios::Scenarios(new()))))
        .add_service(bounded!(TaskServiceServer::new(tasks::Tasks(new()))))
        .add_service(bounded!(DeliveryServiceServer::new(
            deliveries::Deliveries(new())
        )))
        .add_service(bounded!(SchemaServiceServer::new(schemas::Schemas(new()))))
        .add_service(bounded!(AdminServiceServer::new(admin::Admin(new()))))
        .add_service(bounded!(AuditServiceServer::new(audit::Audit(new()))))
        .add_service(bounded!(WorkspaceServiceServer::new(workspaces::Workspaces(
            new()
        ))))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health::Probe(
            new(),
        )))
        .add_service(reflection);
    Ok(routes
        .into_axum_router()
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(app), admit::admit)))
}

async fn unknown() -> Response {
    let error = ServiceError::new(ErrorCode::NotImplemented, "no such method on this server");
    status::status(error).into_http()
}
