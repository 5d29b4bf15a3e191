//! Deliveries by HTTP push: their ids, and secrets that do not show.

use crate::ids::IntentId;
use crate::proto::internal::{CallbackSecret, DeliveryKey};
use std::fmt;

/// Seed of the hash of an agent's key. Part of ids that clients keep: never changes.
const AGENT_HASH_SEED: u64 = 1;
/// Every delivery id starts like this.
const PREFIX: &str = "dlv_";
/// Of intent id, agent and replay, in hexadecimal.
const INTENT_DIGITS: usize = 32;
const AGENT_DIGITS: usize = 16;
const REPLAY_DIGITS: usize = 8;

/// Names one delivery of an intent to an agent: `dlv_` and 56 hexadecimal digits. The same for every attempt, so that
/// receivers recognise repeats by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    pub intent_id: IntentId,
    pub agent_hash: u64,
    /// 0 = the intent's own delivery.
    pub replay: u32,
}

impl DeliveryId {
    /// The intent's own delivery to the agent with this key.
    #[must_use]
    pub fn new(intent_id: IntentId, agent_key: &str) -> Self {
        Self {
            intent_id,
            agent_hash: xxhash_rust::xxh3::xxh3_64_with_seed(agent_key.as_bytes(), AGENT_HASH_SEED),
            replay: 0,
        }
    }

    /// The same delivery, replayed.
    #[must_use]
    pub fn replayed(self, replay: u32) -> Self {
        Self { replay, ..self }
    }

    /// Reads an id back; `None` for anything that no delivery is called.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let plain = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if digits.len() != INTENT_DIGITS + AGENT_DIGITS + REPLAY_DIGITS || !digits.bytes().all(plain) {
            return None;
        }
        let (intent, rest) = digits.split_at(INTENT_DIGITS);
        let (agent, replay) = rest.split_at(AGENT_DIGITS);
        Some(Self {
            intent_id: IntentId::from_slice(&u128::from_str_radix(intent, 16).ok()?.to_be_bytes())?,
            agent_hash: u64::from_str_radix(agent, 16).ok()?,
            replay: u32::from_str_radix(replay, 16).ok()?,
        })
    }

    /// The id of a stored key; `None` when that names no intent.
    #[must_use]
    pub fn of(key: &DeliveryKey) -> Option<Self> {
        Some(Self {
            intent_id: IntentId::from_slice(&key.intent_id)?,
            agent_hash: key.agent_hash,
            replay: key.replay,
        })
    }

    /// As commands and rows carry it.
    #[must_use]
    pub fn to_key(self) -> DeliveryKey {
        DeliveryKey {
            intent_id: self.intent_id.to_bytes(),
            agent_hash: self.agent_hash,
            replay: self.replay,
        }
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for byte in self.intent_id.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "{:016x}{:08x}", self.agent_hash, self.replay)
    }
}

impl fmt::Debug for CallbackSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;
    use crate::proto::internal::{CallbackSecrets, UpdateServiceAccount};

    #[test]
    fn an_id_reads_back_and_is_golden() {
        let intent_id = IntentId::new(1_777_629_600_123, Slot::from_bits(7), 9);
        let id = DeliveryId::new(intent_id, "agent://acme/prod/worker").replayed(3);
        let text = id.to_string();
        assert_eq!(DeliveryId::parse(&text), Some(id));
        assert_eq!(DeliveryId::of(&id.to_key()), Some(id));
        assert!(text.ends_with("00000003") && !text.contains('.'), "{text}");
        assert_ne!(
            DeliveryId::new(intent_id, "agent://acme/prod/other").agent_hash,
            id.agent_hash
        );
        let cut = &text[..text.len() - 1];
        for wrong in [
            "",
            "dlv_",
            cut,
            &text.to_uppercase(),
            &text.replace("dlv_0", "dlv_+"),
        ] {
            assert_eq!(DeliveryId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = Some(CallbackSecret {
            value: "whsec_topsecret".into(),
        });
        let shown = format!(
            "{:?} {:?}",
            CallbackSecrets {
                current: secret.clone(),
                previous: secret.clone(),
                previous_until_ms: 1,
            },
            UpdateServiceAccount {
                callback_secret: secret,
                ..UpdateServiceAccount::default()
            }
        );
        assert!(
            shown.contains("hidden") && !shown.contains("topsecret"),
            "{shown}"
        );
    }
}
