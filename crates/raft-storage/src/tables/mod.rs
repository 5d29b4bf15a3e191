//! The tables of one group: a memtable over one sled database.
//!
//! # Invariants
//! - Applies write memory only. A checkpoint writes rows between a dirty mark and the new position, never beyond what
//!   the log has synced.
//! - A reader sees one moment: applies of the group wait while it reads.
//! - Anything that fails here marks the tables as corrupt; the next start rebuilds them.

pub(crate) mod disk;
pub(crate) mod group;
mod memory;
mod overlay;
#[cfg(test)]
mod tests;

use crate::SnapshotStore;
use crate::workers::StorageWorkers;
use baton_state_machine::Tables;
use group::GroupTables;
pub use memory::TableMemory;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// Reads of one replica's tables, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct TablesHandle {
    tables: Arc<GroupTables>,
    workers: StorageWorkers,
}

impl fmt::Debug for TablesHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TablesHandle")
            .field("applied", &self.applied_index())
            .finish_non_exhaustive()
    }
}

impl TablesHandle {
    pub(crate) fn new(tables: Arc<GroupTables>, workers: StorageWorkers) -> Self {
        Self { tables, workers }
    }

    /// Runs `f` on a consistent view. Applies of this group wait meanwhile: keep it short.
    pub fn read<R>(&self, f: impl FnOnce(&dyn Tables) -> R) -> R {
        f(&*self.tables.levels())
    }

    /// Index of the last applied entry; 0 when none.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.tables.applied_index()
    }

    /// Follows [`TablesHandle::applied_index`].
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.tables.watch_applied()
    }

    /// Snapshots of this replica.
    #[must_use]
    pub fn snapshots(&self) -> SnapshotStore {
        self.tables.snapshots.clone()
    }

    /// Writes the memtable to disk now.
    ///
    /// # Errors
    /// When the tables cannot be written; they are rebuilt at the next start.
    pub async fn checkpoint(&self) -> io::Result<()> {
        let tables = self.tables.clone();
        self.workers
            .background(move || tables.checkpoint().map_err(io::Error::other))
            .await
    }

    /// Clean stop: checkpoint, close, sync, mark clean. Call after the Raft object of this group has shut down; reads
    /// fail afterwards. Blocks.
    ///
    /// # Errors
    /// When the tables cannot be written; they are rebuilt at the next start.
    pub fn close_clean(&self) -> io::Result<()> {
        self.tables.close_clean()
    }
}
