//! Settings of workspaces (an addition of ours to surface 3.15).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use super::call::Call;
use super::error::ApiError;
use super::json::invalid;
use super::render::Object;
use super::{App, json};
use crate::service::workspaces::Retention;

/// The own workspace, in a path.
const OWN: &str = "self";

pub(super) async fn retention(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let retention = app.service.retention(&call.caller, named(&id)).await?;
    Ok(one(&retention))
}

pub(super) async fn set_retention(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let ms = call
        .json()?
        .number("terminal_retention_ms")?
        .filter(|ms| *ms > 0)
        .ok_or_else(|| invalid("terminal_retention_ms is required; DELETE takes the cluster's again"))?;
    let retention = app.service.set_retention(&call.caller, named(&id), ms).await?;
    Ok(one(&retention))
}

pub(super) async fn clear_retention(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let retention = app.service.set_retention(&call.caller, named(&id), 0).await?;
    Ok(one(&retention))
}

fn named(id: &str) -> Option<&str> {
    (id != OWN).then_some(id)
}

fn one(retention: &Retention) -> Response {
    let mut inner = Object::new();
    inner.text("workspace_id", &retention.workspace_id);
    inner.number("terminal_retention_ms", retention.terminal_retention_ms);
    inner.flag("inherited", retention.inherited);
    inner.number("terminal_retention_min_ms", retention.min_ms);
    inner.number("terminal_retention_max_ms", retention.max_ms);
    let mut out = Object::ok();
    out.raw("retention", &inner.finish());
    json(out.finish())
}
