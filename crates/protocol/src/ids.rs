//! Intent ids: UUIDv8 with time, slot and randomness, so that any node can route by the id alone.

use crate::slot::Slot;
use uuid::Uuid;

/// UUIDv8: 48-bit unix milliseconds · version · 12-bit slot · variant · 62 random bits (RFC 9562, 5.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(Uuid);

impl IntentId {
    /// Builds an id. `random` supplies the low 62 bits.
    #[must_use]
    pub fn new(unix_ms: u64, slot: Slot, random: u64) -> Self {
        let high = ((unix_ms & 0xffff_ffff_ffff) << 16) | 0x8000 | u64::from(slot.number());
        let low = (0b10 << 62) | (random & 0x3fff_ffff_ffff_ffff);
        Self(Uuid::from_u64_pair(high, low))
    }

    /// Reads an id in text form. Any UUID is accepted: one that this cluster did not mint is simply unknown.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// Reads the 16 bytes of a row or message.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    /// The slot the id was minted for.
    #[must_use]
    pub fn slot(self) -> Slot {
        Slot::from_bits((self.0.as_u64_pair().0 & 0xfff) as u16)
    }

    /// Milliseconds since 1970 at minting.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.0.as_u64_pair().0 >> 16
    }

    /// The 16 bytes, in an order that sorts by time.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The bytes as a protobuf field.
    #[must_use]
    pub fn to_bytes(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.0.as_bytes())
    }
}

impl std::fmt::Display for IntentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl std::fmt::Debug for IntentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_carries_time_and_slot() {
        let slot = Slot::new(0xabc).unwrap();
        let id = IntentId::new(1_767_225_600_000, slot, u64::MAX);
        assert_eq!(id.slot(), slot);
        assert_eq!(id.unix_ms(), 1_767_225_600_000);
        assert_eq!(id.to_string(), "019b76da-a800-8abc-bfff-ffffffffffff");
        assert_eq!(IntentId::parse(&id.to_string()), Some(id));
        assert_eq!(Uuid::from_bytes(*id.as_bytes()).get_version_num(), 8);
        assert_eq!(IntentId::from_slice(b"short"), None);
    }

    #[test]
    fn ids_sort_by_time() {
        let slot = Slot::new(4095).unwrap();
        assert!(IntentId::new(1, slot, u64::MAX) < IntentId::new(2, Slot::new(0).unwrap(), 0));
    }
}
