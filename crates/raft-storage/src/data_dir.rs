//! The node's directory: lock, stamp, layout.
use baton_protocol::GroupId;
pub use baton_protocol::proto::internal::NodeStamp;
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{0}")]
    Unusable(String),
}

/// A locked data directory. The lock lasts until this is dropped.
#[derive(Debug)]
pub struct DataDir {}

impl DataDir {
    /// Creates the directory if needed, locks it and reads its stamp.
    ///
    /// # Errors
    /// When it is locked, foreign, newer than this program, or unreadable.
    pub fn open(_path: &Path) -> Result<Self, DataDirError> {
        unreachable!()
    }
    /// The stamp; `None` in a directory that belongs to no cluster yet ("empty").
    #[must_use]
    pub fn stamp(&self) -> Option<&NodeStamp> {
        unreachable!()
    }
    /// Writes the stamp atomically. Cluster id, node id and shard groups of an existing stamp cannot change.
    ///
    /// # Errors
    /// When they would change, or on I/O errors.
    pub fn write_stamp(&mut self, _stamp: NodeStamp) -> Result<(), DataDirError> {
        unreachable!()
    }
    /// Directory of the log engine.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        unreachable!()
    }
    /// Directory of one replica's tables and snapshots.
    #[must_use]
    pub fn replica_dir(&self, _group: GroupId, _replica_id: u64) -> PathBuf {
        unreachable!()
    }
}
