//! Controls, grants and envelope of an intent: JSON objects merged member by member, under a generation counter.

use crate::transaction::{Stop, reject};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{Intent, Member, MemberList};
use bytes::Bytes;
use prost::Message;

/// Encoded size of one such object after a merge.
const OBJECT_BYTES_MAX: usize = 64 * 1024;

/// Compare-and-set on the policy generation.
pub(crate) fn require_generation(intent: &Intent, expected: Option<u64>) -> Result<(), Stop> {
    match expected {
        Some(expected) if expected != intent.policy_generation => Err(reject(
            ErrorCode::PolicyGenerationMismatch,
            format!(
                "expected_policy_generation is {expected} but the intent is at {}; read it again",
                intent.policy_generation
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Merges `patch` into an encoded `MemberList`: a key replaces its value, a new one goes to the end.
pub(crate) fn merge(stored: &Bytes, patch: &[Member]) -> Result<Bytes, Stop> {
    let mut list = MemberList::decode(stored.clone())
        .map_err(|_| crate::tables::TableError::Corrupt("member list cannot be decoded".into()))?;
    for member in patch {
        match list.members.iter_mut().find(|m| m.key == member.key) {
            Some(known) => known.value = member.value.clone(),
            None => list.members.push(member.clone()),
        }
    }
    let encoded = list.encode_to_vec();
    if encoded.len() > OBJECT_BYTES_MAX {
        return Err(reject(
            ErrorCode::PayloadTooLarge,
            format!("the merged object would exceed {OBJECT_BYTES_MAX} bytes; send less"),
        ));
    }
    Ok(encoded.into())
}
