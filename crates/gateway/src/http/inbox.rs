//! Inbox threads: list and get.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;

use super::call::{Call, intent_id};
use super::error::ApiError;
use super::json::invalid;
use super::render::{Object, thread_json};
use super::{App, json};

pub(super) async fn list(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let owner = app.service.owner(&call.caller, call.owner()?.as_deref()).await?;
    let status = call.query("status").unwrap_or_default();
    if !matches!(status, "" | "pending" | "active" | "done") {
        return Err(invalid("status must be pending, active or done").into());
    }
    let limit = call
        .query_number("limit")?
        .map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let threads = app
        .service
        .list_threads(&call.caller, owner, status.to_owned(), limit)
        .await?;
    let mut out = Object::ok();
    out.list("threads", threads.iter().map(thread_json));
    Ok(json(out.finish()))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let owner = app.service.owner(&call.caller, call.owner()?.as_deref()).await?;
    let thread = app
        .service
        .get_thread(&call.caller, owner, intent_id(&id)?)
        .await?;
    let mut out = Object::ok();
    out.raw("thread", &thread_json(&thread));
    Ok(json(out.finish()))
}
