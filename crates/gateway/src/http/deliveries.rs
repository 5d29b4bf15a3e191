//! Deliveries by HTTP push (surface 3.12): list, show, replay one or many.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::limits::LIST_PAGE_MAX;
use baton_protocol::proto::internal::DeliveryState;
use baton_protocol::{DeliveryId, ServiceError};

use super::call::Call;
use super::error::{ApiError, not_found};
use super::json::invalid;
use super::render::{Object, delivery_json, replayed_json, state_name};
use super::{App, json};
use crate::service::deliveries::{DELIVERIES_DEFAULT, DeliveryFilter, REPLAYABLE, REPLAYS_DEFAULT, Replayed};

const TEXT_CHARS_MAX: usize = 383;

pub(super) async fn list(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let text = |name: &str| call.query(name).map(str::to_owned);
    let mut states = Vec::new();
    for name in call
        .query("status")
        .unwrap_or_default()
        .split(',')
        .filter(|n| !n.is_empty())
    {
        states.extend(state(name)?);
    }
    let asked_none = states.is_empty() && call.query("status").is_some();
    let filter = DeliveryFilter {
        org_id: text("org_id"),
        workspace_id: text("workspace_id"),
        agent: text("agent_address"),
        service_account_id: text("principal_id").unwrap_or_default(),
        states,
    };
    let limit = limit(call.query_number("limit")?, DELIVERIES_DEFAULT);
    let behind = cursor(call.query("cursor"))?;
    let found = if asked_none {
        Default::default()
    } else {
        app.service
            .list_deliveries(&call.caller, &filter, behind, limit)
            .await?
    };
    let mut out = Object::ok();
    out.list("deliveries", found.deliveries.iter().map(delivery_json));
    out.text_or_null(
        "next_cursor",
        &found.next.map_or_else(String::new, |id| id.to_string()),
    );
    Ok(json(out.finish()))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let view = app.service.get_delivery(&call.caller, delivery_id(&id)?).await?;
    Ok(one(&delivery_json(&view)))
}

pub(super) async fn replay(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let idempotency = call.idempotency(None)?;
    let view = app
        .service
        .replay_delivery(&call.caller, delivery_id(&id)?, idempotency.as_ref())
        .await?;
    Ok(one(&delivery_json(&view)))
}

/// Replays what a filter names, or says what it would be.
pub(super) async fn replay_many(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let body = call.json()?;
    let wanted = match body.text("status", 32)? {
        None => vec![DeliveryState::DeadLettered],
        Some(name) => state(&name)?.into_iter().collect(),
    };
    if !wanted.iter().all(|state| REPLAYABLE.contains(state)) || wanted.is_empty() {
        return Err(invalid("status must be dead_lettered, failed or delivered").into());
    }
    let filter = DeliveryFilter {
        org_id: body.uuid("org_id")?,
        workspace_id: body.uuid("workspace_id")?,
        agent: body.text("agent_address", TEXT_CHARS_MAX)?,
        service_account_id: body.text("principal_id", TEXT_CHARS_MAX)?.unwrap_or_default(),
        states: wanted,
    };
    let limit = limit(body.number("limit")?, REPLAYS_DEFAULT);
    let behind = cursor(body.text("cursor", TEXT_CHARS_MAX)?.as_deref())?;
    let again = body.flag("include_replayed")?.unwrap_or(false);
    let dry_run = body.flag("dry_run")?.unwrap_or(false);
    let found = app
        .service
        .replayable(&call.caller, &filter, behind, limit, again)
        .await?;
    let outcomes: Vec<Replayed> = if dry_run {
        Vec::new()
    } else {
        app.service.replay_all(&call.caller, &found.deliveries).await
    };
    let mut out = Object::ok();
    out.flag("dry_run", dry_run);
    out.number("matched", found.deliveries.len() as u64);
    out.number(
        "replayed",
        outcomes.iter().filter(|r| r.outcome.is_ok()).count() as u64,
    );
    if dry_run {
        out.list("deliveries", found.deliveries.iter().map(delivery_json));
    } else {
        out.list("deliveries", outcomes.iter().map(replayed_json));
    }
    out.text_or_null(
        "next_cursor",
        &found.next.map_or_else(String::new, |id| id.to_string()),
    );
    Ok(json(out.finish()))
}

fn one(delivery: &[u8]) -> Response {
    let mut out = Object::ok();
    out.raw("delivery", delivery);
    json(out.finish())
}

fn limit(asked: Option<u64>, default: u32) -> u32 {
    let limit = asked.unwrap_or(default.into()).clamp(1, LIST_PAGE_MAX.into());
    u32::try_from(limit).unwrap_or(LIST_PAGE_MAX)
}

/// What is no id cannot exist.
fn delivery_id(text: &str) -> Result<DeliveryId, ApiError> {
    DeliveryId::parse(text).ok_or_else(|| not_found("this is not a delivery id of this server"))
}

fn cursor(text: Option<&str>) -> Result<Option<DeliveryId>, ServiceError> {
    match text.filter(|t| !t.is_empty()) {
        None => Ok(None),
        Some(text) => DeliveryId::parse(text)
            .map(Some)
            .ok_or_else(|| invalid("cursor must be the next_cursor of an earlier page")),
    }
}

/// A status by its name on the wire; none for the one that only submitted deliveries have.
fn state(name: &str) -> Result<Option<DeliveryState>, ServiceError> {
    let known = [
        DeliveryState::Pending,
        DeliveryState::Delivered,
        DeliveryState::Failed,
        DeliveryState::DeadLettered,
    ];
    match known.into_iter().find(|state| state_name(*state) == name) {
        Some(state) => Ok(Some(state)),
        None if name == "submitted" => Ok(None),
        None => Err(invalid(
            "status must be submitted, pending, delivered, failed or dead_lettered",
        )),
    }
}
