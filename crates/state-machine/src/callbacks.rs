//! Meta group: which agents have their deliveries pushed, and the secrets that pushes are signed with.

use crate::apply::Effect;
use crate::keys;
use crate::query::page;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, Transaction, not_found};
use baton_protocol::limits;
use baton_protocol::proto::internal::{
    AccountStatus, Actor, CallbackSecret, CallbackSecrets, FindPushAgent, ListPushAgents, PushAgent,
    PushAgentPage, ServiceAccount,
};

/// Delivery mode of agents that are pushed to.
const PUSHED: &str = "http";
/// Longest time that two secrets sign side by side.
pub(crate) const SECRET_OVERLAP_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// What a call says about the secret of an account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSecret<'c> {
    pub(crate) given: Option<&'c CallbackSecret>,
    /// Taken when pushes need a secret and there is none.
    pub(crate) fallback: Option<&'c CallbackSecret>,
    pub(crate) overlap_ms: u64,
}

/// Brings secret and index of push agents up to date with an account. The caller writes its row afterwards. Whether
/// the secret was set.
pub(crate) fn follow(
    tx: &mut Transaction<'_, '_>,
    account: &mut ServiceAccount,
    new: NewSecret<'_>,
) -> Result<bool, Stop> {
    let secrets_key = keys::callback_secrets(&account.service_account_id);
    if account.status() == AccountStatus::Deleted {
        tx.tables.delete(secrets_key);
        account.callback_secret_set_at_ms = 0;
        list(tx, account)?;
        return Ok(false);
    }
    let before: Option<CallbackSecrets> = rows::read(&*tx.tables, &secrets_key)?;
    let needed = before.is_none() && account.delivery_mode == PUSHED;
    let chosen = new.given.or(new.fallback.filter(|_| needed));
    let set = chosen.filter(|secret| !secret.value.is_empty());
    if let Some(secret) = set {
        let until_ms = tx
            .now_ms
            .saturating_add(new.overlap_ms.min(SECRET_OVERLAP_MS_MAX));
        let before = before.unwrap_or_default();
        // The one that is in force already replaces nothing: the one before it keeps its time.
        let (previous, previous_until_ms) = if before.current.as_ref() == Some(secret) {
            (before.previous, before.previous_until_ms)
        } else {
            (before.current, until_ms)
        };
        let secrets = CallbackSecrets {
            current: Some(secret.clone()),
            previous: previous.filter(|_| new.overlap_ms > 0),
            previous_until_ms,
        };
        rows::write(tx.tables, secrets_key, &secrets);
        account.callback_secret_set_at_ms = tx.now_ms;
    }
    list(tx, account)?;
    Ok(set.is_some())
}

/// Puts the account in the index of push agents, or takes it out, and says so.
fn list(tx: &mut Transaction<'_, '_>, account: &ServiceAccount) -> Result<(), Stop> {
    let key = keys::push_agent(&account.address);
    let listed = tx.tables.get(&key)?.is_some();
    let pushed = account.status() == AccountStatus::Active
        && account.delivery_mode == PUSHED
        && !account.callback_url.is_empty()
        && account.callback_disabled_at_ms == 0;
    match (listed, pushed) {
        (false, false) => return Ok(()),
        (true, false) => tx.tables.delete(key),
        (_, true) => tx.tables.put(key, account.service_account_id.clone()),
    }
    tx.push_effect(Effect::Endpoint {
        address: account.address.clone(),
    });
    Ok(())
}

/// Secrets leave the tables only for the node itself, never in the name of a caller.
fn require_system(actor: Option<&Actor>) -> Result<(), Stop> {
    match actor {
        None => Ok(()),
        Some(_) => Err(not_found("query")),
    }
}

pub(crate) fn find_agent(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &FindPushAgent,
) -> Result<PushAgentPage, Stop> {
    require_system(actor)?;
    let id = rows::read_text(tables, &keys::push_agent(&q.address))?;
    let agent = match id {
        Some(id) => push_agent(tables, &id)?,
        None => None,
    };
    Ok(PushAgentPage {
        agents: agent.into_iter().collect(),
    })
}

pub(crate) fn list_agents(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &ListPushAgents,
) -> Result<PushAgentPage, Stop> {
    require_system(actor)?;
    let limit = page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX);
    let mut found = PushAgentPage::default();
    for (_, id) in rows::list(tables, &keys::push_agents_after(&q.after_address), limit)? {
        let id = String::from_utf8_lossy(&id);
        found.agents.extend(push_agent(tables, &id)?);
    }
    Ok(found)
}

fn push_agent(tables: &dyn Tables, account_id: &str) -> Result<Option<PushAgent>, TableError> {
    let account: Option<ServiceAccount> = rows::read(tables, &keys::account(account_id))?;
    let Some(account) = account else {
        return Ok(None);
    };
    Ok(Some(PushAgent {
        secrets: rows::read(tables, &keys::callback_secrets(account_id))?,
        address: account.address,
        service_account_id: account.service_account_id,
        callback_url: account.callback_url,
        org_id: account.org_id,
        workspace_id: account.workspace_id,
    }))
}

#[cfg(test)]
mod tests {
    use crate::Effect;
    use crate::testing::{Replica, actor, agent, refusal};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        AccountStatus, BootstrapCluster, CallbackSecret, ClusterRecord, CreateServiceAccount,
        DisableCallback, FindPushAgent, KeyKind, ListPushAgents, Organization, PushAgent, Reply,
        ServiceAccount, UpdateServiceAccount, Workspace, query, query_reply, reply,
    };

    fn meta() -> Replica {
        let mut replica = Replica::new(0, 1);
        replica.run(Body::Bootstrap(BootstrapCluster {
            cluster: Some(ClusterRecord::default()),
            organization: Some(Organization {
                org_id: "o1".into(),
                ..Organization::default()
            }),
            workspace: Some(Workspace {
                workspace_id: "w1".into(),
                org_id: "o1".into(),
                ..Workspace::default()
            }),
            ..BootstrapCluster::default()
        }));
        replica
    }

    fn secret(value: &str) -> Option<CallbackSecret> {
        Some(CallbackSecret { value: value.into() })
    }

    fn create(replica: &mut Replica, mode: &str, url: &str) -> Reply {
        replica.run(Body::CreateServiceAccount(CreateServiceAccount {
            service_account: Some(ServiceAccount {
                service_account_id: "sa1".into(),
                org_id: "o1".into(),
                workspace_id: "w1".into(),
                name: "worker".into(),
                address: agent("worker").address,
                delivery_mode: mode.into(),
                callback_url: url.into(),
                ..ServiceAccount::default()
            }),
            fallback_secret: secret("first"),
            ..CreateServiceAccount::default()
        }))
    }

    fn update(replica: &mut Replica, change: UpdateServiceAccount) -> (bool, ServiceAccount) {
        let command = UpdateServiceAccount {
            service_account_id: "sa1".into(),
            ..change
        };
        match replica.run(Body::UpdateServiceAccount(command)).outcome {
            Some(reply::Outcome::ServiceAccount(reply)) => {
                (reply.callback_secret_set, reply.service_account.unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn found(replica: &Replica) -> Option<PushAgent> {
        let q = FindPushAgent {
            address: agent("worker").address,
        };
        let query_reply::Outcome::PushAgents(one) = replica.ask(query::Body::FindPushAgent(q)) else {
            panic!("refused")
        };
        let all = query::Body::ListPushAgents(ListPushAgents::default());
        let query_reply::Outcome::PushAgents(all) = replica.ask(all) else {
            panic!("refused")
        };
        assert_eq!(one.agents, all.agents);
        one.agents.into_iter().next()
    }

    fn signing(replica: &Replica) -> (String, String, u64) {
        let secrets = found(replica).unwrap().secrets.unwrap();
        let text = |secret: Option<CallbackSecret>| secret.unwrap_or_default().value;
        (
            text(secrets.current),
            text(secrets.previous),
            secrets.previous_until_ms,
        )
    }

    fn mode(mode: &str) -> UpdateServiceAccount {
        UpdateServiceAccount {
            delivery_mode: Some(mode.into()),
            fallback_secret: secret("generated"),
            ..UpdateServiceAccount::default()
        }
    }

    const URL: &str = "https://hook.example.com/";

    #[test]
    fn an_agent_is_pushed_to_while_its_mode_is_http_and_it_has_an_url() {
        let mut replica = meta();
        create(&mut replica, "stream", "");
        assert_eq!(found(&replica), None);
        let (set, _) = update(&mut replica, mode("http"));
        assert!(set && found(&replica).is_none(), "there is no url yet");
        let with_url = UpdateServiceAccount {
            callback_url: Some(URL.into()),
            fallback_secret: secret("unused"),
            ..UpdateServiceAccount::default()
        };
        let (set, _) = update(&mut replica, with_url);
        assert!(!set, "it has a secret");
        let address = agent("worker").address;
        assert!(replica.last.effects.contains(&Effect::Endpoint { address }));
        assert_eq!(found(&replica).unwrap().callback_url, URL);
        assert_eq!(signing(&replica).0, "generated");
        update(&mut replica, mode("stream"));
        assert_eq!(found(&replica), None);
        update(&mut replica, mode("http"));
        assert_eq!(signing(&replica).0, "generated", "it is kept");
        let status = |status: AccountStatus| UpdateServiceAccount {
            status: status.into(),
            ..UpdateServiceAccount::default()
        };
        update(&mut replica, status(AccountStatus::Suspended));
        assert_eq!(found(&replica), None);
        update(&mut replica, status(AccountStatus::Deleted));
        assert_eq!(found(&replica), None);
    }

    #[test]
    fn the_old_secret_signs_beside_the_new_one_for_a_while() {
        let mut replica = meta();
        let answer = create(&mut replica, "http", URL);
        let Some(reply::Outcome::ServiceAccount(answer)) = answer.outcome else {
            panic!("refused")
        };
        assert!(answer.callback_secret_set);
        let rotate = |to: &str, overlap_ms| UpdateServiceAccount {
            callback_secret: secret(to),
            secret_overlap_ms: overlap_ms,
            ..UpdateServiceAccount::default()
        };
        let (set, account) = update(&mut replica, rotate("second", 5_000));
        assert!(set && account.callback_secret_set_at_ms == replica.now_ms);
        let until_ms = replica.now_ms + 5_000;
        assert_eq!(signing(&replica), ("second".into(), "first".into(), until_ms));
        replica.now_ms += 1_000;
        update(&mut replica, rotate("second", 60_000));
        let again = signing(&replica);
        assert_eq!(again, ("second".into(), "first".into(), until_ms), "said twice");
        update(&mut replica, rotate("third", 0));
        assert_eq!(
            (signing(&replica).0, signing(&replica).1),
            ("third".into(), String::new())
        );
    }

    #[test]
    fn an_endpoint_that_is_gone_is_left_alone_until_it_is_set_anew() {
        let mut replica = meta();
        create(&mut replica, "http", URL);
        let gone = |url: &str| {
            Body::DisableCallback(DisableCallback {
                service_account_id: "sa1".into(),
                callback_url: url.into(),
                reason: "it answered 410".into(),
            })
        };
        let other = replica.run(gone("https://other.example.com/"));
        assert_eq!(refusal(&other), Some(ErrorCode::Conflict));
        assert!(found(&replica).is_some());
        assert_eq!(refusal(&replica.run(gone(URL))), None);
        assert_eq!(found(&replica), None);
        let (_, account) = update(&mut replica, UpdateServiceAccount::default());
        assert_eq!(account.callback_disabled_reason, "it answered 410");
        let again = UpdateServiceAccount {
            callback_url: Some(URL.into()),
            ..UpdateServiceAccount::default()
        };
        let (_, account) = update(&mut replica, again);
        assert_eq!(
            (account.callback_disabled_at_ms, account.callback_disabled_reason),
            (0, String::new())
        );
        assert!(found(&replica).is_some());
    }

    #[test]
    fn secrets_are_answered_to_nobody() {
        let mut replica = meta();
        create(&mut replica, "http", URL);
        for kind in [KeyKind::Operator, KeyKind::Workspace, KeyKind::Agent] {
            let q = FindPushAgent {
                address: agent("worker").address,
            };
            for body in [
                query::Body::FindPushAgent(q.clone()),
                query::Body::ListPushAgents(ListPushAgents::default()),
            ] {
                let reply = replica.ask_as(Some(actor(kind, "worker")), body);
                assert!(matches!(reply, query_reply::Outcome::Rejected(_)), "{kind:?}");
            }
        }
    }
}
