//! Tokens of machine keys: drawn at random, or derived so that a repeated call finds the same one again.

use baton_protocol::proto::internal::{GetTokenSecret, query, query_reply};
use baton_protocol::{ErrorCode, Route, ServiceError};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::accounts::TOKEN_PREFIX;
use super::{Caller, IdempotencyRequest, Service, hex, unexpected};

const KEY_ID_BYTES: usize = 10;

/// A token and the id of its key.
pub(super) struct Drawn {
    pub(super) token: String,
    pub(super) key_id: String,
}

impl Service {
    /// A token for a new key of `account_id`. Without an idempotency key it is random. With one it is derived from the
    /// cluster's secret and the call, so that a replay can show it although only its hash is stored.
    ///
    /// # Errors
    /// `NotImplemented` in a cluster that has no secret; `Unavailable` when the secret cannot be read now.
    pub(super) async fn draw_token(
        &self,
        caller: &Caller,
        account_id: &str,
        request: Option<&IdempotencyRequest>,
    ) -> Result<Drawn, ServiceError> {
        let secret = self.draw_secret(caller, "token", request).await?;
        let id = self.draw_secret(caller, "key_id", request).await?;
        Ok(Drawn {
            token: format!("{TOKEN_PREFIX}{account_id}_{}", hex(&secret)),
            key_id: format!("key_{}", hex(&id[..KEY_ID_BYTES])),
        })
    }

    /// 32 random bytes; with an idempotency key the ones that follow from the call and what they are for.
    ///
    /// # Errors
    /// As [`Self::draw_token`].
    pub(super) async fn draw_secret(
        &self,
        caller: &Caller,
        purpose: &str,
        request: Option<&IdempotencyRequest>,
    ) -> Result<[u8; 32], ServiceError> {
        match request {
            None => Ok(self.random()),
            Some(request) => Ok(derive(&self.token_secret().await?, purpose, caller, request)),
        }
    }

    pub(super) async fn token_secret(&self) -> Result<bytes::Bytes, ServiceError> {
        let query = query::Body::GetTokenSecret(GetTokenSecret {});
        let found = self.read_nearby(Route::Meta, None, query).await?;
        let query_reply::Outcome::TokenSecret(secret) = found else {
            return Err(unexpected("something else than the token secret"));
        };
        if secret.is_empty() {
            return Err(ServiceError::new(
                ErrorCode::NotImplemented,
                "this cluster was created without a token secret; create keys without idempotency-key",
            ));
        }
        Ok(secret)
    }
}

/// HMAC-SHA-256 over everything that makes the call this call. Lengths go in too, so that no two calls read alike.
fn derive(secret: &[u8], purpose: &str, caller: &Caller, request: &IdempotencyRequest) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in [
        purpose.as_bytes(),
        caller.account.service_account_id.as_bytes(),
        request.endpoint.as_bytes(),
        request.key.as_bytes(),
        &request.request_hash,
    ] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
