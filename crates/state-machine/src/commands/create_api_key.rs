//! `CreateApiKey`: a further machine key of a service account. Only its hash gets here.

use crate::keys;
use crate::rows;
use crate::tenants;
use crate::transaction::{Outcome, Transaction, invalid, reject, reply};
use crate::visibility;
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{
    AccountStatus, ApiKey, ApiKeyReply, CreateApiKey, KeyKind, Reply, reply as outcome,
};

const SHA256_BYTES: usize = 32;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &CreateApiKey) -> Outcome {
    tx.require_meta()?;
    let actor = command.actor.as_ref();
    let wanted = command
        .key
        .as_ref()
        .filter(|k| !k.key_id.is_empty() && k.token_sha256.len() == SHA256_BYTES)
        .ok_or_else(|| invalid("a key needs an id and the SHA-256 of its token"))?;
    let account = tenants::managed_account(&*tx.tables, actor, &wanted.service_account_id)?;
    if account.status() != AccountStatus::Active {
        return Err(reject(
            ErrorCode::Conflict,
            "service account is not active; activate it first",
        ));
    }
    match wanted.kind() {
        KeyKind::Agent | KeyKind::Workspace => {}
        KeyKind::Operator if visibility::operates(actor) => {}
        KeyKind::Operator => {
            return Err(reject(
                ErrorCode::PolicyDenied,
                "only an operator key may create operator keys",
            ));
        }
        KeyKind::Unspecified => return Err(invalid("key kind is missing")),
    }
    let same_token: Option<ApiKey> = rows::read(&*tx.tables, &keys::api_key(&wanted.token_sha256))?;
    if let Some(known) = same_token {
        // The same create again; a chance hit of 256 random bits does not exist.
        if known.key_id == wanted.key_id && known.service_account_id == wanted.service_account_id {
            return Ok(key_reply(known));
        }
        return Err(reject(ErrorCode::Conflict, "token is in use; draw a new one"));
    }
    if tenants::find_key(&*tx.tables, &account.service_account_id, &wanted.key_id)?.is_some() {
        return Err(reject(ErrorCode::Conflict, "key id is in use; draw a new one"));
    }
    let key = ApiKey {
        org_id: account.org_id,
        workspace_id: account.workspace_id,
        created_at_ms: tx.now_ms,
        revoked: false,
        revoked_at_ms: 0,
        ..wanted.clone()
    };
    tenants::put_key(tx, &key);
    tx.note_meta(None);
    Ok(key_reply(key))
}

pub(crate) fn key_reply(key: ApiKey) -> Reply {
    reply(outcome::Outcome::ApiKey(ApiKeyReply { api_key: Some(key) }))
}
