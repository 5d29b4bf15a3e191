//! Snapshot files: own format, verified as a whole before anything is replaced.
//!
//! `BATONSN1`, then chunks of `length u32 | crc32c u32 | kind u8 | payload` (little endian, the checksum covers kind
//! and payload): one header, rows in key order, one trailer with row count and state hash. Part of the disk format.

mod file;
mod format;
mod receiver;
mod store;
mod writer;

pub use file::{SnapshotFile, SnapshotReader};
pub use receiver::SnapshotReceiver;
pub use store::SnapshotStore;
pub(crate) use writer::SnapshotWriter;

use std::io;
use std::path::Path;

/// A snapshot file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("snapshot {path} is corrupt: {reason}")]
    Corrupt { path: String, reason: String },
    #[error("snapshot transfer: {0}")]
    Transfer(String),
    #[error(transparent)]
    Tables(#[from] baton_state_machine::TableError),
}

impl SnapshotError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.display().to_string(),
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> Self {
        Self::Corrupt {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

impl From<SnapshotError> for io::Error {
    fn from(e: SnapshotError) -> Self {
        Self::other(e)
    }
}
