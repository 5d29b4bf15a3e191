//! `CreateApiKey`: a further machine key of a service account. Only its hash gets here.

use crate::idempotency;
use crate::keys;
use crate::rows;
use crate::tenants;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject, reply};
use crate::visibility;
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{
    AccountStatus, Actor, ApiKey, ApiKeyReply, CreateApiKey, KeyKind, Reply, ServiceAccount, reply as outcome,
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
    idempotency::once_by_key(tx, command.idempotency.as_ref(), |tx| {
        check(actor, &account, wanted, tx.now_ms)?;
        create(tx, account, wanted)
    })
}

fn check(actor: Option<&Actor>, account: &ServiceAccount, wanted: &ApiKey, now_ms: u64) -> Result<(), Stop> {
    if account.status() != AccountStatus::Active {
        return Err(reject(
            ErrorCode::Conflict,
            "service account is not active; activate it first",
        ));
    }
    if wanted.expires_at_ms != 0 && wanted.expires_at_ms <= now_ms {
        return Err(invalid(
            "expires_at is in the past; such a key would open nothing",
        ));
    }
    match wanted.kind() {
        KeyKind::Agent | KeyKind::Workspace => Ok(()),
        KeyKind::Operator if visibility::operates(actor) => Ok(()),
        KeyKind::Operator => Err(reject(
            ErrorCode::PolicyDenied,
            "only an operator key may create operator keys",
        )),
        KeyKind::Unspecified => Err(invalid("key kind is missing")),
    }
}

fn create(tx: &mut Transaction<'_, '_>, account: ServiceAccount, wanted: &ApiKey) -> Outcome {
    let same_token: Option<ApiKey> = rows::read(&*tx.tables, &keys::api_key(&wanted.token_sha256))?;
    if let Some(known) = same_token {
        if known.key_id != wanted.key_id || known.service_account_id != wanted.service_account_id {
            return Err(reject(ErrorCode::Conflict, "token is in use; draw a new one"));
        }
        if known.revoked {
            return Err(reject(
                ErrorCode::Conflict,
                "this key was created before and is revoked; use another idempotency key for a new one",
            ));
        }
        // The same create again, after its idempotency record; a chance hit of 256 random bits does not exist.
        return Ok(key_reply(known));
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

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, refusal};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        ApiKey, BootstrapCluster, ClusterRecord, CreateApiKey, CreateServiceAccount, GetCluster,
        GetTokenSecret, IdempotencyClaim, KeyKind, Pulse, Reply, RevokeApiKey, ServiceAccount,
        UpdateServiceAccount, Workspace, query, query_reply,
    };
    use bytes::Bytes;

    fn meta() -> Replica {
        let mut replica = Replica::new(0, 1);
        replica.run(Body::Bootstrap(BootstrapCluster {
            cluster: Some(ClusterRecord {
                token_secret: Bytes::from_static(b"secret"),
                ..ClusterRecord::default()
            }),
            workspace: Some(Workspace {
                workspace_id: "w1".into(),
                org_id: "o1".into(),
                ..Workspace::default()
            }),
            ..BootstrapCluster::default()
        }));
        replica.run(Body::CreateServiceAccount(CreateServiceAccount {
            actor: Some(actor(KeyKind::Workspace, "admin")),
            service_account: Some(ServiceAccount {
                service_account_id: "sa1".into(),
                org_id: "o1".into(),
                workspace_id: "w1".into(),
                name: "worker".into(),
                address: agent("worker").address,
                ..ServiceAccount::default()
            }),
            ..CreateServiceAccount::default()
        }));
        replica
    }

    fn claim(key: &'static [u8], request: &'static [u8]) -> Option<IdempotencyClaim> {
        Some(IdempotencyClaim {
            key_hash: Bytes::from_static(key),
            request_hash: Bytes::from_static(request),
            in_intent_slot: false,
        })
    }

    /// A call that a gateway repeats: id and token hash follow from the call.
    fn create(request: &'static [u8], token: u8) -> Body {
        Body::CreateApiKey(CreateApiKey {
            actor: Some(actor(KeyKind::Workspace, "admin")),
            key: Some(ApiKey {
                key_id: format!("key_{token}"),
                token_sha256: Bytes::copy_from_slice(&[token; 32]),
                kind: KeyKind::Agent.into(),
                service_account_id: "sa1".into(),
                ..ApiKey::default()
            }),
            idempotency: claim(b"create", request),
        })
    }

    fn revoke() -> Body {
        Body::RevokeApiKey(RevokeApiKey {
            actor: Some(actor(KeyKind::Workspace, "admin")),
            service_account_id: "sa1".into(),
            key_id: "key_1".into(),
            idempotency: claim(b"revoke", b""),
        })
    }

    fn after_retention(replica: &mut Replica) {
        replica.now_ms += replica.ctx.settings.idempotency_retention_ms + 1;
        replica.run(Body::Pulse(Pulse {}));
    }

    fn replay_of(first: &Reply) -> Reply {
        Reply {
            replayed: true,
            outcome: first.outcome.clone(),
        }
    }

    #[test]
    fn a_repeated_create_is_one_key() {
        let mut replica = meta();
        let first = replica.run(create(b"a", 1));
        replica.now_ms += 1_000;
        assert_eq!(replica.run(create(b"a", 1)), replay_of(&first));
        let rows = replica.hash();
        assert_eq!(replica.run(create(b"a", 1)), replay_of(&first));
        let other = replica.run(create(b"b", 2));
        assert_eq!(refusal(&other), Some(ErrorCode::IdempotencyConflict));
        assert_eq!(replica.hash(), rows);
        // The key outlives the record: the call still makes no second one, and never revives a revoked one.
        after_retention(&mut replica);
        assert_eq!(replica.run(create(b"a", 1)).outcome, first.outcome);
        replica.run(revoke());
        after_retention(&mut replica);
        assert_eq!(refusal(&replica.run(create(b"a", 1))), Some(ErrorCode::Conflict));
    }

    #[test]
    fn a_refused_create_may_be_corrected() {
        let mut replica = meta();
        let Body::CreateApiKey(mut late) = create(b"a", 1) else {
            unreachable!()
        };
        late.key.as_mut().unwrap().expires_at_ms = replica.now_ms;
        let refused = replica.run(Body::CreateApiKey(late));
        assert_eq!(refusal(&refused), Some(ErrorCode::InvalidArgument));
        assert_eq!(refusal(&replica.run(create(b"b", 2))), None);
    }

    #[test]
    fn repeated_changes_and_revocations_answer_as_before() {
        let mut replica = meta();
        let change = |name: &str, key: &'static [u8]| {
            Body::UpdateServiceAccount(UpdateServiceAccount {
                actor: Some(actor(KeyKind::Workspace, "admin")),
                service_account_id: "sa1".into(),
                display_name: Some(name.into()),
                idempotency: claim(key, if name == "One" { b"1" } else { b"2" }),
                ..UpdateServiceAccount::default()
            })
        };
        let first = replica.run(change("One", b"first"));
        replica.run(change("Two", b"second"));
        assert_eq!(replica.run(change("One", b"first")), replay_of(&first));
        let conflict = replica.run(change("Two", b"first"));
        assert_eq!(refusal(&conflict), Some(ErrorCode::IdempotencyConflict));
        replica.run(create(b"a", 1));
        let revoked = replica.run(revoke());
        replica.now_ms += 1_000;
        assert_eq!(replica.run(revoke()), replay_of(&revoked));
    }

    #[test]
    fn the_token_secret_is_for_the_system_alone() {
        let replica = meta();
        let ask = || query::Body::GetTokenSecret(GetTokenSecret {});
        let expected = query_reply::Outcome::TokenSecret(Bytes::from_static(b"secret"));
        assert_eq!(replica.ask(ask()), expected);
        for kind in [KeyKind::Operator, KeyKind::Workspace, KeyKind::Agent] {
            let reply = replica.ask_as(Some(actor(kind, "someone")), ask());
            assert!(matches!(reply, query_reply::Outcome::Rejected(_)), "{kind:?}");
        }
        let query_reply::Outcome::Cluster(view) = replica.ask(query::Body::GetCluster(GetCluster {})) else {
            panic!("no cluster")
        };
        assert!(view.cluster.unwrap().token_secret.is_empty());
    }
}
