//! Health of this node, and what it can do.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use baton_protocol::{ErrorCode, ServiceError};

use super::error::ApiError;
use super::render::Object;
use super::{App, json};
use crate::ports::Check;

pub(super) type Params = Query<Vec<(String, String)>>;

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let config = &app.service.config;
    let mut out = Object::ok();
    out.text("service", &config.service_name);
    out.text("status", "ok");
    out.text("version", &config.version);
    out.text("deployment_profile", &config.deployment_profile);
    out.text("storage", &config.storage);
    out.number("registered_users", 0);
    json(out.finish())
}

pub(super) async fn live(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    answer("live", &app.service.ports.health.live(), &params)
}

pub(super) async fn ready(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let mut checks = app.service.ports.health.ready();
    checks.push(Check {
        name: "shutdown",
        ok: !app.shutdown.is_cancelled(),
        detail: "not shutting down".into(),
    });
    answer("ready", &checks, &params)
}

pub(super) async fn started(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    answer("started", &app.service.ports.health.started(), &params)
}

pub(super) fn answer(what: &str, checks: &[Check], params: &Params) -> Result<Response, ApiError> {
    let failed: Vec<String> = checks
        .iter()
        .filter(|c| !c.ok)
        .map(|c| format!("{}: {}", c.name, c.detail))
        .collect();
    if !failed.is_empty() {
        let message = format!("not {what}: {}", failed.join(", "));
        return Err(ServiceError::new(ErrorCode::Unavailable, message).into());
    }
    let mut out = Object::ok();
    out.text("status", what);
    if params.iter().any(|(key, _)| key == "verbose") {
        out.list("checks", checks.iter().map(check_json));
    }
    Ok(json(out.finish()))
}

fn check_json(check: &Check) -> Vec<u8> {
    let mut out = Object::new();
    out.text("name", check.name);
    out.flag("ok", check.ok);
    out.text("detail", &check.detail);
    out.finish()
}
