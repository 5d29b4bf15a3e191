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

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::internal as pb;
    use baton_state_machine::tables::{STATE_HASH_KEY, row_hash};

    // On disks and between nodes of different versions: a change here needs a new version, not a new expectation.
    #[test]
    fn file_bytes_are_stable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.snap");
        let header = pb::SnapshotHeader {
            version: 1,
            last_log_id: Some(pb::LogId { term: 2, index: 9 }),
            membership: None,
            feature_level: 3,
            group_id: 1,
            shard_groups: 4,
        };
        let hash = row_hash(b"k", b"v");
        let mut out = SnapshotWriter::create(&path, &header).unwrap();
        out.row(STATE_HASH_KEY, &hash.to_be_bytes()).unwrap();
        out.row(b"k", b"v").unwrap();
        out.finish(hash).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let expected = concat!(
            "4241544f4e534e31",
            "0e000000853b4545010801120408021009200328013004",
            "1b000000c0624fca02010000000800000000ad56a59fe3682db701000000010000006b76",
            "0d000000c96c4ced03080210b7dba09bfeb3a9abad01",
        );
        assert_eq!(hex, expected);
        SnapshotFile::open(&path).unwrap().verify().unwrap();
    }
}
