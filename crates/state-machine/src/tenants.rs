//! Rows of the meta group: organizations, workspaces, service accounts and keys, with their indexes.

use crate::keys;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, Transaction, not_found, reject};
use crate::visibility;
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{Actor, ApiKey, Organization, ServiceAccount, Workspace};

pub(crate) fn put_organization(tx: &mut Transaction<'_, '_>, organization: &Organization) {
    let id = &organization.org_id;
    rows::write(tx.tables, keys::organization(id), organization);
    tx.tables
        .put(keys::organization_slug(&organization.slug), id.clone());
}

pub(crate) fn put_workspace(tx: &mut Transaction<'_, '_>, workspace: &Workspace) {
    let id = &workspace.workspace_id;
    rows::write(tx.tables, keys::workspace(id), workspace);
    tx.tables.put(
        keys::workspace_slug(&workspace.org_id, &workspace.slug),
        id.clone(),
    );
}

/// Writes a new account with its indexes.
pub(crate) fn put_new_account(tx: &mut Transaction<'_, '_>, account: &ServiceAccount) -> Result<(), Stop> {
    let id = &account.service_account_id;
    rows::write(tx.tables, keys::account(id), account);
    tx.tables.put(keys::account_address(&account.address), id.clone());
    tx.tables.put(
        keys::account_name(&account.workspace_id, &account.name),
        id.clone(),
    );
    tx.tables
        .put(keys::workspace_account(&account.workspace_id, id), Vec::new());
    count_accounts(tx, 1)
}

/// A deleted account frees its name and address and leaves the lists.
pub(crate) fn unlist_account(tx: &mut Transaction<'_, '_>, account: &ServiceAccount) -> Result<(), Stop> {
    tx.tables.delete(keys::account_address(&account.address));
    tx.tables
        .delete(keys::account_name(&account.workspace_id, &account.name));
    tx.tables.delete(keys::workspace_account(
        &account.workspace_id,
        &account.service_account_id,
    ));
    count_accounts(tx, -1)
}

fn count_accounts(tx: &mut Transaction<'_, '_>, change: i64) -> Result<(), Stop> {
    let count = rows::read_u64(&*tx.tables, &keys::account_count())?.unwrap_or(0);
    rows::write_u64(
        tx.tables,
        keys::account_count(),
        count.saturating_add_signed(change),
    );
    Ok(())
}

pub(crate) fn put_key(tx: &mut Transaction<'_, '_>, key: &ApiKey) {
    rows::write(tx.tables, keys::api_key(&key.token_sha256), key);
    tx.tables.put(
        keys::account_key(&key.service_account_id, &key.key_id),
        key.token_sha256.clone(),
    );
}

pub(crate) fn find_key(
    tables: &dyn Tables,
    account_id: &str,
    key_id: &str,
) -> Result<Option<ApiKey>, TableError> {
    match tables.get(&keys::account_key(account_id, key_id))? {
        Some(sha) => rows::read(tables, &keys::api_key(&sha)),
        None => Ok(None),
    }
}

pub(crate) fn revoke_key(tx: &mut Transaction<'_, '_>, mut key: ApiKey) -> ApiKey {
    key.revoked = true;
    key.revoked_at_ms = tx.now_ms;
    rows::write(tx.tables, keys::api_key(&key.token_sha256), &key);
    tx.note_meta(Some(key.token_sha256.clone()));
    key
}

pub(crate) fn revoke_all_keys(tx: &mut Transaction<'_, '_>, account_id: &str) -> Result<(), Stop> {
    for (_, sha) in rows::list(&*tx.tables, &keys::account_keys(account_id), usize::MAX)? {
        let key: Option<ApiKey> = rows::read(&*tx.tables, &keys::api_key(&sha))?;
        if let Some(key) = key.filter(|k| !k.revoked) {
            revoke_key(tx, key);
        }
    }
    Ok(())
}

/// Refuses who may not manage accounts of this workspace.
pub(crate) fn require_manager(actor: Option<&Actor>, workspace_id: &str) -> Result<(), Stop> {
    if visibility::manages(actor, workspace_id) {
        Ok(())
    } else {
        Err(reject(
            ErrorCode::PolicyDenied,
            "managing service accounts needs a workspace key of that workspace",
        ))
    }
}

/// An account that the actor may change: unknown and foreign ones look the same.
pub(crate) fn managed_account(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    account_id: &str,
) -> Result<ServiceAccount, Stop> {
    let account: ServiceAccount = rows::read(tables, &keys::account(account_id))?
        .filter(|a: &ServiceAccount| visibility::belongs_to(actor, &a.workspace_id))
        .ok_or_else(|| not_found("service account"))?;
    require_manager(actor, &account.workspace_id)?;
    Ok(account)
}
