//! Service accounts and keys.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::ServiceError;
use baton_protocol::proto::internal::{AccountStatus, KeyKind};

use super::call::Call;
use super::error::ApiError;
use super::json::{JsonObject, invalid};
use super::render::{Object, account_json, created_key_json, revoked_key_json};
use super::{App, json};
use crate::service::accounts::{AccountPatch, NewAccount, NewKey, PutAccount, secret_overlap_ms};
use crate::service::{CALLBACK_URL_CHARS_MAX, SecretChange};

const NAME_CHARS_MAX: usize = 120;
const TEXT_CHARS_MAX: usize = 255;
const DESCRIPTION_CHARS_MAX: usize = 1_024;
const OVERLAP_FIELD: &str = "callback_secret_overlap_seconds";
const MODES: [&str; 5] = ["stream", "poll", "http", "inbox", "internal"];

pub(super) async fn create(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let new = decode_account(&call)?;
    let put = app.service.create_account(&call.caller, new).await?;
    Ok(changed(&put))
}

pub(super) async fn list(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let limit = call
        .query_number("limit")?
        .map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    // Clients look for a name in this list, so it is not cut short unless asked for.
    let limit = limit.or(Some(u32::MAX));
    let (org, workspace) = (call.query("org_id"), call.query("workspace_id"));
    let accounts = app
        .service
        .list_accounts(&call.caller, org, workspace, limit, None)
        .await?;
    let mut out = Object::ok();
    out.list("service_accounts", accounts.iter().map(account_json));
    Ok(json(out.finish()))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let account = app.service.get_account(&call.caller, &id).await?;
    Ok(one(&account_json(&account)))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let patch = decode_patch(&call)?;
    let put = app.service.update_account(&call.caller, &id, patch).await?;
    Ok(changed(&put))
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let patch = AccountPatch {
        status: Some(AccountStatus::Deleted),
        ..AccountPatch::default()
    };
    let put = app.service.update_account(&call.caller, &id, patch).await?;
    let mut out = Object::ok();
    out.text("service_account_id", &put.account.service_account_id);
    out.text("status", "deleted");
    Ok(json(out.finish()))
}

pub(super) async fn create_key(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let new = decode_key(&call)?;
    let created = app.service.create_key(&call.caller, &id, new).await?;
    Ok(json(created_key_json(&created)))
}

pub(super) async fn revoke_key(
    State(app): State<Arc<App>>,
    Path((id, key_id)): Path<(String, String)>,
    call: Call,
) -> Result<Response, ApiError> {
    let idempotency = call.idempotency(None)?;
    let key = app
        .service
        .revoke_key(&call.caller, &id, &key_id, idempotency)
        .await?;
    Ok(json(revoked_key_json(&key)))
}

/// An account that was written; the only answer that shows its callback secret.
fn changed(put: &PutAccount) -> Response {
    let mut out = Object::ok();
    out.raw("service_account", &account_json(&put.account));
    if let Some(secret) = &put.callback_secret {
        out.text("callback_secret", secret);
    }
    json(out.finish())
}

fn one(account: &[u8]) -> Response {
    let mut out = Object::ok();
    out.raw("service_account", account);
    json(out.finish())
}

fn decode_account(call: &Call) -> Result<NewAccount, ServiceError> {
    let body = call.json()?;
    let name = body.required_text("name", NAME_CHARS_MAX)?;
    if name.chars().count() < 2 {
        return Err(invalid("name must have at least 2 characters"));
    }
    Ok(NewAccount {
        org_id: body.uuid("org_id")?,
        workspace_id: body.uuid("workspace_id")?,
        name,
        description: body
            .text("description", DESCRIPTION_CHARS_MAX)?
            .unwrap_or_default(),
        display_name: body.text("display_name", TEXT_CHARS_MAX)?.unwrap_or_default(),
        created_by_actor_id: body.text("created_by_actor_id", TEXT_CHARS_MAX)?,
        delivery_mode: delivery_mode(&body)?.unwrap_or_default(),
        callback_url: callback_url(&body)?.unwrap_or_default(),
        callback_secret: callback_secret(&body)?,
        idempotency: call.idempotency(None)?,
    })
}

fn decode_patch(call: &Call) -> Result<AccountPatch, ServiceError> {
    let body = call.json()?;
    let status = match body.text("status", 32)?.as_deref() {
        None => None,
        Some("active") => Some(AccountStatus::Active),
        Some("suspended") => Some(AccountStatus::Suspended),
        Some("deleted" | "revoked") => Some(AccountStatus::Deleted),
        Some(_) => return Err(invalid("status must be active, suspended or deleted")),
    };
    Ok(AccountPatch {
        delivery_mode: delivery_mode(&body)?,
        callback_url: callback_url(&body)?,
        display_name: body.text("display_name", TEXT_CHARS_MAX)?,
        description: body.text("description", DESCRIPTION_CHARS_MAX)?,
        status,
        callback_secret: callback_secret(&body)?,
        secret_overlap_ms: secret_overlap_ms(body.number(OVERLAP_FIELD)?, OVERLAP_FIELD)?,
        idempotency: call.idempotency(None)?,
    })
}

pub(super) fn delivery_mode(body: &JsonObject) -> Result<Option<String>, ServiceError> {
    match body.text("delivery_mode", 32)? {
        Some(mode) if !MODES.contains(&mode.as_str()) => Err(invalid(format!(
            "{} must be stream, poll, http, inbox or internal",
            body.field("delivery_mode")
        ))),
        mode => Ok(mode),
    }
}

pub(super) fn callback_url(body: &JsonObject) -> Result<Option<String>, ServiceError> {
    match body.text("callback_url", CALLBACK_URL_CHARS_MAX)? {
        Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
            let field = body.field("callback_url");
            Err(invalid(format!("{field} must start with http:// or https://")))
        }
        url => Ok(url),
    }
}

fn callback_secret(body: &JsonObject) -> Result<SecretChange, ServiceError> {
    let given = body.text("callback_secret", TEXT_CHARS_MAX)?;
    match (given, body.flag("rotate_callback_secret")?.unwrap_or(false)) {
        (Some(_), true) => Err(invalid(
            "send callback_secret or rotate_callback_secret, not both; the latter draws a new secret",
        )),
        (Some(secret), false) => Ok(SecretChange::Set(secret)),
        (None, true) => Ok(SecretChange::Draw),
        (None, false) => Ok(SecretChange::Keep),
    }
}

fn decode_key(call: &Call) -> Result<NewKey, ServiceError> {
    let body = call.json()?;
    let kind = match body.text("kind", 32)?.as_deref() {
        None => None,
        Some("agent") => Some(KeyKind::Agent),
        Some("workspace") => Some(KeyKind::Workspace),
        Some("operator") => Some(KeyKind::Operator),
        Some(_) => return Err(invalid("kind must be agent, workspace or operator")),
    };
    Ok(NewKey {
        kind,
        name: body.text("name", TEXT_CHARS_MAX)?.unwrap_or_default(),
        description: body
            .text("description", DESCRIPTION_CHARS_MAX)?
            .unwrap_or_default(),
        expires_at_ms: body.time_ms("expires_at")?.unwrap_or(0),
        idempotency: call.idempotency(None)?,
    })
}
