//! Service accounts and their keys.

use baton_protocol::address::{Scope, canonical, sa_name_from};
use baton_protocol::limits::{LIST_PAGE_DEFAULT, LIST_PAGE_MAX};
use baton_protocol::proto::internal::{
    AccountStatus, ApiKey, CreateApiKey, CreateServiceAccount, GetServiceAccount, GetTenant, KeyKind,
    ListServiceAccounts, RevokeApiKey, ServiceAccount, ServiceAccountReply, UpdateServiceAccount, command,
    query, query_reply, reply,
};
use baton_protocol::{ErrorCode, Route, ServiceError};
use sha2::{Digest, Sha256};

use super::idempotency::claim;
use super::{Caller, Failure, IdempotencyRequest, SecretChange, Service, hex, unexpected};

/// Every machine key starts like this.
pub(crate) const TOKEN_PREFIX: &str = "axme_sa_";
/// Of an account id, beside the name.
const ID_BYTES: usize = 6;
/// How long the secret before signs beside a new one.
const SECRET_OVERLAP_SECONDS_DEFAULT: u64 = 24 * 3_600;
const SECRET_OVERLAP_SECONDS_MAX: u64 = 30 * 24 * 3_600;
/// Characters of a token that are shown again later.
const HINT_CHARS: usize = 6;

/// A checked request for a new account.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewAccount {
    /// The caller's own when absent.
    pub org_id: Option<String>,
    /// The caller's own when absent.
    pub workspace_id: Option<String>,
    /// Exactly as the client sent it.
    pub name: String,
    pub description: String,
    pub display_name: String,
    pub created_by_actor_id: Option<String>,
    pub delivery_mode: String,
    pub callback_url: String,
    pub callback_secret: SecretChange,
    pub idempotency: Option<IdempotencyRequest>,
}

/// Fields of an account to change; absent ones stay.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccountPatch {
    pub delivery_mode: Option<String>,
    pub callback_url: Option<String>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub status: Option<AccountStatus>,
    pub callback_secret: SecretChange,
    /// How long the secret before signs beside a new one.
    pub secret_overlap_ms: u64,
    pub idempotency: Option<IdempotencyRequest>,
}

/// An account that was created, found or changed.
#[derive(Clone)]
pub(crate) struct PutAccount {
    pub account: ServiceAccount,
    pub created: bool,
    /// The callback secret, when this call set it.
    pub callback_secret: Option<String>,
}

impl std::fmt::Debug for PutAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutAccount")
            .field("account", &self.account)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// A checked request for a new key.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewKey {
    /// Agent key unless asked otherwise.
    pub kind: Option<KeyKind>,
    pub name: String,
    pub description: String,
    /// Unix milliseconds; 0 = never.
    pub expires_at_ms: u64,
    pub idempotency: Option<IdempotencyRequest>,
}

/// A new key and the only copy of its token.
#[derive(Clone)]
pub(crate) struct CreatedKey {
    pub key: ApiKey,
    pub token: String,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey")
            .field("key_id", &self.key.key_id)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Registers an account and with it an agent address.
    pub(crate) async fn create_account(
        &self,
        caller: &Caller,
        new: NewAccount,
    ) -> Result<PutAccount, Failure> {
        self.put_account(caller, new, false).await
    }

    /// Registers an account, or returns the one that has the name already. A repeated call is answered like the
    /// first.
    pub(crate) async fn put_account(
        &self,
        caller: &Caller,
        new: NewAccount,
        get_or_create: bool,
    ) -> Result<PutAccount, Failure> {
        check_manager(caller)?;
        self.check_callback_url(&new.callback_url)?;
        let (mode, request) = (Some(new.delivery_mode.as_str()), new.idempotency.as_ref());
        let secrets = self.secrets(caller, new.callback_secret, mode, request).await?;
        let scope = self
            .managed_scope(caller, new.org_id.as_deref(), new.workspace_id.as_deref())
            .await?;
        let sa_name = sa_name_from(&new.name)?;
        let now = self.ports.environment.now_ms();
        let claim = new.idempotency.as_ref().map(|r| claim(caller, r));
        // A repeated get-or-create names the same id, by which it knows that the account is its own.
        let unique = match &claim {
            Some(claim) if get_or_create => hex(&claim.key_hash[..ID_BYTES]),
            _ => hex(&self.random::<ID_BYTES>()),
        };
        let account = ServiceAccount {
            service_account_id: format!("sa_{sa_name}_{unique}"),
            address: canonical(&scope.org_slug, &scope.workspace_slug, &sa_name),
            org_id: scope.org_id,
            workspace_id: scope.workspace_id,
            name: new.name,
            display_name: new.display_name,
            description: new.description,
            status: AccountStatus::Active.into(),
            created_by_actor_id: new
                .created_by_actor_id
                .unwrap_or_else(|| caller.account.address.clone()),
            delivery_mode: new.delivery_mode,
            callback_url: new.callback_url,
            created_at_ms: now,
            updated_at_ms: now,
            ..ServiceAccount::default()
        };
        let id = account.service_account_id.clone();
        let body = command::Body::CreateServiceAccount(CreateServiceAccount {
            actor: Some(caller.audited_actor(None, None)),
            service_account: Some(account),
            get_or_create,
            idempotency: claim,
            callback_secret: secrets.given.clone(),
            fallback_secret: secrets.fallback.clone(),
        });
        let reply = self.propose_account(body).await?;
        let account = reply.service_account.unwrap_or_default();
        Ok(PutAccount {
            created: account.service_account_id == id,
            callback_secret: secrets.shown(reply.callback_secret_set),
            account,
        })
    }

    /// Accounts of a workspace that are not deleted, in the order of their ids, from behind `after`.
    pub(crate) async fn list_accounts(
        &self,
        caller: &Caller,
        org_id: Option<&str>,
        workspace_id: Option<&str>,
        limit: Option<u32>,
        after: Option<String>,
    ) -> Result<Vec<ServiceAccount>, ServiceError> {
        let scope = self.managed_scope(caller, org_id, workspace_id).await?;
        let query = query::Body::ListServiceAccounts(ListServiceAccounts {
            org_id: scope.org_id,
            workspace_id: scope.workspace_id,
            limit: limit.unwrap_or(LIST_PAGE_DEFAULT).min(LIST_PAGE_MAX),
            after_account_id: after.unwrap_or_default(),
        });
        let actor = Some(caller.actor(None, None));
        let found = self.read(Route::Meta, actor, query).await?;
        let query_reply::Outcome::ServiceAccounts(page) = found else {
            return Err(unexpected("something else than service accounts"));
        };
        Ok(page.service_accounts)
    }

    /// One account.
    pub(crate) async fn get_account(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<ServiceAccount, ServiceError> {
        let query = query::Body::GetServiceAccount(GetServiceAccount {
            service_account_id: id.to_owned(),
        });
        let actor = Some(caller.actor(None, None));
        let found = self.read(Route::Meta, actor, query).await?;
        let query_reply::Outcome::ServiceAccount(account) = found else {
            return Err(unexpected("something else than a service account"));
        };
        Ok(account)
    }

    /// Changes an account.
    pub(crate) async fn update_account(
        &self,
        caller: &Caller,
        id: &str,
        patch: AccountPatch,
    ) -> Result<PutAccount, Failure> {
        check_manager(caller)?;
        self.check_callback_url(patch.callback_url.as_deref().unwrap_or_default())?;
        let (mode, request) = (patch.delivery_mode.as_deref(), patch.idempotency.as_ref());
        let secrets = self.secrets(caller, patch.callback_secret, mode, request).await?;
        let body = command::Body::UpdateServiceAccount(UpdateServiceAccount {
            actor: Some(caller.audited_actor(None, None)),
            service_account_id: id.to_owned(),
            delivery_mode: patch.delivery_mode,
            callback_url: patch.callback_url,
            display_name: patch.display_name,
            description: patch.description,
            status: patch.status.unwrap_or(AccountStatus::Unspecified).into(),
            idempotency: patch.idempotency.as_ref().map(|r| claim(caller, r)),
            callback_secret: secrets.given.clone(),
            fallback_secret: secrets.fallback.clone(),
            secret_overlap_ms: patch.secret_overlap_ms,
        });
        let reply = self.propose_account(body).await?;
        Ok(PutAccount {
            account: reply.service_account.unwrap_or_default(),
            created: false,
            callback_secret: secrets.shown(reply.callback_secret_set),
        })
    }

    /// Makes a key for an account. The token is not kept: only the same call with the same idempotency key shows it
    /// again.
    pub(crate) async fn create_key(
        &self,
        caller: &Caller,
        account_id: &str,
        new: NewKey,
    ) -> Result<CreatedKey, Failure> {
        check_manager(caller)?;
        let kind = new.kind.unwrap_or(KeyKind::Agent);
        if kind == KeyKind::Operator && !caller.is_operator() {
            return Err(scope_error("only an operator key may create operator keys").into());
        }
        let request = new.idempotency.as_ref();
        let drawn = self.draw_token(caller, account_id, request).await?;
        let token = drawn.token;
        // Organization, workspace and time of creation are the state machine's to fill in.
        let key = ApiKey {
            key_id: drawn.key_id,
            token_sha256: token_hash(&token).to_vec().into(),
            key_hint: format!("…{}", &token[token.len() - HINT_CHARS..]),
            kind: kind.into(),
            service_account_id: account_id.to_owned(),
            expires_at_ms: new.expires_at_ms,
            name: new.name,
            description: new.description,
            ..ApiKey::default()
        };
        let key = self
            .propose_key(command::Body::CreateApiKey(CreateApiKey {
                actor: Some(caller.audited_actor(None, None)),
                key: Some(key),
                idempotency: request.map(|r| claim(caller, r)),
            }))
            .await?;
        Ok(CreatedKey { key, token })
    }

    /// Ends a key everywhere.
    pub(crate) async fn revoke_key(
        &self,
        caller: &Caller,
        account_id: &str,
        key_id: &str,
        idempotency: Option<IdempotencyRequest>,
    ) -> Result<ApiKey, Failure> {
        check_manager(caller)?;
        self.propose_key(command::Body::RevokeApiKey(RevokeApiKey {
            actor: Some(caller.audited_actor(None, None)),
            service_account_id: account_id.to_owned(),
            key_id: key_id.to_owned(),
            idempotency: idempotency.as_ref().map(|r| claim(caller, r)),
        }))
        .await
    }

    async fn propose_account(&self, body: command::Body) -> Result<ServiceAccountReply, Failure> {
        let reply = self.ports.proposer.propose(Route::Meta, body).await?;
        match reply.outcome {
            Some(reply::Outcome::ServiceAccount(reply)) if reply.service_account.is_some() => Ok(reply),
            Some(reply::Outcome::ServiceAccount(_)) => Err(unexpected("an empty account").into()),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a service account").into()),
        }
    }

    async fn propose_key(&self, body: command::Body) -> Result<ApiKey, Failure> {
        let reply = self.ports.proposer.propose(Route::Meta, body).await?;
        match reply.outcome {
            Some(reply::Outcome::ApiKey(reply)) => {
                reply.api_key.ok_or_else(|| unexpected("an empty key").into())
            }
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a key").into()),
        }
    }

    /// The workspace a management call is about.
    pub(super) async fn managed_scope(
        &self,
        caller: &Caller,
        org_id: Option<&str>,
        workspace_id: Option<&str>,
    ) -> Result<Scope, ServiceError> {
        let own = &caller.scope;
        let org_id = org_id.unwrap_or(&own.org_id);
        let workspace_id = workspace_id.unwrap_or(&own.workspace_id);
        if *org_id == own.org_id && *workspace_id == own.workspace_id {
            return Ok(own.clone());
        }
        if !caller.is_operator() {
            return Err(scope_error(
                "org_id and workspace_id do not match this key; use a key of that workspace",
            ));
        }
        let found = self
            .tenant(GetTenant {
                org_id: org_id.to_owned(),
                workspace_id: workspace_id.to_owned(),
                ..GetTenant::default()
            })
            .await?;
        found.ok_or_else(|| {
            ServiceError::new(
                ErrorCode::NotFound,
                format!("workspace {workspace_id} of organization {org_id} does not exist"),
            )
        })
    }
}

/// How long the secret before signs beside a new one: what the call says, or a day.
///
/// # Errors
/// `InvalidArgument` for more than 30 days, naming `field`.
pub(crate) fn secret_overlap_ms(seconds: Option<u64>, field: &'static str) -> Result<u64, ServiceError> {
    let seconds = seconds.unwrap_or(SECRET_OVERLAP_SECONDS_DEFAULT);
    if seconds > SECRET_OVERLAP_SECONDS_MAX {
        let message = format!("{field} must be 0 to {SECRET_OVERLAP_SECONDS_MAX}");
        return Err(ServiceError::new(ErrorCode::InvalidArgument, message).in_field(field));
    }
    Ok(seconds * 1_000)
}

/// SHA-256 of a whole token, the only form that is stored.
pub(crate) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn check_manager(caller: &Caller) -> Result<(), ServiceError> {
    match caller.kind() {
        KeyKind::Operator | KeyKind::Workspace => Ok(()),
        KeyKind::Agent | KeyKind::Unspecified => Err(scope_error(
            "agent keys may not manage service accounts; use a workspace key",
        )),
    }
}

fn scope_error(message: &str) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidActorScope, message)
}
