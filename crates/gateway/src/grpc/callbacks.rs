//! `SetCallback` and `RotateCallbackSecret` of `AgentService`.

use std::sync::Arc;

use baton_protocol::proto::v1;
use baton_protocol::{META_GROUP, ServiceError};
use tonic::{Response, Status};

use super::auth::Admitted;
use super::decode::{self, Fingerprint};
use super::status::status;
use super::{convert, leader};
use crate::app::App;
use crate::service::accounts::{AccountPatch, PutAccount, secret_overlap_ms};
use crate::service::{CALLBACK_URL_CHARS_MAX, SecretChange};

const SECRET_CHARS_MAX: usize = 255;

pub(super) async fn set(
    app: &Arc<App>,
    call: &Admitted,
    request: v1::SetCallbackRequest,
) -> Result<Response<v1::SetCallbackResponse>, Status> {
    let agent = request.agent.clone();
    let patch = decode_set(request).map_err(status)?;
    let put = changed(app, call, agent, patch).await;
    let answer = put.map(|put| v1::SetCallbackResponse {
        callback_secret: put.callback_secret.unwrap_or_default(),
        agent: Some(convert::agent(put.account)),
    });
    leader::tell(app, META_GROUP, answer)
}

pub(super) async fn rotate(
    app: &Arc<App>,
    call: &Admitted,
    request: v1::RotateCallbackSecretRequest,
) -> Result<Response<v1::RotateCallbackSecretResponse>, Status> {
    let agent = request.agent.clone();
    let patch = decode_rotate(request).map_err(status)?;
    let put = changed(app, call, agent, patch).await;
    let answer = put.map(|put| v1::RotateCallbackSecretResponse {
        callback_secret: put.callback_secret.unwrap_or_default(),
        agent: Some(convert::agent(put.account)),
    });
    leader::tell(app, META_GROUP, answer)
}

async fn changed(
    app: &Arc<App>,
    call: &Admitted,
    agent: String,
    patch: AccountPatch,
) -> Result<PutAccount, Status> {
    let address = decode::address(agent, "agent").map_err(status)?;
    let address = address.ok_or_else(|| status(decode::missing("agent")))?;
    let account = app.service.get_agent(&call.caller, &address).await;
    let id = account.map_err(status)?.service_account_id;
    let put = app.service.update_account(&call.caller, &id, patch).await;
    put.map_err(status)
}

fn decode_set(request: v1::SetCallbackRequest) -> Result<AccountPatch, ServiceError> {
    let hash = Fingerprint::default()
        .text(&request.agent)
        .optional(request.callback_url.as_deref())
        .optional(request.delivery_mode.as_deref());
    let endpoint = "baton.v1.AgentService/SetCallback".to_owned();
    let url = request.callback_url;
    Ok(AccountPatch {
        idempotency: decode::optional_key(request.idempotency_key, endpoint, hash)?,
        callback_url: url.map(|url| checked_url(url, "callback_url")).transpose()?,
        delivery_mode: request.delivery_mode.map(decode::delivery_mode).transpose()?,
        ..AccountPatch::default()
    })
}

/// A URL within its length; the service says what else is wrong with it.
pub(super) fn checked_url(url: String, field: &'static str) -> Result<String, ServiceError> {
    Ok(decode::text(url, field, CALLBACK_URL_CHARS_MAX)?.unwrap_or_default())
}

fn decode_rotate(request: v1::RotateCallbackSecretRequest) -> Result<AccountPatch, ServiceError> {
    let hash = Fingerprint::default()
        .text(&request.agent)
        .text(&request.callback_secret)
        .number(request.overlap_seconds.map_or(0, |s| u64::from(s) + 1));
    let endpoint = "baton.v1.AgentService/RotateCallbackSecret".to_owned();
    let given = decode::text(request.callback_secret, "callback_secret", SECRET_CHARS_MAX)?;
    Ok(AccountPatch {
        idempotency: decode::optional_key(request.idempotency_key, endpoint, hash)?,
        callback_secret: given.map_or(SecretChange::Draw, SecretChange::Set),
        secret_overlap_ms: secret_overlap_ms(request.overlap_seconds.map(u64::from), "overlap_seconds")?,
        ..AccountPatch::default()
    })
}
