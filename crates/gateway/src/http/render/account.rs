//! Service accounts, keys, agents and the caller.

use baton_protocol::proto::internal::{AccountStatus, ApiKey, ServiceAccount};

use super::Object;
use crate::service::Caller;
use crate::service::accounts::CreatedKey;

pub(crate) fn account_json(account: &ServiceAccount) -> Vec<u8> {
    let mut out = Object::new();
    out.text("service_account_id", &account.service_account_id);
    out.text("org_id", &account.org_id);
    out.text("workspace_id", &account.workspace_id);
    out.text("name", &account.name);
    out.text_or_null("description", &account.description);
    out.text("status", status(account.status()));
    let creator = account.created_by_actor_id.as_str();
    out.text(
        "created_by_actor_id",
        if creator.is_empty() { "system" } else { creator },
    );
    out.time("created_at", account.created_at_ms);
    out.time("updated_at", account.updated_at_ms);
    out.text("agent_address", &account.address);
    out.text("address", &account.address);
    out.text_or_null("display_name", &account.display_name);
    out.text(
        "delivery_mode",
        if account.delivery_mode.is_empty() {
            "stream"
        } else {
            &account.delivery_mode
        },
    );
    out.text_or_null("callback_url", &account.callback_url);
    out.time_if("callback_secret_set_at", account.callback_secret_set_at_ms);
    if account.callback_disabled_at_ms != 0 {
        out.time("callback_disabled_at", account.callback_disabled_at_ms);
        out.text("callback_disabled_reason", &account.callback_disabled_reason);
    }
    out.finish()
}

/// The same account as an entry of the agent directory; `with_update` as in the answer for one agent.
pub(crate) fn agent_json(account: &ServiceAccount, with_update: bool) -> Vec<u8> {
    let mut out = Object::new();
    out.text("address", &account.address);
    out.text("service_account_id", &account.service_account_id);
    out.text("service_account_name", &account.name);
    out.text_or_null("display_name", &account.display_name);
    out.text("status", status(account.status()));
    out.time("created_at", account.created_at_ms);
    if with_update {
        out.time("updated_at", account.updated_at_ms);
    }
    out.finish()
}

pub(crate) fn created_key_json(created: &CreatedKey) -> Vec<u8> {
    let key = &created.key;
    let mut inner = Object::new();
    inner.text("key_id", &key.key_id);
    inner.text("service_account_id", &key.service_account_id);
    inner.text("key_hint", &key.key_hint);
    inner.text("status", "active");
    inner.time("created_at", key.created_at_ms);
    if key.expires_at_ms == 0 {
        inner.raw("expires_at", b"null");
    } else {
        inner.time("expires_at", key.expires_at_ms);
    }
    inner.text("token", &created.token);
    let mut out = Object::ok();
    out.raw("key", &inner.finish());
    out.text("api_key", &created.token);
    out.finish()
}

pub(crate) fn revoked_key_json(key: &ApiKey) -> Vec<u8> {
    let mut inner = Object::new();
    inner.text("service_account_id", &key.service_account_id);
    inner.text("key_id", &key.key_id);
    inner.text("status", "revoked");
    inner.time("revoked_at", key.revoked_at_ms);
    let mut out = Object::ok();
    out.raw("key", &inner.finish());
    out.finish()
}

pub(crate) fn me_json(caller: &Caller) -> Vec<u8> {
    let mut account = Object::new();
    account.text("service_account_id", &caller.account.service_account_id);
    account.text("name", &caller.account.name);
    account.text("address", &caller.account.address);
    let mut out = Object::ok();
    out.text("address", &caller.account.address);
    out.raw("service_account", &account.finish());
    out.text("org_id", &caller.scope.org_id);
    out.text("workspace_id", &caller.scope.workspace_id);
    out.finish()
}

fn status(status: AccountStatus) -> &'static str {
    match status {
        AccountStatus::Active | AccountStatus::Unspecified => "active",
        AccountStatus::Suspended => "suspended",
        AccountStatus::Deleted => "deleted",
    }
}
