//! Ordered byte tables and the write batch that `apply` works in.

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
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

/// What a finished batch changes. To be made visible atomically, with the applied index.
pub type Changes = BTreeMap<Vec<u8>, Change>;

/// Pending changes of one log entry over a read view. Nothing reaches storage before [`WriteBatch::finish`].
pub struct WriteBatch<'a> {
    base: &'a dyn Tables,
    /// `existed` means "may have existed" until [`WriteBatch::finish`].
    changes: Changes,
    /// What each write replaced in `changes`, oldest first.
    undo: Vec<(Vec<u8>, Option<Change>)>,
    /// Rows of `base` that were read, so that the state hash need not read them again.
    seen: RefCell<HashMap<Vec<u8>, Option<Bytes>>>,
}

impl std::fmt::Debug for WriteBatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteBatch")
            .field("changes", &self.changes.len())
            .finish_non_exhaustive()
    }
}

impl<'a> WriteBatch<'a> {
    /// An empty batch over `base`.
    #[must_use]
    pub fn new(base: &'a dyn Tables) -> Self {
        Self {
            base,
            changes: Changes::new(),
            undo: Vec::new(),
            seen: RefCell::default(),
        }
    }

    /// A point that [`WriteBatch::roll_back`] can return to.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Takes back every write since `mark`. A refused command leaves nothing behind this way.
    pub fn roll_back(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let Some((key, replaced)) = self.undo.pop() else {
                return;
            };
            match replaced {
                Some(change) => self.changes.insert(key, change),
                None => self.changes.remove(&key),
            };
        }
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Bytes>, may_exist: bool) {
        let existed = self.changes.get(&key).map_or(may_exist, |change| change.existed);
        let replaced = self.changes.insert(key.clone(), Change { value, existed });
        self.undo.push((key, replaced));
    }

    /// Writes a row.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.write(key, Some(value.into()), true);
    }

    /// Writes a row under a key that no row has, which spares a look at storage. The caller must be certain: a row
    /// that exists after all makes the state hash wrong.
    pub fn insert(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        debug_assert!(
            self.changes.contains_key(&key) || matches!(self.base.get(&key), Ok(None)),
            "inserted row exists"
        );
        self.write(key, Some(value.into()), false);
    }

    /// Deletes a row; a missing one is fine.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None, true);
    }

    fn get_base(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        if let Some(known) = self.seen.borrow().get(key) {
            return Ok(known.clone());
        }
        let value = self.base.get(key)?;
        self.seen.borrow_mut().insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// The changes, with the state hash brought up to date. Rows put back to their old value are dropped.
    ///
    /// # Errors
    /// When storage fails.
    pub fn finish(self) -> Result<Changes, TableError> {
        let mut hash = state_hash(self.base)?;
        let mut seen = self.seen.into_inner();
        let mut out = Vec::with_capacity(self.changes.len() + 1);
        for (key, Change { value, existed }) in self.changes {
            let old = match (existed, seen.remove(&key)) {
                (false, _) => None,
                (true, Some(known)) => known,
                (true, None) => self.base.get(&key)?,
            };
            if old == value {
                continue;
            }
            let existed = old.is_some();
            hash = hash.wrapping_sub(old.map_or(0, |v| row_hash(&key, &v)));
            hash = hash.wrapping_add(value.as_ref().map_or(0, |v| row_hash(&key, v)));
            out.push((key, Change { value, existed }));
        }
        if !out.is_empty() {
            let hash = Change {
                value: Some(Bytes::copy_from_slice(&hash.to_be_bytes())),
                existed: true,
            };
            out.push((STATE_HASH_KEY.to_vec(), hash));
        }
        Ok(out.into_iter().collect())
    }
}

impl Tables for WriteBatch<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.value.clone()),
            None => self.get_base(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), TableError> {
        scan_overlay(&self.changes, from, to, visit, |merged| {
            self.base.scan(from, to, merged)
        })
    }
}

/// Merges an overlay of changes into an ordered scan of what lies below it. `below` runs the lower scan with the
/// visitor it is given. Shared by [`WriteBatch`] and by storage that keeps a memtable over a disk table.
///
/// # Errors
/// Whatever `below` returns.
pub fn scan_overlay(
    overlay: &Changes,
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
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, 0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTables;

    #[test]
    fn rolling_back_restores_earlier_writes_of_the_batch() {
        let base: MemoryTables = [(b"base".to_vec(), Bytes::from_static(b"0"))]
            .into_iter()
            .collect();
        let mut batch = WriteBatch::new(&base);
        batch.put(b"kept".to_vec(), "1");
        batch.delete(b"base".to_vec());
        let mark = batch.mark();
        batch.put(b"kept".to_vec(), "2");
        batch.put(b"kept".to_vec(), "3");
        batch.put(b"base".to_vec(), "4");
        batch.delete(b"new".to_vec());
        batch.roll_back(mark);
        assert_eq!(batch.get(b"kept").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(batch.get(b"base").unwrap(), None);
        let changes = batch.finish().unwrap();
        let keys: Vec<_> = changes.keys().map(Vec::as_slice).collect();
        assert_eq!(keys, [STATE_HASH_KEY, b"base", b"kept"]);
    }
}
