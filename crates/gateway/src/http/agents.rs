//! The agent directory, deliveries as JSON, and the caller itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use baton_protocol::limits::{LIST_PAGE_DEFAULT, MAILBOX_PAGE_MAX};
use baton_protocol::proto::internal::Status;
use baton_protocol::{FeedItem, ServiceError};

use super::agent_path::{AgentResource, parse_agent_path};
use super::call::{AGENTS_PREFIX, Call};
use super::error::ApiError;
use super::json::invalid;
use super::render::{Object, agent_json, me_json, payload_json, uuid_text};
use super::{App, json, stream};

pub(super) async fn me(_: State<Arc<App>>, call: Call) -> Response {
    json(me_json(&call.caller))
}

pub(super) async fn list(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let limit = call
        .query_number("limit")?
        .map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let (org, workspace) = (call.query("org_id"), call.query("workspace_id"));
    let accounts = app
        .service
        .list_accounts(&call.caller, org, workspace, limit, None)
        .await?;
    let mut out = Object::ok();
    out.list("agents", accounts.iter().map(|a| agent_json(a, false)));
    Ok(json(out.finish()))
}

/// Everything below `/v1/agents/`: the address may hold slashes, so the suffix decides.
pub(super) async fn by_path(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let rest = call.path().strip_prefix(AGENTS_PREFIX).unwrap_or_default();
    let (address, resource) = parse_agent_path(rest)?;
    match resource {
        AgentResource::Entry => entry(&app, &address, &call).await,
        AgentResource::Intents => poll(&app, &address, &call).await,
        AgentResource::Stream => stream::agent_stream(app, &address, call).await,
        AgentResource::Later => Err(super::later(State(app), call).await),
    }
}

async fn entry(app: &App, address: &str, call: &Call) -> Result<Response, ApiError> {
    let account = app.service.get_agent(&call.caller, address).await?;
    let mut out = Object::ok();
    out.raw("agent", &agent_json(&account, true));
    Ok(json(out.finish()))
}

async fn poll(app: &App, address: &str, call: &Call) -> Result<Response, ApiError> {
    let agent = app.service.owner(&call.caller, Some(address)).await?;
    let since = call.query_number("since")?.unwrap_or(0);
    let statuses = status_filter(call)?;
    let limit = call.query_number("limit")?.unwrap_or(LIST_PAGE_DEFAULT.into());
    let limit = limit.clamp(1, MAILBOX_PAGE_MAX.into()) as usize;
    let wait = stream::wait(call)?.unwrap_or(Duration::ZERO);
    let items = tokio::select! {
        items = app.service.poll_agent(&call.caller, &agent, since, limit, wait) => items?,
        () = app.shutdown.cancelled() => Vec::new(),
    };
    let next_cursor = items.last().map_or(since, |item| item.cursor);
    let shown = items.iter().filter(|item| {
        let status = shown_status(item.intent.status());
        statuses.as_ref().is_none_or(|s| s.contains(&status))
    });
    let mut out = Object::ok();
    out.list("intents", shown.map(|item| delivery_json(item, true)));
    out.number("next_cursor", next_cursor);
    Ok(json(out.finish()))
}

/// `status` as a set of the statuses that deliveries show; `None` = all of them.
pub(super) fn status_filter(call: &Call) -> Result<Option<HashSet<Status>>, ServiceError> {
    let Some(list) = call.query("status") else {
        return Ok(None);
    };
    let shown = statuses(list.split(','))?.into_iter().map(|status| {
        // Shown as DELIVERED and IN_PROGRESS, so whoever asks for what is behind them gets those.
        if status.is_terminal() {
            status
        } else {
            shown_status(status)
        }
    });
    Ok(Some(shown.collect()))
}

/// Lifecycle statuses by their names, in any case; empty names are passed over.
pub(super) fn statuses<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Status>, ServiceError> {
    names
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            Status::from_wire_name(&name.to_ascii_uppercase())
                .ok_or_else(|| invalid(format!("status names no lifecycle status: {name}")))
        })
        .collect()
}

/// Agents act on three statuses only; everything else that is open is shown as the nearest of them.
pub(super) fn shown_status(status: Status) -> Status {
    match status {
        Status::Acknowledged | Status::InProgress | Status::Waiting => Status::InProgress,
        Status::Created => Status::Created,
        Status::Submitted | Status::Delivered | Status::Unspecified => Status::Delivered,
        Status::Completed | Status::Failed | Status::Canceled | Status::TimedOut => status,
    }
}

/// What is posted to an agent: its delivery as on a stream, with the delivery's id. Ends up as one JSON object.
#[must_use]
pub fn push_body(item: &FeedItem, delivery_id: &str, replay: bool) -> Vec<u8> {
    let mut body = delivery_json(item, true);
    // Continues the object.
    body.pop();
    let mut more = Object::new();
    if item.intent.payload_bytes == 0 && item.payload.is_none() {
        more.raw("payload", b"{}");
    }
    more.text("delivery_id", delivery_id);
    more.number("attempt", item.attempt.into());
    if replay {
        more.flag("replay", true);
    }
    body.push(b',');
    body.extend_from_slice(&more.finish()[1..]);
    body
}

/// One delivery, on a stream or in a poll.
pub(super) fn delivery_json(item: &FeedItem, with_payload: bool) -> Vec<u8> {
    let intent = &item.intent;
    let mut out = Object::new();
    out.text("intent_id", &uuid_text(&intent.intent_id));
    out.number("seq", item.cursor);
    out.text("event_type", "intent.delivered");
    out.text("status", shown_status(intent.status()).wire_name());
    out.time("at", intent.updated_at_ms);
    out.text("intent_type", &intent.intent_type);
    out.text("from_agent", &intent.from_agent);
    out.text(
        "to_agent",
        intent.to_agent.as_ref().map_or("", |a| a.address.as_str()),
    );
    out.text("correlation_id", &intent.correlation_id);
    if with_payload && let Some(payload) = &item.payload {
        out.raw("payload", &payload_json(payload));
    }
    out.number("delivery_attempt", item.attempt.into());
    out.time_if("deadline_at", intent.deadline_at_ms);
    out.text_if(
        "reply_to",
        intent.reply_to.as_ref().map_or("", |a| a.address.as_str()),
    );
    if let Some(step) = &intent.step {
        out.text("parent_intent_id", &uuid_text(&step.parent_intent_id));
        out.text("step_id", &step.step_id);
        out.text("scenario_id", &step.scenario_id);
    }
    out.finish()
}
