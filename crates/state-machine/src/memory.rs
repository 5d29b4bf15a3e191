//! Tables in memory: the reference implementation that every other one must agree with.

use crate::tables::{Changes, TableError, Tables, Visit};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Rows in a `BTreeMap`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTables {
    rows: BTreeMap<Vec<u8>, Bytes>,
}

impl MemoryTables {
    /// Makes the changes of a finished batch visible.
    pub fn commit(&mut self, changes: Changes) {
        for (key, change) in changes {
            match change.value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
    }

    /// All rows in key order, as a snapshot would carry them.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &Bytes)> {
        self.rows.iter().map(|(k, v)| (k.as_slice(), v))
    }
}

impl FromIterator<(Vec<u8>, Bytes)> for MemoryTables {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Bytes)>>(rows: I) -> Self {
        Self {
            rows: rows.into_iter().collect(),
        }
    }
}

impl Tables for MemoryTables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self
            .rows
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
        {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
