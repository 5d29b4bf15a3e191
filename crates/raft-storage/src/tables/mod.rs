//! The tables of one group.
use baton_state_machine::Tables;
use tokio::sync::watch;

/// Reads of one replica's tables, from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TablesHandle {}

impl TablesHandle {
    /// Runs `f` on a consistent view. Applies of this group wait meanwhile: keep it short.
    pub fn read<R>(&self, _f: impl FnOnce(&dyn Tables) -> R) -> R {
        unreachable!()
    }
    /// Index of the last applied entry; 0 when none.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        unreachable!()
    }
    /// Follows [`TablesHandle::applied_index`].
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        unreachable!()
    }
    /// Snapshots of this replica.
    #[must_use]
    pub fn snapshots(&self) -> crate::SnapshotStore {
        unreachable!()
    }
    /// Clean stop: checkpoint, sync, mark clean. Call after the Raft object of this group has shut down. Blocks.
    ///
    /// # Errors
    /// When the tables cannot be written; they are rebuilt at the next start.
    pub fn close_clean(&self) -> std::io::Result<()> {
        unreachable!()
    }
}
