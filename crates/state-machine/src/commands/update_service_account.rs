//! `UpdateServiceAccount`: changes settings; deleting revokes every key of the account.

use crate::callbacks::{self, NewSecret};
use crate::commands::create_service_account::account_reply;
use crate::idempotency;
use crate::keys;
use crate::rows;
use crate::tenants;
use crate::transaction::{Outcome, Transaction, reject};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{AccountStatus, ServiceAccount, UpdateServiceAccount};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &UpdateServiceAccount) -> Outcome {
    tx.require_meta()?;
    let account = tenants::managed_account(&*tx.tables, command.actor.as_ref(), &command.service_account_id)?;
    idempotency::once_by_key(tx, command.idempotency.as_ref(), |tx| {
        update(tx, account, command)
    })
}

fn update(
    tx: &mut Transaction<'_, '_>,
    mut account: ServiceAccount,
    command: &UpdateServiceAccount,
) -> Outcome {
    let status = command.status();
    if account.status() == AccountStatus::Deleted {
        if status == AccountStatus::Deleted {
            return Ok(account_reply(account, false));
        }
        return Err(reject(
            ErrorCode::Conflict,
            "service account is deleted; create a new one",
        ));
    }
    let set = |field: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            field.clone_from(value);
        }
    };
    set(&mut account.delivery_mode, &command.delivery_mode);
    set(&mut account.callback_url, &command.callback_url);
    set(&mut account.display_name, &command.display_name);
    set(&mut account.description, &command.description);
    // Whoever sets the callback anew vouches for it.
    if command.delivery_mode.is_some() || command.callback_url.is_some() {
        account.callback_disabled_at_ms = 0;
        account.callback_disabled_reason.clear();
    }
    account.updated_at_ms = tx.now_ms;
    if status != AccountStatus::Unspecified {
        account.status = status.into();
    }
    if status == AccountStatus::Deleted {
        tenants::revoke_all_keys(tx, &account.service_account_id)?;
        tenants::unlist_account(tx, &account)?;
    }
    let secret = NewSecret {
        given: command.callback_secret.as_ref(),
        fallback: command.fallback_secret.as_ref(),
        overlap_ms: command.secret_overlap_ms,
    };
    let secret_set = callbacks::follow(tx, &mut account, secret)?;
    rows::write(tx.tables, keys::account(&account.service_account_id), &account);
    tx.note_meta(None);
    Ok(account_reply(account, secret_set))
}
