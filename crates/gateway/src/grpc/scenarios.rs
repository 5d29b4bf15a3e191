//! `ScenarioService`. A bundle is a JSON document on every surface; the HTTP surface's reader reads it.

use std::sync::Arc;

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::scenario_service_server::ScenarioService;
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::status::status;
use super::{convert, decode};
use crate::app::App;
use crate::http::scenarios::read_bundle;

pub(super) struct Scenarios(pub(super) Arc<App>);

#[tonic::async_trait]
impl ScenarioService for Scenarios {
    async fn apply_scenario(
        &self,
        request: Request<v1::ApplyScenarioRequest>,
    ) -> Result<Response<v1::ApplyScenarioResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let service = &self.0.service;
        let (mut bundle, findings) = read_bundle(&request.bundle_json).map_err(status)?;
        if let Some(error) = findings.errors.first() {
            let error = ServiceError::new(ErrorCode::SchemaInvalid, error.clone());
            return Err(status(error.in_field("bundle_json")));
        }
        let key = request.idempotency_key;
        bundle.intent.idempotency = decode::scenario_key(key, &request.bundle_json).map_err(status)?;
        bundle.intent.trace_parent = call.trace_parent.to_string();
        let applied = service
            .apply_scenario(&call.caller, bundle)
            .await
            .map_err(status)?;
        let id = IntentId::from_slice(&applied.intent_id).ok_or_else(|| {
            status(ServiceError::new(
                ErrorCode::Internal,
                "a scenario without an intent",
            ))
        })?;
        let view = service
            .get_intent(&call.caller, id, false)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ApplyScenarioResponse {
            intent: convert::view(view),
            compile_id: applied.compile_id,
            replayed: applied.replayed,
        }))
    }

    async fn validate_scenario(
        &self,
        request: Request<v1::ValidateScenarioRequest>,
    ) -> Result<Response<v1::ValidateScenarioResponse>, Status> {
        let (_, request) = Admitted::split(request)?;
        let (bundle, mut findings) = read_bundle(&request.bundle_json).map_err(status)?;
        // What could not be read is not judged any further: that would only repeat the first finding.
        if findings.errors.is_empty() {
            findings = bundle.check();
        }
        Ok(Response::new(v1::ValidateScenarioResponse {
            valid: findings.errors.is_empty(),
            errors: findings.errors,
            warnings: findings.warnings,
        }))
    }
}
