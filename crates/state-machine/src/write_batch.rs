//! The write batch that `apply` works in.

use crate::tables::{
    Change, Changes, Level, STATE_HASH_KEY, TableError, Tables, Visit, key_hash, scan_overlay, state_hash,
    value_hash,
};
use bytes::Bytes;
use hashbrown::HashTable;
use std::cell::RefCell;

/// Value of a row; `None` when there is no such row.
type Value = Option<Bytes>;

/// Pending changes of one log entry over a read view. Nothing reaches storage before [`WriteBatch::finish`].
pub struct WriteBatch<'a> {
    base: &'a dyn Tables,
    /// Behind a cell, because reading remembers what was read.
    rows: RefCell<Rows>,
    /// What each write replaced, oldest first: position of the row, and what the batch had made of it.
    undo: Vec<(usize, Option<Value>)>,
}

/// Every row that was read or written, in the order of the first touch.
#[derive(Default)]
struct Rows {
    list: Vec<Row>,
    /// Positions in `list` by the hash of the key.
    index: HashTable<usize>,
}

struct Row {
    key: Vec<u8>,
    key_hash: u64,
    /// What lies below the batch; `None` while nobody has looked.
    below: Option<Value>,
    /// What the batch makes of it; `None` while it is only read.
    now: Option<Value>,
}

impl std::fmt::Debug for WriteBatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteBatch")
            .field("rows", &self.rows.borrow().list.len())
            .finish_non_exhaustive()
    }
}

impl Rows {
    fn position(&self, key: &[u8], key_hash: u64) -> Option<usize> {
        self.index.find(key_hash, |at| self.list[*at].key == key).copied()
    }

    fn add(&mut self, key: Vec<u8>, key_hash: u64) -> usize {
        let at = self.list.len();
        let list = &self.list;
        self.index
            .insert_unique(key_hash, at, |other| list[*other].key_hash);
        self.list.push(Row {
            key,
            key_hash,
            below: None,
            now: None,
        });
        at
    }

    /// The row as it is now, when that is known without a look below.
    fn known(&self, key: &[u8], key_hash: u64) -> Option<&Value> {
        let row = &self.list[self.position(key, key_hash)?];
        row.now.as_ref().or(row.below.as_ref())
    }

    fn remember(&mut self, key: &[u8], key_hash: u64, below: Value) {
        let known = self.position(key, key_hash);
        let at = known.unwrap_or_else(|| self.add(key.to_vec(), key_hash));
        self.list[at].below = Some(below);
    }

    /// The changes of a range, for a scan.
    fn changes(&self, from: &[u8], to: &[u8]) -> Level {
        let within = self
            .list
            .iter()
            .filter(|row| row.key.as_slice() >= from && row.key.as_slice() < to);
        within
            .filter_map(|row| {
                let value = row.now.clone()?;
                let existed = true;
                Some((row.key.clone(), Change { value, existed }))
            })
            .collect()
    }
}

impl<'a> WriteBatch<'a> {
    /// An empty batch over `base`.
    #[must_use]
    pub fn new(base: &'a dyn Tables) -> Self {
        Self {
            base,
            rows: RefCell::default(),
            undo: Vec::new(),
        }
    }

    /// A point that [`WriteBatch::roll_back`] can return to.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Takes back every write since `mark`. A refused command leaves nothing behind this way.
    pub fn roll_back(&mut self, mark: usize) {
        let rows = self.rows.get_mut();
        for (at, replaced) in self.undo.drain(mark..).rev() {
            rows.list[at].now = replaced;
        }
    }

    /// `before`: what the row is now, where the caller is certain.
    fn write(&mut self, key: Vec<u8>, value: Value, before: Option<Value>) {
        let rows = self.rows.get_mut();
        let key_hash = key_hash(&key);
        let at = match rows.position(&key, key_hash) {
            Some(at) => at,
            None => rows.add(key, key_hash),
        };
        let row = &mut rows.list[at];
        if row.now.is_none() && before.is_some() {
            row.below = before;
        }
        self.undo.push((at, row.now.replace(value)));
    }

    /// Writes a row.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.write(key, Some(value.into()), None);
    }

    /// Writes a row under a key that no row has, which spares a look at storage. The caller must be certain: a row
    /// that exists after all makes the state hash wrong.
    pub fn insert(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        debug_assert!(matches!(self.get(&key), Ok(None)), "inserted row exists");
        self.write(key, Some(value.into()), Some(None));
    }

    /// Deletes a row; a missing one is fine.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None, None);
    }

    /// Deletes a row of which the caller is certain that it exists and what it holds. Like [`WriteBatch::insert`] it
    /// spares a look at storage.
    pub fn remove(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        let value = Some(value.into());
        debug_assert!(
            self.get(&key).is_ok_and(|stored| stored == value),
            "removed row is another"
        );
        self.write(key, None, Some(value));
    }

    /// The changes, with the state hash brought up to date. Rows put back to their old value are dropped.
    ///
    /// # Errors
    /// When storage fails.
    pub fn finish(self) -> Result<Changes, TableError> {
        let mut hash = state_hash(self.base)?;
        let rows = self.rows.into_inner().list;
        let mut out = Vec::with_capacity(rows.len() + 1);
        for row in rows {
            let Some(value) = row.now else {
                continue;
            };
            let old = match row.below {
                Some(known) => known,
                None => self.base.get(&row.key)?,
            };
            if old == value {
                continue;
            }
            let existed = old.is_some();
            hash = hash.wrapping_sub(old.map_or(0, |v| value_hash(row.key_hash, &v)));
            hash = hash.wrapping_add(value.as_ref().map_or(0, |v| value_hash(row.key_hash, v)));
            out.push((row.key, Change { value, existed }));
        }
        if !out.is_empty() {
            let hash = Change {
                value: Some(Bytes::copy_from_slice(&hash.to_be_bytes())),
                existed: true,
            };
            out.push((STATE_HASH_KEY.to_vec(), hash));
        }
        Ok(out)
    }
}

impl Tables for WriteBatch<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        let key_hash = key_hash(key);
        if let Some(known) = self.rows.borrow().known(key, key_hash) {
            return Ok(known.clone());
        }
        let value = self.base.get(key)?;
        self.rows.borrow_mut().remember(key, key_hash, value.clone());
        Ok(value)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), TableError> {
        let changes = self.rows.borrow().changes(from, to);
        scan_overlay(&changes, from, to, visit, |merged| {
            self.base.scan(from, to, merged)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTables;
    use std::ops::ControlFlow;

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
        let keys: Vec<_> = changes.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(keys, [&b"kept"[..], b"base", STATE_HASH_KEY]);
    }

    #[test]
    fn a_scan_sees_the_batch_over_what_lies_below() {
        let rows = ["a", "c", "e"].map(|k| (k.as_bytes().to_vec(), Bytes::from_static(b"0")));
        let base: MemoryTables = rows.into_iter().collect();
        let mut batch = WriteBatch::new(&base);
        batch.insert(b"b".to_vec(), "1");
        batch.delete(b"c".to_vec());
        batch.put(b"e".to_vec(), "2");
        batch.put(b"f".to_vec(), "3");
        let mut seen = Vec::new();
        let visited = batch.scan(b"a", b"f", &mut |key, value| {
            seen.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        visited.unwrap();
        let expected = [("a", "0"), ("b", "1"), ("e", "2")];
        assert_eq!(
            seen,
            expected.map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()))
        );
    }

    #[test]
    fn what_is_put_back_changes_nothing() {
        let base: MemoryTables = [(b"k".to_vec(), Bytes::from_static(b"0"))].into_iter().collect();
        let mut batch = WriteBatch::new(&base);
        batch.delete(b"k".to_vec());
        batch.put(b"k".to_vec(), "0");
        batch.insert(b"new".to_vec(), "1");
        batch.delete(b"new".to_vec());
        assert!(batch.finish().unwrap().is_empty());
    }
}
