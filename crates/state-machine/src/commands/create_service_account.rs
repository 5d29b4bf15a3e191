//! `CreateServiceAccount`: a new agent identity in a workspace.

use crate::callbacks::{self, NewSecret};
use crate::idempotency;
use crate::keys;
use crate::rows;
use crate::tenants;
use crate::transaction::{Outcome, Stop, Transaction, invalid, not_found, reply};
use crate::visibility;
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{
    AccountStatus, CreateServiceAccount, Rejection, Reply, ServiceAccount, ServiceAccountReply, Workspace,
    reply as outcome,
};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &CreateServiceAccount) -> Outcome {
    tx.require_meta()?;
    let wanted = command
        .service_account
        .as_ref()
        .filter(|a| !a.service_account_id.is_empty() && !a.name.is_empty() && !a.address.is_empty())
        .ok_or_else(|| invalid("a service account needs an id, a name and an address"))?;
    tenants::require_manager(command.actor.as_ref(), &wanted.workspace_id)?;
    let workspace: Workspace = rows::read(&*tx.tables, &keys::workspace(&wanted.workspace_id))?
        .ok_or_else(|| not_found("workspace"))?;
    if workspace.org_id != wanted.org_id {
        return Err(not_found("workspace"));
    }
    idempotency::once_by_key(tx, command.idempotency.as_ref(), |tx| {
        if let Some(existing) = existing(tx, wanted)? {
            return taken(command, existing);
        }
        let mut account = wanted.clone();
        account.status = AccountStatus::Active.into();
        account.created_at_ms = tx.now_ms;
        account.updated_at_ms = tx.now_ms;
        if account.created_by_actor_id.is_empty() {
            account.created_by_actor_id = visibility::label(command.actor.as_ref()).to_owned();
        }
        let secret = NewSecret {
            given: command.callback_secret.as_ref(),
            fallback: command.fallback_secret.as_ref(),
            overlap_ms: 0,
        };
        let secret_set = callbacks::follow(tx, &mut account, secret)?;
        tenants::put_new_account(tx, &account)?;
        tx.note_meta(None);
        Ok(account_reply(account, secret_set))
    })
}

pub(crate) fn account_reply(account: ServiceAccount, callback_secret_set: bool) -> Reply {
    reply(outcome::Outcome::ServiceAccount(ServiceAccountReply {
        service_account: Some(account),
        callback_secret_set,
    }))
}

/// What already has this name, address or id.
fn existing(tx: &Transaction<'_, '_>, wanted: &ServiceAccount) -> Result<Option<ServiceAccount>, Stop> {
    let tables = &*tx.tables;
    for index in [
        keys::account_name(&wanted.workspace_id, &wanted.name),
        keys::account_address(&wanted.address),
    ] {
        if let Some(id) = rows::read_text(tables, &index)? {
            return Ok(rows::read(tables, &keys::account(&id))?);
        }
    }
    Ok(rows::read(tables, &keys::account(&wanted.service_account_id))?)
}

fn taken(command: &CreateServiceAccount, existing: ServiceAccount) -> Outcome {
    let here = command
        .service_account
        .as_ref()
        .is_some_and(|wanted| wanted.workspace_id == existing.workspace_id);
    if command.get_or_create && here && existing.status() == AccountStatus::Active {
        return Ok(account_reply(existing, false));
    }
    Err(Stop::Rejected(Box::new(Rejection {
        code: ErrorCode::Conflict.number(),
        message: "a service account with this name or address exists already; use it or choose another name"
            .into(),
        existing_service_account: here.then_some(existing),
    })))
}
