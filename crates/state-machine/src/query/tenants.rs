//! Organizations, workspaces, service accounts and their keys.

use super::{Found, page};
use crate::keys;
use crate::rows;
use crate::tables::Tables;
use crate::transaction::{Stop, invalid, not_found};
use crate::visibility;
use baton_protocol::limits;
use baton_protocol::proto::internal::query_reply::Outcome;
use baton_protocol::proto::internal::{
    Actor, ApiKey, FindKey, GetTenant, KeyView, ListServiceAccounts, Organization, ServiceAccount,
    ServiceAccountPage, TenantView, Workspace,
};

pub(super) fn find_key(tables: &dyn Tables, q: &FindKey) -> Found {
    let key: ApiKey = rows::read(tables, &keys::api_key(&q.token_sha256))?.ok_or_else(|| not_found("key"))?;
    Ok(Outcome::Key(KeyView {
        service_account: rows::read(tables, &keys::account(&key.service_account_id))?,
        organization: rows::read(tables, &keys::organization(&key.org_id))?,
        workspace: rows::read(tables, &keys::workspace(&key.workspace_id))?,
        key: Some(key),
    }))
}

pub(super) fn readable_account(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    account_id: &str,
) -> Result<ServiceAccount, Stop> {
    rows::read(tables, &keys::account(account_id))?
        .filter(|a: &ServiceAccount| visibility::belongs_to(actor, &a.workspace_id))
        .ok_or_else(|| not_found("service account"))
}

pub(super) fn list_accounts(tables: &dyn Tables, actor: Option<&Actor>, q: &ListServiceAccounts) -> Found {
    let limit = page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX);
    let in_org = |a: &ServiceAccount| q.org_id.is_empty() || a.org_id == q.org_id;
    let mut service_accounts = Vec::new();
    if q.workspace_id.is_empty() {
        if !visibility::operates(actor) {
            return Err(invalid("workspace_id must be given"));
        }
        let mut failed = None;
        let range = keys::accounts();
        tables.scan(&range.from, &range.to, &mut |key, value| {
            match rows::decode::<ServiceAccount>(key, value.clone()) {
                Ok(account) if in_org(&account) => service_accounts.push(account),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            if failed.is_some() || service_accounts.len() >= limit {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    } else {
        if !visibility::belongs_to(actor, &q.workspace_id) {
            return Err(not_found("workspace"));
        }
        let mut range = keys::workspace_accounts(&q.workspace_id);
        if !q.after_account_id.is_empty() {
            range.from.extend_from_slice(q.after_account_id.as_bytes());
            // The first key after that account's own.
            range.from.push(0);
        }
        for (key, _) in rows::list(tables, &range, limit)? {
            let id = String::from_utf8_lossy(keys::account_of_workspace(&key, &q.workspace_id)).into_owned();
            let account: Option<ServiceAccount> = rows::read(tables, &keys::account(&id))?;
            service_accounts.extend(account.filter(in_org));
        }
    }
    Ok(Outcome::ServiceAccounts(ServiceAccountPage { service_accounts }))
}

pub(super) fn get_tenant(tables: &dyn Tables, actor: Option<&Actor>, q: &GetTenant) -> Found {
    let missing = || not_found("organization or workspace");
    let org_id = match q.org_id.as_str() {
        "" if q.org_slug.is_empty() => None,
        "" => Some(rows::read_text(tables, &keys::organization_slug(&q.org_slug))?.ok_or_else(missing)?),
        id => Some(id.to_owned()),
    };
    let workspace_id = match q.workspace_id.as_str() {
        "" if q.workspace_slug.is_empty() => None,
        "" => {
            let org_id = org_id.as_deref().ok_or_else(missing)?;
            let index = keys::workspace_slug(org_id, &q.workspace_slug);
            Some(rows::read_text(tables, &index)?.ok_or_else(missing)?)
        }
        id => Some(id.to_owned()),
    };
    let workspace: Option<Workspace> = match workspace_id {
        Some(id) => Some(rows::read(tables, &keys::workspace(&id))?.ok_or_else(missing)?),
        None => None,
    };
    let org_id = org_id
        .or_else(|| workspace.as_ref().map(|w| w.org_id.clone()))
        .ok_or_else(missing)?;
    if workspace.as_ref().is_some_and(|w| w.org_id != org_id) {
        return Err(missing());
    }
    let allowed = match &workspace {
        Some(workspace) => visibility::belongs_to(actor, &workspace.workspace_id),
        None => visibility::operates(actor) || actor.is_some_and(|a| a.org_id == org_id),
    };
    let organization: Option<Organization> = rows::read(tables, &keys::organization(&org_id))?;
    match organization {
        Some(organization) if allowed => Ok(Outcome::Tenant(TenantView {
            organization: Some(organization),
            workspace,
        })),
        Some(_) | None => Err(missing()),
    }
}
