//! Links to the page of a human task: who holds one may answer that task, and nothing else.
//!
//! A link names the task by intent and generation, so it works until the task is answered. The same link comes out
//! every time for the same facts, so a message that is sent again says the same.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use baton_protocol::IntentId;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// First byte of what is signed; another layout gets another one.
const VERSION: u8 = 1;
/// What the cluster's secret is bound to before it signs links, so that they are no tokens of keys.
const KEY_LABEL: &[u8] = b"baton task link v1";
/// Version, intent id, generation, expiry.
const HEAD_BYTES: usize = 1 + 16 + 8 + 8;
const MAC_BYTES: usize = 32;
/// Longest token that is looked at: the head, a recipient of 320 characters, the signature.
const TOKEN_CHARS_MAX: usize = 2_048;

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLink {
    /// The intent that asks.
    pub intent_id: IntentId,
    /// Which of its questions.
    pub generation: u64,
    /// Cluster time, unix milliseconds, from which on it answers nothing.
    pub expires_at_ms: u64,
    /// Whom it is sent to; the answer is recorded as this person's.
    pub recipient: String,
}

impl TaskLink {
    /// The last part of the link's path, signed with the cluster's token secret.
    #[must_use]
    pub fn token(&self, secret: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.recipient.len() + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.intent_id.as_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.expires_at_ms.to_be_bytes());
        bytes.extend_from_slice(self.recipient.as_bytes());
        let mac = sign(secret, &bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `None` for anything that this cluster has not signed.
    pub(crate) fn read(token: &str, secret: &[u8]) -> Option<Self> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (claims, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        if !bool::from(sign(secret, claims).ct_eq(mac)) {
            return None;
        }
        let (head, recipient) = claims.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?));
        if *head.first()? != VERSION {
            return None;
        }
        Some(Self {
            intent_id: IntentId::from_slice(head.get(1..17)?)?,
            generation: number(17)?,
            expires_at_ms: number(25)?,
            recipient: std::str::from_utf8(recipient).ok()?.to_owned(),
        })
    }
}

fn sign(secret: &[u8], claims: &[u8]) -> [u8; MAC_BYTES] {
    let key = mac(secret, KEY_LABEL);
    mac(&key, claims)
}

fn mac(key: &[u8], message: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;

    const SECRET: &[u8] = &[7; 32];

    fn link() -> TaskLink {
        TaskLink {
            intent_id: IntentId::new(5, Slot::from_bits(9), 1),
            generation: 3,
            expires_at_ms: 1_777_629_600_123,
            recipient: "böss@example.com".into(),
        }
    }

    #[test]
    fn a_link_reads_back_and_is_the_same_every_time() {
        let token = link().token(SECRET);
        assert_eq!(TaskLink::read(&token, SECRET), Some(link()));
        assert_eq!(link().token(SECRET), token);
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        );
        let longest = TaskLink {
            recipient: "\u{1F600}".repeat(320),
            ..link()
        };
        assert_eq!(TaskLink::read(&longest.token(SECRET), SECRET), Some(longest));
    }

    #[test]
    fn nothing_but_the_signed_token_is_read() {
        let token = link().token(SECRET);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(TaskLink::read(&forged, SECRET), None, "{at}");
            assert_eq!(TaskLink::read(&token[..at], SECRET), None);
        }
        assert_eq!(TaskLink::read(&token, &[8; 32]), None);
        assert_eq!(TaskLink::read(&format!("{token}="), SECRET), None);
        assert_eq!(TaskLink::read(&"A".repeat(1_000_000), SECRET), None);
        assert_eq!(TaskLink::read("", SECRET), None);
        // The secret itself signs other things: what it signs is no link.
        let mut claims = vec![VERSION];
        claims.extend_from_slice(&[0; HEAD_BYTES - 1]);
        claims.extend_from_slice(&mac(SECRET, &claims.clone()));
        assert_eq!(TaskLink::read(&URL_SAFE_NO_PAD.encode(claims), SECRET), None);
    }
}
