//! Slots and groups: an address hashes to one of 4096 slots, a slot belongs to one Raft group.

use crate::error::{ErrorCode, ServiceError};

/// Number of slots of every cluster, fixed for ever (12 bits of an intent id).
pub const SLOT_COUNT: u16 = 4096;
/// Seed of the address hash. Changing it moves every mailbox: never do.
const SLOT_HASH_SEED: u64 = 0;
/// The group that holds nodes, tenants and keys. Shard groups are 1..=n.
pub const META_GROUP: GroupId = GroupId(0);
/// Shard groups of a new cluster unless configured otherwise.
pub const SHARD_GROUPS_DEFAULT: u32 = 16;

/// One of [`SLOT_COUNT`] hash slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a canonical agent key (`AgentRef.key`): the top 12 bits of xxh3-64.
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key.as_bytes(), SLOT_HASH_SEED);
        Self((hash >> 52) as u16)
    }

    /// The slot of a record that is keyed by a hash (idempotency records): its top 12 bits.
    #[must_use]
    pub fn of_hash(hash: &[u8]) -> Self {
        let byte = |i: usize| u16::from(hash.get(i).copied().unwrap_or(0));
        Self(byte(0) << 4 | byte(1) >> 4)
    }

    /// A slot from its number.
    ///
    /// # Errors
    /// `InvalidArgument` when `number` is 4096 or more.
    pub fn new(number: u16) -> Result<Self, ServiceError> {
        if number < SLOT_COUNT {
            Ok(Self(number))
        } else {
            Err(ServiceError::new(
                ErrorCode::InvalidArgument,
                format!("slot {number} is out of range"),
            ))
        }
    }

    /// A slot from 12 bits of anything; higher bits are ignored.
    #[must_use]
    pub fn from_bits(bits: u16) -> Self {
        Self(bits & (SLOT_COUNT - 1))
    }

    /// The slot's number, 0..4096.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A Raft group of the cluster: 0 is meta, 1.. are shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl std::fmt::Display for GroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Slot → group, fixed when the cluster is created: contiguous ranges of slots, so that a group can be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMap {
    shard_groups: u32,
}

impl GroupMap {
    /// # Errors
    /// `InvalidArgument` unless 1 ≤ `shard_groups` ≤ 4096.
    pub fn new(shard_groups: u32) -> Result<Self, ServiceError> {
        if (1..=u32::from(SLOT_COUNT)).contains(&shard_groups) {
            Ok(Self { shard_groups })
        } else {
            Err(ServiceError::new(
                ErrorCode::InvalidArgument,
                format!("shard_groups must be 1 to {SLOT_COUNT}, got {shard_groups}"),
            ))
        }
    }

    /// The group that owns `slot`.
    #[must_use]
    pub fn group_of(self, slot: Slot) -> GroupId {
        GroupId(1 + u32::from(slot.0) * self.shard_groups / u32::from(SLOT_COUNT))
    }

    /// Number of shard groups (meta not counted).
    #[must_use]
    pub fn shard_groups(self) -> u32 {
        self.shard_groups
    }

    /// Every group, meta first.
    pub fn all(self) -> impl Iterator<Item = GroupId> {
        (0..=self.shard_groups).map(GroupId)
    }
}

/// Where a command or query belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Tenants, keys, nodes.
    Meta,
    /// The shard group that owns this slot.
    Slot(Slot),
    /// A group by number: cross-group messages and operators.
    Group(GroupId),
}

impl Route {
    /// The group this route leads to.
    #[must_use]
    pub fn group(self, map: GroupMap) -> GroupId {
        match self {
            Self::Meta => META_GROUP,
            Self::Slot(slot) => map.group_of(slot),
            Self::Group(group) => group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_golden() {
        // A changed value here would orphan every mailbox of an existing cluster.
        assert_eq!(
            Slot::of_key("agent://baton/default/payment-service-demo").number(),
            715
        );
        assert_eq!(Slot::of_key("").number(), 720);
        assert_eq!(Slot::of_hash(&[0xab, 0xcd, 0xef]).number(), 0xabc);
        assert_eq!(Slot::of_hash(&[]).number(), 0);
    }

    #[test]
    fn groups_cover_all_slots_evenly() {
        let map = GroupMap::new(16).unwrap();
        let mut counts = [0u32; 17];
        for n in 0..SLOT_COUNT {
            counts[map.group_of(Slot::new(n).unwrap()).0 as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|&c| c == 256));
        assert!(GroupMap::new(0).is_err());
        assert!(Slot::new(4096).is_err());
    }
}
