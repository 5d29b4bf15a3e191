//! Who calls: machine keys, looked up by hash in this node's replica of the meta group.
//!
//! Nothing is cached beside that replica, so a revoked key stops as soon as the revocation is applied here, and a
//! replica that may have missed one refuses to answer until it has caught up.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use baton_protocol::address::Scope;
use baton_protocol::proto::internal::{
    AccountStatus, CallContext, FindKey, KeyView, Query, query, query_reply,
};
use baton_protocol::{ErrorCode, Route, ServiceError};
use subtle::ConstantTimeEq;

use crate::service::accounts::{TOKEN_PREFIX, token_hash};
use crate::service::{Caller, Service};

const API_KEY_HEADER: &str = "x-api-key";

/// The hash of a presented token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credential([u8; 32]);

enum Lookup {
    Active(Box<Caller>),
    /// Known, but revoked, expired or of a suspended account.
    Refused,
    Unknown,
}

impl Credential {
    /// Reads the machine key of a request. A bearer token beside an `x-api-key` is an actor token, and ignored.
    ///
    /// # Errors
    /// `MissingApiKey`; `InvalidActorToken` when only a token of another kind is there.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, ServiceError> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        if let Some(key) = text(API_KEY_HEADER).filter(|k| !k.is_empty()) {
            return Ok(Self(token_hash(key)));
        }
        match text(AUTHORIZATION.as_str()).and_then(bearer) {
            Some(token) if token.starts_with(TOKEN_PREFIX) => Ok(Self(token_hash(token))),
            Some(_) => Err(ServiceError::new(
                ErrorCode::InvalidActorToken,
                "actor tokens are not accepted; send a machine key in x-api-key",
            )),
            None => Err(ServiceError::new(
                ErrorCode::MissingApiKey,
                "send a machine key in x-api-key or as a bearer token",
            )),
        }
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

impl Service {
    /// The caller behind a credential.
    ///
    /// # Errors
    /// `InvalidApiKey`; `Unavailable` or `StaleReplica` when this node cannot tell.
    pub(crate) async fn authenticate(&self, credential: Credential) -> Result<Box<Caller>, ServiceError> {
        let found = match self.look_up(credential) {
            Ok(Lookup::Unknown) => self.look_up_fresh(credential).await?,
            Ok(found) => found,
            Err(error) if error.code.retryable() => self.look_up_fresh(credential).await?,
            Err(error) => return Err(error),
        };
        match found {
            Lookup::Active(caller) => Ok(caller),
            Lookup::Refused | Lookup::Unknown => Err(ServiceError::new(
                ErrorCode::InvalidApiKey,
                "the machine key is unknown, revoked or expired",
            )),
        }
    }

    async fn look_up_fresh(&self, credential: Credential) -> Result<Lookup, ServiceError> {
        self.ports.reader.refresh_meta().await?;
        self.look_up(credential)
    }

    fn look_up(&self, credential: Credential) -> Result<Lookup, ServiceError> {
        let query = Query {
            actor: None,
            body: Some(query::Body::FindKey(FindKey {
                token_sha256: credential.0.to_vec().into(),
            })),
        };
        let reply = self.ports.reader.read_local(Route::Meta, &query)?;
        match reply.outcome {
            Some(query_reply::Outcome::Key(view)) => {
                Ok(judge(view, credential, self.ports.environment.now_ms()))
            }
            Some(query_reply::Outcome::Rejected(rejection)) => {
                let error = ServiceError::from(rejection);
                if error.code.http() == 404 || error.code == ErrorCode::InvalidApiKey {
                    Ok(Lookup::Unknown)
                } else {
                    Err(error)
                }
            }
            _ => Err(ServiceError::new(
                ErrorCode::Internal,
                "the cluster answered a key lookup with something else",
            )),
        }
    }
}

fn judge(view: KeyView, credential: Credential, now_ms: u64) -> Lookup {
    let (Some(key), Some(account), Some(org), Some(workspace)) =
        (view.key, view.service_account, view.organization, view.workspace)
    else {
        return Lookup::Unknown;
    };
    let same = bool::from(key.token_sha256.as_ref().ct_eq(&credential.0[..]));
    let expired = key.expires_at_ms != 0 && key.expires_at_ms <= now_ms;
    if !same || key.revoked || expired || account.status() != AccountStatus::Active {
        return Lookup::Refused;
    }
    let scope = Scope {
        org_id: org.org_id,
        org_slug: org.slug,
        workspace_id: workspace.workspace_id,
        workspace_slug: workspace.slug,
    };
    let call = CallContext {
        key_id: key.key_id.clone(),
        ..CallContext::default()
    };
    Lookup::Active(Box::new(Caller {
        key,
        account,
        scope,
        call,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_key_is_read_from_either_header() {
        let expected = Ok(Credential(token_hash("axme_sa_x_y")));
        for pairs in [
            &[("x-api-key", "axme_sa_x_y")][..],
            &[("authorization", "Bearer axme_sa_x_y")],
            &[("authorization", "bearer  axme_sa_x_y ")],
            &[
                ("x-api-key", "axme_sa_x_y"),
                ("authorization", "Bearer eyJ.actor.token"),
            ],
            &[
                ("x-api-key", "axme_sa_x_y"),
                ("authorization", "Bearer axme_sa_other"),
            ],
            &[("x-api-key", ""), ("authorization", "Bearer axme_sa_x_y")],
        ] {
            let found = Credential::from_headers(&headers(pairs)).map_err(|e| e.code);
            assert_eq!(found, expected, "{pairs:?}");
        }
    }

    #[test]
    fn no_key_is_no_entry() {
        for (pairs, code) in [
            (&[][..], ErrorCode::MissingApiKey),
            (&[("authorization", "")], ErrorCode::MissingApiKey),
            (&[("authorization", "Bearer ")], ErrorCode::MissingApiKey),
            (
                &[("authorization", "Basic axme_sa_x_y")],
                ErrorCode::MissingApiKey,
            ),
            (
                &[("authorization", "Bearer eyJ.actor.token")],
                ErrorCode::InvalidActorToken,
            ),
        ] {
            assert_eq!(
                Credential::from_headers(&headers(pairs)).unwrap_err().code,
                code,
                "{pairs:?}"
            );
        }
    }
}
