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

#[cfg(test)]
mod tests {
    use crate::Effect;
    use crate::testing::{Replica, actor, agent, refusal};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        AccountStatus, Actor, ApiKey, BootstrapCluster, ClusterRecord, CreateApiKey, CreateServiceAccount,
        FindAgent, FindKey, GetTenant, KeyKind, ListServiceAccounts, Organization, RevokeApiKey,
        ServiceAccount, UpdateServiceAccount, Workspace, query, query_reply, reply,
    };
    use bytes::Bytes;

    fn bootstrap() -> Body {
        Body::Bootstrap(BootstrapCluster {
            cluster: Some(ClusterRecord::default()),
            organization: Some(Organization {
                org_id: "o1".into(),
                slug: "acme".into(),
                ..Organization::default()
            }),
            workspace: Some(Workspace {
                workspace_id: "w1".into(),
                org_id: "o1".into(),
                slug: "prod".into(),
                ..Workspace::default()
            }),
            ..BootstrapCluster::default()
        })
    }

    fn create(caller: Actor, id: &str, name: &str, get_or_create: bool) -> Body {
        Body::CreateServiceAccount(CreateServiceAccount {
            actor: Some(caller),
            service_account: Some(ServiceAccount {
                service_account_id: id.into(),
                org_id: "o1".into(),
                workspace_id: "w1".into(),
                name: name.into(),
                address: agent(name).address,
                ..ServiceAccount::default()
            }),
            get_or_create,
            ..CreateServiceAccount::default()
        })
    }

    fn key(caller: Actor, id: u8, kind: KeyKind) -> Body {
        Body::CreateApiKey(CreateApiKey {
            actor: Some(caller),
            key: Some(ApiKey {
                key_id: format!("k{id}"),
                token_sha256: Bytes::copy_from_slice(&[id; 32]),
                kind: kind.into(),
                service_account_id: "sa1".into(),
                ..ApiKey::default()
            }),
            idempotency: None,
        })
    }

    fn workspace() -> Actor {
        actor(KeyKind::Workspace, "admin")
    }

    fn meta() -> Replica {
        let mut replica = Replica::new(0, 1);
        replica.run(bootstrap());
        replica.run(create(workspace(), "sa1", "worker", false));
        replica
    }

    #[test]
    fn a_cluster_begins_once_and_only_in_meta() {
        let mut replica = meta();
        assert_eq!(refusal(&replica.run(bootstrap())), Some(ErrorCode::Conflict));
        let mut shard = Replica::new(1, 1);
        assert_eq!(refusal(&shard.run(bootstrap())), Some(ErrorCode::InvalidArgument));
    }

    #[test]
    fn a_taken_name_answers_with_the_account() {
        let mut replica = meta();
        let conflict = replica.run(create(workspace(), "sa2", "worker", false));
        let Some(reply::Outcome::Rejected(rejection)) = conflict.outcome else {
            panic!("not refused")
        };
        let existing = rejection.existing_service_account.unwrap();
        assert_eq!(existing.service_account_id, "sa1");
        let found = replica.run(create(workspace(), "sa2", "worker", true));
        let Some(reply::Outcome::ServiceAccount(answer)) = found.outcome else {
            panic!("refused")
        };
        assert_eq!(answer.service_account.unwrap().service_account_id, "sa1");
        let by_agent = create(actor(KeyKind::Agent, "worker"), "sa3", "other", false);
        assert_eq!(refusal(&replica.run(by_agent)), Some(ErrorCode::PolicyDenied));
        let mut foreign = workspace();
        foreign.workspace_id = "w2".into();
        let reply = replica.run(create(foreign, "sa3", "other", false));
        assert_eq!(refusal(&reply), Some(ErrorCode::PolicyDenied));
    }

    #[test]
    fn keys_are_found_by_hash_and_revoked_for_good() {
        let mut replica = meta();
        replica.run(key(workspace(), 1, KeyKind::Agent));
        let denied = replica.run(key(workspace(), 2, KeyKind::Operator));
        assert_eq!(refusal(&denied), Some(ErrorCode::PolicyDenied));
        let taken = Body::CreateApiKey(CreateApiKey {
            actor: Some(workspace()),
            key: Some(ApiKey {
                key_id: "other".into(),
                token_sha256: Bytes::copy_from_slice(&[1; 32]),
                kind: KeyKind::Agent.into(),
                service_account_id: "sa1".into(),
                ..ApiKey::default()
            }),
            idempotency: None,
        });
        assert_eq!(refusal(&replica.run(taken)), Some(ErrorCode::Conflict));
        let find = |replica: &Replica| {
            let q = FindKey {
                token_sha256: Bytes::copy_from_slice(&[1; 32]),
            };
            let query_reply::Outcome::Key(view) = replica.ask(query::Body::FindKey(q)) else {
                panic!("not found")
            };
            view
        };
        let view = find(&replica);
        assert_eq!(view.service_account.unwrap().name, "worker");
        assert_eq!(view.workspace.unwrap().slug, "prod");
        assert_eq!(view.key.unwrap().workspace_id, "w1");
        let revoke = Body::RevokeApiKey(RevokeApiKey {
            actor: Some(workspace()),
            service_account_id: "sa1".into(),
            key_id: "k1".into(),
            idempotency: None,
        });
        replica.run(revoke.clone());
        let effect = Effect::Meta {
            revoked_token_sha256: Some(Bytes::copy_from_slice(&[1; 32])),
        };
        assert_eq!(replica.last.effects, [effect]);
        assert!(find(&replica).key.unwrap().revoked);
        let before = replica.hash();
        replica.run(revoke);
        assert_eq!(replica.hash(), before);
    }

    #[test]
    fn deleting_an_account_revokes_its_keys_and_frees_its_name() {
        let mut replica = meta();
        for n in 1..=3 {
            replica.run(key(workspace(), n, KeyKind::Agent));
        }
        let delete = Body::UpdateServiceAccount(UpdateServiceAccount {
            actor: Some(workspace()),
            service_account_id: "sa1".into(),
            status: AccountStatus::Deleted.into(),
            ..UpdateServiceAccount::default()
        });
        replica.run(delete);
        let revoked = replica.last.effects.iter().filter(|effect| {
            matches!(
                effect,
                Effect::Meta {
                    revoked_token_sha256: Some(_)
                }
            )
        });
        assert_eq!(revoked.count(), 3);
        let find = query::Body::FindAgent(FindAgent {
            address: agent("worker").address,
        });
        assert!(matches!(replica.ask(find), query_reply::Outcome::Rejected(_)));
        let again = replica.run(create(workspace(), "sa2", "worker", false));
        assert_eq!(refusal(&again), None);
    }

    #[test]
    fn tenants_are_read_by_id_or_slug_and_never_across() {
        let replica = meta();
        let by_slug = GetTenant {
            org_slug: "acme".into(),
            workspace_slug: "prod".into(),
            ..GetTenant::default()
        };
        let query_reply::Outcome::Tenant(tenant) = replica.ask(query::Body::GetTenant(by_slug.clone()))
        else {
            panic!("not found")
        };
        assert_eq!(tenant.workspace.unwrap().workspace_id, "w1");
        let mut foreign = workspace();
        foreign.workspace_id = "w2".into();
        foreign.org_id = "o2".into();
        let list = query::Body::ListServiceAccounts(ListServiceAccounts {
            workspace_id: "w1".into(),
            ..ListServiceAccounts::default()
        });
        for body in [query::Body::GetTenant(by_slug), list.clone()] {
            let reply = replica.ask_as(Some(foreign.clone()), body);
            assert!(matches!(reply, query_reply::Outcome::Rejected(_)), "{reply:?}");
        }
        let query_reply::Outcome::ServiceAccounts(page) = replica.ask_as(Some(workspace()), list) else {
            panic!("refused")
        };
        assert_eq!(page.service_accounts.len(), 1);
    }
}
