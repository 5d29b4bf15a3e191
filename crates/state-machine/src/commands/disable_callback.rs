//! `DisableCallback`: the endpoint of an account said that it is gone for good.

use crate::callbacks::{self, NewSecret};
use crate::keys;
use crate::rows;
use crate::transaction::{Outcome, Transaction, done, not_found, reject};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{AccountStatus, DisableCallback, ServiceAccount};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &DisableCallback) -> Outcome {
    tx.require_meta()?;
    let key = keys::account(&command.service_account_id);
    let mut account: ServiceAccount = rows::read(&*tx.tables, &key)?
        .filter(|account: &ServiceAccount| account.status() != AccountStatus::Deleted)
        .ok_or_else(|| not_found("service account"))?;
    if account.callback_url != command.callback_url || account.callback_disabled_at_ms != 0 {
        return Err(reject(
            ErrorCode::Conflict,
            "the callback was changed meanwhile; nothing was disabled",
        ));
    }
    account.callback_disabled_at_ms = tx.now_ms;
    account.callback_disabled_reason.clone_from(&command.reason);
    account.updated_at_ms = tx.now_ms;
    let unchanged = NewSecret {
        given: None,
        fallback: None,
        overlap_ms: 0,
    };
    callbacks::follow(tx, &mut account, unchanged)?;
    rows::write(tx.tables, key, &account);
    tx.note_meta(None);
    Ok(done())
}
