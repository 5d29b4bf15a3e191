//! The memtable over the disk tables: one level that applies write to, one that a checkpoint is writing out.

use super::disk::{DiskTables, Position};
use super::memory::{Share, TableMemory};
use baton_state_machine::tables::{Visit, scan_overlay};
use baton_state_machine::{Change, Changes, Level, TableError, Tables};
use bytes::Bytes;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// What a row costs in memory besides key and value: its place in a B-tree that is two thirds full, and two allocations.
const ROW_OVERHEAD_BYTES: usize = 144;

#[derive(Debug)]
pub(super) struct Levels {
    active: Level,
    share: Share,
    frozen: Option<Arc<Level>>,
    /// `None` once closed.
    disk: Option<Arc<DiskTables>>,
    pub(super) position: Position,
}

impl Levels {
    pub(super) fn new(disk: Arc<DiskTables>, position: Position, memory: TableMemory) -> Self {
        Self {
            active: Level::new(),
            share: Share::new(memory),
            frozen: None,
            disk: Some(disk),
            position,
        }
    }

    pub(super) fn active_bytes(&self) -> usize {
        self.share.active_bytes()
    }

    pub(super) fn commit(&mut self, changes: Changes) {
        let mut bytes = self.share.active_bytes();
        for (key, change) in changes {
            overlay(&mut self.active, &mut bytes, key, change);
        }
        self.share.set_active(bytes);
    }

    /// Starts a checkpoint: what it writes, where, and the position it reaches. A level left over from a failed
    /// checkpoint is written first, together with the new one.
    pub(super) fn freeze(&mut self) -> Result<(Arc<Level>, Arc<DiskTables>, Position), TableError> {
        let disk = self.disk.clone().ok_or_else(closed)?;
        let mut rows = std::mem::take(&mut self.active);
        let mut bytes = self.share.active_bytes();
        if let Some(left) = self.frozen.take() {
            let mut merged = Arc::unwrap_or_clone(left);
            // Any of them may have reached the disk before the checkpoint failed.
            merged.values_mut().for_each(|change| change.existed = true);
            bytes = self.share.frozen_bytes();
            for (key, change) in rows {
                overlay(&mut merged, &mut bytes, key, change);
            }
            rows = merged;
        }
        self.share.set_active(0);
        self.share.set_frozen(bytes);
        let rows = Arc::new(rows);
        self.frozen = Some(rows.clone());
        Ok((rows, disk, self.position.clone()))
    }

    /// The frozen level is on disk.
    pub(super) fn thaw(&mut self) {
        self.frozen = None;
        self.share.set_frozen(0);
    }

    /// The frozen level could not be written. It stays in force, but a group whose disk fails must not take the room of
    /// all others.
    pub(super) fn uncharge(&mut self) {
        self.share.set_frozen(0);
    }

    pub(super) fn takes_memory(&self) -> bool {
        self.share.active_bytes() + self.share.frozen_bytes() > 0
    }

    /// Gives the disk tables up; reads fail from now on.
    pub(super) fn close(&mut self) -> Option<Arc<DiskTables>> {
        self.disk.take()
    }

    fn disk(&self) -> Result<&DiskTables, TableError> {
        self.disk.as_deref().ok_or_else(closed)
    }

    fn frozen(&self) -> Option<&Level> {
        self.frozen.as_deref()
    }
}

impl Tables for Levels {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        if let Some(change) = self.active.get(key) {
            return Ok(change.value.clone());
        }
        if let Some(change) = self.frozen().and_then(|rows| rows.get(key)) {
            return Ok(change.value.clone());
        }
        self.disk()?.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), TableError> {
        let disk = self.disk()?;
        scan_overlay(&self.active, from, to, visit, |merged| match self.frozen() {
            Some(rows) => scan_overlay(rows, from, to, merged, |below| disk.scan(from, to, below)),
            None => disk.scan(from, to, merged),
        })
    }
}

fn closed() -> TableError {
    TableError::Storage("tables are closed".into())
}

/// Puts one change on a level. A row that comes and goes on the same level leaves nothing there: mailbox entries,
/// timers, messages and numbers of finished work never cost the disk anything.
fn overlay(level: &mut Level, level_bytes: &mut usize, key: Vec<u8>, change: Change) {
    let key_bytes = key.len();
    let added = row_bytes(key_bytes, &change);
    match level.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(change);
            *level_bytes += added;
        }
        Entry::Occupied(mut entry) => {
            let old = row_bytes(key_bytes, entry.get());
            *level_bytes = level_bytes.saturating_sub(old);
            if change.value.is_none() && !entry.get().existed {
                entry.remove();
            } else {
                entry.get_mut().value = change.value;
                *level_bytes += added;
            }
        }
    }
}

fn row_bytes(key_bytes: usize, change: &Change) -> usize {
    key_bytes + change.value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES
}
