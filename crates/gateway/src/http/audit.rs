//! What people and administrators did (surface 3.14), and the heads of its chains.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use baton_protocol::ServiceError;
use baton_protocol::limits::{AUDIT_PAGE_DEFAULT, AUDIT_PAGE_MAX};

use super::call::Call;
use super::error::ApiError;
use super::json::invalid;
use super::render::{Object, audit_event_json, audit_head_json};
use super::time::parse_ms;
use super::{App, json};
use crate::service::audit::{AuditFilter, AuditScope, parse_place, place_text};

const PREFIX_CHARS_MAX: usize = 64;
/// `workspace_id` of the cluster as a whole, and of everything.
const CLUSTER: &str = "cluster";
const EVERY: &str = "*";

pub(super) async fn events(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let limit = call.query_number("limit")?.unwrap_or(AUDIT_PAGE_DEFAULT.into());
    let limit = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, AUDIT_PAGE_MAX);
    let behind = call.query("cursor").map(parse_place).transpose()?;
    let found = app
        .service
        .list_audit(&call.caller, &filter(&call)?, behind, limit)
        .await?;
    let mut out = Object::ok();
    out.list("events", found.events.iter().map(audit_event_json));
    let next = found.next.as_ref().map(place_text).unwrap_or_default();
    out.text_or_null("next_cursor", &next);
    out.flag("has_more", found.next.is_some());
    Ok(json(out.finish()))
}

pub(super) async fn heads(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let scope = match call.query("workspace_id") {
        Some(EVERY) => None,
        _ => Some(scope(&call)),
    };
    let chains = app.service.audit_heads(&call.caller, scope.as_ref()).await?;
    let mut out = Object::ok();
    out.list("heads", chains.iter().map(audit_head_json));
    Ok(json(out.finish()))
}

fn scope(call: &Call) -> AuditScope {
    match call.query("workspace_id") {
        None => AuditScope::Own,
        Some(CLUSTER) => AuditScope::Cluster,
        Some(id) => AuditScope::Workspace(id.to_owned()),
    }
}

fn filter(call: &Call) -> Result<AuditFilter, ServiceError> {
    let time = |name: &str| match call.query(name) {
        Some(text) => parse_ms(text).ok_or_else(|| {
            invalid(format!(
                "{name} must be an RFC 3339 date and time, such as 2026-05-01T10:00:00Z"
            ))
        }),
        None => Ok(0),
    };
    let action_prefix = call.query("action_prefix").unwrap_or_default();
    if action_prefix.chars().count() > PREFIX_CHARS_MAX {
        return Err(invalid(format!(
            "action_prefix is longer than {PREFIX_CHARS_MAX} characters"
        )));
    }
    Ok(AuditFilter {
        scope: scope(call),
        owner: call.owner()?,
        action_prefix: action_prefix.to_owned(),
        since_ms: time("since")?,
        until_ms: time("until")?,
    })
}
