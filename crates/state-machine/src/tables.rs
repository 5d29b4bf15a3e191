//! Ordered byte tables, and how changes lie over them.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Key of the row that holds the incremental state hash. It is no part of the hash itself.
pub const STATE_HASH_KEY: &[u8] = &[0x00];

/// Storage failed or holds something that cannot be: the group must stop, nothing may be retried.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("table storage failed: {0}")]
    Storage(String),
    #[error("table row is corrupt: {0}")]
    Corrupt(String),
}

/// Callback of a scan: key, value; `Break` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &Bytes) -> ControlFlow<()>;

/// A consistent read view of one group's rows, ordered by key.
pub trait Tables {
    /// The value of `key`.
    ///
    /// # Errors
    /// When storage fails.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError>;

    /// Visits rows with `from <= key < to` in key order.
    ///
    /// # Errors
    /// When storage fails.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), TableError>;
}

/// What a batch does to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
    /// Whether the row existed before. `false` is certain: storage need not look, and a row that is deleted again before
    /// it reached the disk need never go there.
    pub existed: bool,
}

/// What a finished [`crate::WriteBatch`] changes, each row once, in no order that means anything. To be made visible
/// atomically, with the applied index.
pub type Changes = Vec<(Vec<u8>, Change)>;

/// Changes by key, as they lie over other tables.
pub type Level = BTreeMap<Vec<u8>, Change>;

/// Merges an overlay of changes into an ordered scan of what lies below it. `below` runs the lower scan with the
/// visitor it is given. Shared by [`crate::WriteBatch`] and by storage that keeps a memtable over a disk table.
///
/// # Errors
/// Whatever `below` returns.
pub fn scan_overlay(
    overlay: &Level,
    from: &[u8],
    to: &[u8],
    visit: Visit<'_>,
    below: impl FnOnce(Visit<'_>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    if from >= to {
        return Ok(());
    }
    let range = (Bound::Included(from), Bound::Excluded(to));
    let mut upper = overlay.range::<[u8], _>(range).peekable();
    let mut stopped = false;
    below(&mut |key, value| {
        // Everything of the overlay that sorts before this row comes first.
        while let Some((k, change)) = upper.next_if(|(k, _)| k.as_slice() < key) {
            if let Some(v) = &change.value
                && visit(k, v).is_break()
            {
                stopped = true;
                return ControlFlow::Break(());
            }
        }
        let step = match upper.next_if(|(k, _)| k.as_slice() == key) {
            Some((k, change)) => match &change.value {
                Some(v) => visit(k, v),
                None => ControlFlow::Continue(()),
            },
            None => visit(key, value),
        };
        stopped = step.is_break();
        step
    })?;
    if !stopped {
        for (k, change) in upper {
            if let Some(v) = &change.value
                && visit(k, v).is_break()
            {
                break;
            }
        }
    }
    Ok(())
}

/// The incremental hash over all rows; equal at equal applied index on every replica.
///
/// # Errors
/// When storage fails or the row is malformed.
pub fn state_hash(tables: &dyn Tables) -> Result<u64, TableError> {
    let Some(row) = tables.get(STATE_HASH_KEY)? else {
        return Ok(0);
    };
    let bytes = <[u8; 8]>::try_from(row.as_ref()).map_err(|_| TableError::Corrupt("state hash".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Hash of one row as it enters the state hash.
#[must_use]
pub fn row_hash(key: &[u8], value: &[u8]) -> u64 {
    value_hash(key_hash(key), value)
}

pub(crate) fn key_hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, 0)
}

/// [`row_hash`] from the hash of the key.
pub(crate) fn value_hash(key_hash: u64, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, key_hash)
}

/// The smallest key above every key that starts with `prefix`.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; 64]
}
