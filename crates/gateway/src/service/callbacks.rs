//! Endpoints of push agents: what may be set, and the secrets that pushes are signed with.

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use baton_protocol::ServiceError;
use baton_protocol::proto::internal::CallbackSecret;

use super::{Caller, IdempotencyRequest, Service, invalid};

/// Characters of a callback URL.
pub(crate) const CALLBACK_URL_CHARS_MAX: usize = 2_048;
/// Delivery mode of agents that are pushed to.
pub(super) const PUSHED: &str = "http";
/// Secrets of Standard Webhooks: this, then base64.
const SECRET_PREFIX: &str = "whsec_";
/// Characters of a secret that a caller brings.
const SECRET_CHARS_MIN: usize = 16;
const SECRET_CHARS_MAX: usize = 128;
/// Bytes that such a secret stands for when it is base64.
const SECRET_BYTES_MIN: usize = 16;

/// What a call says about the callback secret.
#[derive(Clone, Default)]
pub(crate) enum SecretChange {
    /// Nothing: it stays, or is drawn when the agent becomes a push agent.
    #[default]
    Keep,
    Set(String),
    Draw,
}

impl std::fmt::Debug for SecretChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Set(_) => "Set(hidden)",
            Self::Draw => "Draw",
        })
    }
}

/// The secrets that go into a command.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pub(super) given: Option<CallbackSecret>,
    pub(super) fallback: Option<CallbackSecret>,
}

impl Secrets {
    /// The one that was set, when one was.
    pub(super) fn shown(self, set: bool) -> Option<String> {
        self.given.or(self.fallback).filter(|_| set).map(|s| s.value)
    }
}

impl Service {
    /// # Errors
    /// `InvalidArgument` for a URL that nothing can or may be posted to.
    pub(super) fn check_callback_url(&self, url: &str) -> Result<(), ServiceError> {
        check_url(url, self.config.push_allow_http)
    }

    /// The secrets of a call that leaves the agent in `mode`, when it says so.
    pub(super) async fn secrets(
        &self,
        caller: &Caller,
        change: SecretChange,
        mode: Option<&str>,
        request: Option<&IdempotencyRequest>,
    ) -> Result<Secrets, ServiceError> {
        let secret = |value| Some(CallbackSecret { value });
        match change {
            SecretChange::Set(value) => {
                check_secret(&value)?;
                Ok(Secrets {
                    given: secret(value),
                    fallback: None,
                })
            }
            SecretChange::Draw => Ok(Secrets {
                given: secret(self.draw_callback_secret(caller, request).await?),
                fallback: None,
            }),
            SecretChange::Keep if mode == Some(PUSHED) => Ok(Secrets {
                given: None,
                fallback: secret(self.draw_callback_secret(caller, request).await?),
            }),
            SecretChange::Keep => Ok(Secrets::default()),
        }
    }

    async fn draw_callback_secret(
        &self,
        caller: &Caller,
        request: Option<&IdempotencyRequest>,
    ) -> Result<String, ServiceError> {
        let bytes = self.draw_secret(caller, "callback_secret", request).await?;
        Ok(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
    }
}

fn check_url(url: &str, allow_http: bool) -> Result<(), ServiceError> {
    if url.is_empty() {
        return Ok(());
    }
    let wrong = |what: &str| Err(invalid(format!("callback_url {what}")));
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("is no URL; send for example https://agent.example.com/intents");
    };
    let authority = uri.authority().map_or("", |a| a.as_str());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if allow_http => {}
        Some("http") => return wrong("must start with https://; the operator may set push.allow_http"),
        _ => return wrong("must start with https:// or http://"),
    }
    if authority.contains('@') {
        return wrong("must not hold credentials; check the signature instead");
    }
    if uri.host().is_none_or(str::is_empty) || url.contains('#') {
        return wrong("must name a host and no fragment");
    }
    // A port that is no number of a port would be taken for the default one.
    let has_port = uri.host() != Some(authority);
    if has_port && uri.port_u16().is_none_or(|port| port == 0) {
        return wrong("must name a port from 1 to 65535, or none");
    }
    Ok(())
}

fn check_secret(value: &str) -> Result<(), ServiceError> {
    let chars = value.chars().count();
    if !(SECRET_CHARS_MIN..=SECRET_CHARS_MAX).contains(&chars) || !value.bytes().all(|c| c.is_ascii_graphic())
    {
        return Err(invalid(format!(
            "callback_secret must have {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} printable ASCII characters"
        )));
    }
    if let Some(encoded) = value.strip_prefix(SECRET_PREFIX)
        && STANDARD.decode(encoded).map_or(0, |bytes| bytes.len()) < SECRET_BYTES_MIN
    {
        return Err(invalid(format!(
            "callback_secret begins with {SECRET_PREFIX}, so base64 of at least {SECRET_BYTES_MIN} bytes must follow"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_that_can_be_dialled() {
        for good in [
            "",
            "https://a.example.com",
            "https://a.example.com:8443/in?x=1",
            "https://[2606:4700::1111]:443/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(check_url(good, false).is_ok(), "{good}");
        }
        for bad in [
            "https://a.example.com:99999/",
            "https://a.example.com:0/",
            "https://a.example.com:/",
            "https://a.example.com/#part",
            "https://me:secret@a.example.com/",
            "http://a.example.com/",
            "ftp://a.example.com/",
            "/in",
        ] {
            assert!(check_url(bad, false).is_err(), "{bad}");
        }
        assert!(check_url("http://a.example.com/", true).is_ok());
    }

    #[test]
    fn secrets_are_long_enough_and_what_they_look_like() {
        for good in [
            "0123456789abcdef",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZg==",
            &"x".repeat(128),
        ] {
            assert!(check_secret(good).is_ok(), "{good}");
        }
        for bad in [
            "short",
            &"x".repeat(129),
            "with a space in it",
            "ümlaute are no help",
            "whsec_not-base64-at-all",
            "whsec_MDEyMzQ1Njc4",
        ] {
            assert!(check_secret(bad).is_err(), "{bad}");
        }
    }
}
