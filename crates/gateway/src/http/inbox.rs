//! Inbox threads: reading, and what their owners write to them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::limits::{ACTOR_CHARS_MAX, BODY_BYTES_MAX, LIST_PAGE_MAX};
use baton_protocol::proto::internal::write_thread::Write;
use baton_protocol::proto::internal::{Decision, Delegation, DeleteMessages, Thread, ThreadWritten};
use baton_protocol::{IntentId, ServiceError};

use super::call::{Call, intent_id};
use super::error::ApiError;
use super::json::{JsonObject, invalid};
use super::render::{Object, thread_json, uuid_text};
use super::{App, json};
use crate::service::Change;

const NOTE_CHARS_MAX: usize = 2_000;
const DELETED_MAX: usize = 100;
const CHANGES_DEFAULT: u32 = 50;

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

/// What was written to since a place in the order of writing. A cursor is `<microseconds>:<thread id>`.
pub(super) async fn changes(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let owner = app.service.owner(&call.caller, call.owner()?.as_deref()).await?;
    let limit = match call.query_number("limit")? {
        None => CHANGES_DEFAULT,
        Some(limit) => u32::try_from(limit)
            .unwrap_or(u32::MAX)
            .clamp(1, LIST_PAGE_MAX - 1),
    };
    let after = match call.query("cursor") {
        None => (0, None),
        Some(text) => parse_cursor(text).ok_or_else(|| invalid("cursor is none of this list"))?,
    };
    let service = &app.service;
    // One more than asked for tells whether there is more.
    let mut threads = service
        .list_thread_changes(&call.caller, owner, after, limit + 1)
        .await?;
    let has_more = threads.len() > limit as usize;
    threads.truncate(limit as usize);
    let mut out = Object::ok();
    let changes = threads.iter().map(|thread| {
        let mut change = Object::new();
        change.text("cursor", &cursor_of(thread));
        change.raw("thread", &thread_json(thread));
        change.finish()
    });
    out.list("changes", changes);
    match threads.last() {
        Some(last) => out.text("next_cursor", &cursor_of(last)),
        None => out.text_or_null("next_cursor", call.query("cursor").unwrap_or_default()),
    }
    out.flag("has_more", has_more);
    Ok(json(out.finish()))
}

fn cursor_of(thread: &Thread) -> String {
    format!(
        "{}:{}",
        thread.updated_at_ms * 1_000,
        uuid_text(&thread.thread_id)
    )
}

fn parse_cursor(text: &str) -> Option<(u64, Option<IntentId>)> {
    let (micros, id) = text.split_once(':')?;
    let micros: u64 = micros.parse().ok()?;
    Some((micros / 1_000, Some(IntentId::parse(id)?)))
}

pub(super) async fn read(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    written(&app, &call, &id, Write::Read(true)).await
}

pub(super) async fn reply(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let message = call.json()?.required_text("message", BODY_BYTES_MAX)?;
    written(&app, &call, &id, Write::Reply(message)).await
}

pub(super) async fn delegate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let body = call.json()?;
    let to = body.address("delegate_to")?;
    let to = app.service.acting_for(&call.caller, to.as_deref()).await?;
    let note = body.text("note", NOTE_CHARS_MAX)?.unwrap_or_default();
    written(&app, &call, &id, Write::Delegate(Delegation { to, note })).await
}

pub(super) async fn approve(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    decide(&app, &call, &id, true).await
}

pub(super) async fn reject(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    decide(&app, &call, &id, false).await
}

async fn decide(app: &App, call: &Call, id: &str, approve: bool) -> Result<Response, ApiError> {
    let comment = call.json()?.text("comment", NOTE_CHARS_MAX)?.unwrap_or_default();
    let decision = Decision { approve, comment };
    let owner = app.service.owner(&call.caller, call.owner()?.as_deref()).await?;
    let change = change(call)?;
    let service = &app.service;
    let done = service
        .decide_thread(&call.caller, owner, intent_id(id)?, decision, change)
        .await?;
    Ok(thread_answer(&done))
}

pub(super) async fn delete_messages(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let body = call.json()?;
    let mode = body.text("mode", 16)?.unwrap_or_else(|| "self".to_owned());
    if !matches!(mode.as_str(), "self" | "both") {
        return Err(invalid("mode must be self or both").into());
    }
    let delete = DeleteMessages {
        both: mode == "both",
        message_ids: message_ids(&body)?,
        limit: body.positive("limit")?.unwrap_or(0),
    };
    if delete.limit as usize > DELETED_MAX {
        return Err(invalid(format!("limit must be 1 to {DELETED_MAX}")).into());
    }
    let done = write(&app, &call, &id, Write::Delete(delete)).await?;
    let mut out = Object::ok();
    out.raw("thread", &thread_json(&done.thread.unwrap_or_default()));
    out.text("mode", &mode);
    out.number("deleted_count", done.deleted_ids.len() as u64);
    let ids: Vec<String> = done.deleted_ids.iter().map(|id| uuid_text(id)).collect();
    out.texts("message_ids", ids.iter().map(String::as_str));
    Ok(json(out.finish()))
}

fn message_ids(body: &JsonObject) -> Result<Vec<bytes::Bytes>, ServiceError> {
    let Some(raw) = body.raw("message_ids") else {
        return Ok(Vec::new());
    };
    let wrong = || {
        invalid(format!(
            "message_ids must be 1 to {DELETED_MAX} ids of timeline entries"
        ))
    };
    let ids: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    if ids.is_empty() || ids.len() > DELETED_MAX {
        return Err(wrong());
    }
    let ids: Result<Vec<_>, _> = ids.iter().map(|id| uuid::Uuid::try_parse(id)).collect();
    let ids = ids.map_err(|_| wrong())?;
    Ok(ids
        .iter()
        .map(|id| bytes::Bytes::copy_from_slice(id.as_bytes()))
        .collect())
}

async fn write(app: &App, call: &Call, id: &str, write: Write) -> Result<ThreadWritten, ApiError> {
    let owner = app.service.owner(&call.caller, call.owner()?.as_deref()).await?;
    let change = change(call)?;
    let service = &app.service;
    Ok(service
        .write_thread(&call.caller, owner, intent_id(id)?, write, &change)
        .await?)
}

async fn written(app: &App, call: &Call, id: &str, action: Write) -> Result<Response, ApiError> {
    Ok(thread_answer(&write(app, call, id, action).await?))
}

fn thread_answer(done: &ThreadWritten) -> Response {
    let mut out = Object::ok();
    out.raw("thread", &thread_json(&done.thread.clone().unwrap_or_default()));
    json(out.finish())
}

fn change(call: &Call) -> Result<Change, ServiceError> {
    Ok(Change {
        label: call.json()?.text("actor", ACTOR_CHARS_MAX)?,
        idempotency: call.idempotency(None)?,
        ..Change::default()
    })
}
