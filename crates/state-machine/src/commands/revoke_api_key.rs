//! `RevokeApiKey`: a key stops working, everywhere and for good.

use crate::commands::create_api_key::key_reply;
use crate::idempotency;
use crate::tenants;
use crate::transaction::{Outcome, Transaction, not_found};
use baton_protocol::proto::internal::RevokeApiKey;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &RevokeApiKey) -> Outcome {
    tx.require_meta()?;
    let account = tenants::managed_account(&*tx.tables, command.actor.as_ref(), &command.service_account_id)?;
    idempotency::once_by_key(tx, command.idempotency.as_ref(), |tx| {
        let key = tenants::find_key(&*tx.tables, &account.service_account_id, &command.key_id)?
            .ok_or_else(|| not_found("key"))?;
        if key.revoked {
            return Ok(key_reply(key));
        }
        Ok(key_reply(tenants::revoke_key(tx, key)))
    })
}
