//! Human tasks: the list of what waits for people, and decisions on it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::limits::{ACTOR_CHARS_MAX, TASKS_PAGE_MAX};
use baton_protocol::{ErrorCode, IntentId, ServiceError};

use super::call::Call;
use super::error::{ApiError, not_found};
use super::json::{JsonObject, invalid};
use super::render::{Object, open_task_json};
use super::{App, json};
use crate::service::{Approval, Change, TaskFilter};

const COMMENT_CHARS_MAX: usize = 1_000;

pub(super) async fn list(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let limit = match call.query_number("limit")? {
        None => TASKS_PAGE_MAX,
        Some(limit) => u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, TASKS_PAGE_MAX),
    };
    let after = match call.query("cursor") {
        None => None,
        Some(text) => Some(IntentId::parse(text).ok_or_else(|| invalid("cursor is not one of this list"))?),
    };
    let text = |name: &str| call.query(name).unwrap_or_default().to_owned();
    let filter = TaskFilter {
        assignee: text("assignee"),
        intent_type: text("intent_type"),
    };
    let page = app
        .service
        .list_tasks(&call.caller, &filter, after, limit)
        .await?;
    let mut out = Object::ok();
    out.list("tasks", page.tasks.iter().map(open_task_json));
    if let Some(next) = page.next {
        out.text("next_cursor", &next.to_string());
    }
    Ok(json(out.finish()))
}

/// Decides by yes or no: the human task of an intent, or something only the caller knows.
pub(super) async fn decide(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let approval_id = uuid::Uuid::try_parse(&id).map_err(|_| not_found("an approval id must be a UUID"))?;
    let body = call.json()?;
    let approve = decode_decision(&body)?;
    let comment = match body.text("comment", COMMENT_CHARS_MAX)? {
        Some(comment) => Some(comment),
        None => body.text("reason", COMMENT_CHARS_MAX)?,
    };
    let change = Change {
        owner: call.owner()?,
        label: body.text("actor", ACTOR_CHARS_MAX)?,
        idempotency: call.idempotency(None)?,
        ..Change::default()
    };
    let approval = Approval {
        approval_id,
        approve,
        comment: comment.unwrap_or_default(),
    };
    let decided = app.service.decide(&call.caller, approval, change).await?;
    let mut inner = Object::new();
    inner.text("approval_id", &approval_id.to_string());
    inner.text("decision", if approve { "approve" } else { "reject" });
    inner.text_or_null("comment", &decided.comment);
    inner.time("decided_at", decided.decided_at_ms);
    let mut out = Object::ok();
    out.raw("approval", &inner.finish());
    Ok(json(out.finish()))
}

fn decode_decision(body: &JsonObject) -> Result<bool, ServiceError> {
    match body.required_text("decision", 16)?.as_str() {
        "approve" | "approved" => Ok(true),
        "reject" | "rejected" => Ok(false),
        _ => Err(ServiceError::new(
            ErrorCode::InvalidArgument,
            "decision must be approve or reject",
        )),
    }
}
