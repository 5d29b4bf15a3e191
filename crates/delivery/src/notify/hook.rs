//! Messages as posts to one HTTP endpoint of the operator, signed as pushes are.

use super::{Carrier, Letter, NotCarried};
use crate::push::{Outcome, PushClient, SigningKeys, signed_headers};
use async_trait::async_trait;
use baton_protocol::proto::internal::{CallbackSecret, CallbackSecrets};
use hyper::Uri;

/// Posts messages; a `2xx` is taken for "carried".
pub struct HookCarrier {
    client: PushClient,
    url: Uri,
    keys: SigningKeys,
}

impl std::fmt::Debug for HookCarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookCarrier").finish_non_exhaustive()
    }
}

impl HookCarrier {
    /// Posts to `url` with the client of pushes and what it may dial. `secret` as of a callback.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(client: PushClient, url: &str, secret: &str) -> Result<Self, String> {
        let secrets = CallbackSecrets {
            current: Some(CallbackSecret {
                value: secret.to_owned(),
            }),
            ..CallbackSecrets::default()
        };
        Ok(Self {
            client,
            url: url.parse().map_err(|_| format!("{url:?} is no URL"))?,
            keys: SigningKeys::new(&secrets),
        })
    }
}

#[async_trait]
impl Carrier for HookCarrier {
    async fn carry(&self, letter: &Letter, now_ms: u64) -> Result<(), NotCarried> {
        let headers = signed_headers(&self.keys, &letter.id, now_ms, &letter.json);
        let posted = self.client.post(&self.url, headers, letter.json.clone(), now_ms);
        match posted.await {
            Outcome::Answered {
                status: 200..=299, ..
            } => Ok(()),
            Outcome::Answered { status, .. } => Err(NotCarried::for_now(format!(
                "the notifier's endpoint answered {status}"
            ))),
            Outcome::Failed(failure) => Err(NotCarried::for_now(failure.text())),
        }
    }
}
