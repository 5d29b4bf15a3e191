//! Snapshot files.
use crate::types::*;
use bytes::Bytes;
use std::path::Path;

/// A snapshot file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot {path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("snapshot {path} is corrupt: {reason}")]
    Corrupt { path: String, reason: String },
}

impl From<SnapshotError> for std::io::Error {
    fn from(e: SnapshotError) -> Self {
        Self::other(e)
    }
}

/// A complete snapshot file on disk; openraft's snapshot data. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotFile {}

impl SnapshotFile {
    /// Opens a file and reads its header; the rest is verified at install.
    ///
    /// # Errors
    /// When the file or its header is unreadable.
    pub fn open(_path: &Path) -> Result<Self, SnapshotError> {
        unreachable!()
    }
    /// What it covers.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        unreachable!()
    }
    /// File length.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        unreachable!()
    }
    /// Starts reading it for a transfer. The reader stays valid when the file is replaced meanwhile.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn reader(&self) -> Result<SnapshotReader, SnapshotError> {
        unreachable!()
    }
}

/// Reads chunks of a snapshot file for a transfer.
#[derive(Debug)]
pub struct SnapshotReader {}

impl SnapshotReader {
    /// Up to `max_bytes` from `offset`; empty at the end.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read_chunk(&mut self, _offset: u64, _max_bytes: usize) -> Result<Bytes, SnapshotError> {
        unreachable!()
    }
    /// File length.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        unreachable!()
    }
}

/// Receives a snapshot in chunks; a broken transfer is resumed at [`SnapshotReceiver::offset`].
#[derive(Debug)]
pub struct SnapshotReceiver {}

impl SnapshotReceiver {
    /// Bytes present; the sender continues here.
    #[must_use]
    pub fn offset(&self) -> u64 {
        unreachable!()
    }
    /// Appends a chunk. A chunk that ends at or below the offset is ignored, a gap is refused.
    ///
    /// # Errors
    /// On a gap, beyond the announced length, or when writing fails.
    pub fn write_chunk(&mut self, _offset: u64, _data: &[u8]) -> Result<(), SnapshotError> {
        unreachable!()
    }
    /// Syncs and verifies the whole file.
    ///
    /// # Errors
    /// When it is incomplete or corrupt; it is deleted then.
    pub fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        unreachable!()
    }
}

/// The snapshot directory of one replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotStore {}

impl SnapshotStore {
    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Option<SnapshotFile> {
        unreachable!()
    }
    /// Starts or resumes receiving the snapshot of `last_log_id` with `len_bytes` bytes.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn receiver(&self, _last_log_id: LogId, _len_bytes: u64) -> Result<SnapshotReceiver, SnapshotError> {
        unreachable!()
    }
}
