//! Signatures of pushed deliveries: AXME's own and those of Standard Webhooks, side by side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use baton_protocol::proto::internal::CallbackSecrets;
use hmac::{Hmac, Mac as _};
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use sha2::Sha256;
use std::fmt;
use std::fmt::Write as _;

/// What endpoints see as the sender.
const AGENT: &str = concat!("baton/", env!("CARGO_PKG_VERSION"));
/// Secrets of Standard Webhooks: this, then base64.
const STANDARD_PREFIX: &str = "whsec_";

/// One secret, ready to sign.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// The text as the agent knows it: the key of AXME's signature.
    text: Vec<u8>,
    /// The bytes it stands for: the key of the Standard Webhooks signature.
    bytes: Vec<u8>,
}

impl Key {
    fn new(text: &str) -> Self {
        let decoded = text
            .strip_prefix(STANDARD_PREFIX)
            .and_then(|encoded| STANDARD.decode(encoded).ok());
        Self {
            text: text.as_bytes().to_vec(),
            bytes: decoded.unwrap_or_else(|| text.as_bytes().to_vec()),
        }
    }
}

/// The secrets of one agent.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct SigningKeys {
    current: Option<Key>,
    previous: Option<Key>,
    previous_until_ms: u64,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(hidden)")
    }
}

/// Values of the signature headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signatures {
    /// `X-Axme-Signature`, by the newest secret.
    pub(crate) axme: String,
    /// `webhook-signature`, by every secret that is valid.
    pub(crate) standard: String,
}

impl SigningKeys {
    pub(crate) fn new(secrets: &CallbackSecrets) -> Self {
        let key = |secret: &Option<baton_protocol::proto::internal::CallbackSecret>| {
            secret
                .as_ref()
                .filter(|s| !s.value.is_empty())
                .map(|s| Key::new(&s.value))
        };
        Self {
            current: key(&secrets.current),
            previous: key(&secrets.previous),
            previous_until_ms: secrets.previous_until_ms,
        }
    }

    /// Signs a body that is sent at `now_ms`; `None` without a secret.
    pub(crate) fn sign(&self, delivery_id: &str, now_ms: u64, body: &[u8]) -> Option<Signatures> {
        let current = self.current.as_ref()?;
        let signed_at = (now_ms / 1_000).to_string();
        let valid = self.previous.as_ref().filter(|_| now_ms < self.previous_until_ms);
        let mut standard = String::new();
        for key in std::iter::once(current).chain(valid) {
            if !standard.is_empty() {
                standard.push(' ');
            }
            let mac = mac(
                &key.bytes,
                &[delivery_id.as_bytes(), b".", signed_at.as_bytes(), b".", body],
            );
            standard.push_str("v1,");
            STANDARD.encode_string(mac, &mut standard);
        }
        let mut axme = "sha256=".to_owned();
        for byte in mac(&current.text, &[body]) {
            _ = write!(axme, "{byte:02x}");
        }
        Some(Signatures { axme, standard })
    }
}

/// The headers that every post has, under both names of its signature where there is a secret.
pub(crate) fn headers(keys: &SigningKeys, message_id: &str, now_ms: u64, body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    put(&mut headers, "webhook-id", message_id);
    put(&mut headers, "webhook-timestamp", &(now_ms / 1_000).to_string());
    if let Some(signed) = keys.sign(message_id, now_ms, body) {
        put(&mut headers, "x-axme-signature", &signed.axme);
        put(&mut headers, "webhook-signature", &signed.standard);
    }
    headers
}

/// A value that cannot stand in a header is left out.
pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::internal::CallbackSecret;

    fn keys(current: &str, previous: Option<&str>) -> SigningKeys {
        let secret = |value: &str| CallbackSecret { value: value.into() };
        SigningKeys::new(&CallbackSecrets {
            current: Some(secret(current)),
            previous: previous.map(secret),
            previous_until_ms: 2_000_000_000_000,
        })
    }

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_published_example_comes_out() {
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None);
        let body = br#"{"test": 2432232314}"#;
        let signed = keys
            .sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_999, body)
            .unwrap();
        assert_eq!(signed.standard, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    /// RFC 4231, test case 2: the text itself is the key.
    #[test]
    fn axme_signs_the_body_with_the_text() {
        let signed = keys("Jefe", None)
            .sign("id", 0, b"what do ya want for nothing?")
            .unwrap();
        assert_eq!(
            signed.axme,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn two_secrets_sign_until_the_old_one_runs_out() {
        let both = keys("new secret of sixteen", Some("old secret of sixteen"));
        let old = keys("old secret of sixteen", None)
            .sign("id", 1_000, b"{}")
            .unwrap();
        let new = keys("new secret of sixteen", None)
            .sign("id", 1_000, b"{}")
            .unwrap();
        let signed = both.sign("id", 1_000, b"{}").unwrap();
        assert_eq!(signed.standard, format!("{} {}", new.standard, old.standard));
        assert_eq!(signed.axme, new.axme);
        let later = both.sign("id", 2_000_000_000_000, b"{}").unwrap();
        assert!(!later.standard.contains(' '));
        assert_eq!(SigningKeys::default().sign("id", 1, b"{}"), None);
        assert!(!format!("{both:?}").contains("secret of"));
    }
}
