//! The node's directory: lock, stamp, layout.
//!
//! `LOCK`, `node.pb` (the stamp), `log/` (the engine), `replicas/<group>-<replica>/` (tables and snapshots).

use crate::codec;
use crate::files;
use baton_protocol::GroupId;
pub use baton_protocol::proto::internal::NodeStamp;
use fs2::FileExt as _;
use prost::Message as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Version of the directory's layout and formats that this program writes.
pub const FORMAT_VERSION: u32 = 1;

const STAMP: &str = "node.pb";
const LOCK: &str = "LOCK";
const LOG: &str = "log";
const REPLICAS: &str = "replicas";

/// Why a data directory cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("data directory {dir} is used by another process; stop it or choose another data_dir")]
    Locked { dir: String },
    #[error("data directory {dir} holds files that are not baton's ({found}); choose an empty data_dir")]
    Foreign { dir: String, found: String },
    #[error(
        "data directory {dir} has no readable {STAMP} but holds data ({reason}); restore the file, or remove the \
         directory and let this node join again as a new one"
    )]
    Unstamped { dir: String, reason: String },
    #[error(
        "data directory {dir} has format {found}, newer than this program's {FORMAT_VERSION}; run a newer baton"
    )]
    Newer { dir: String, found: u32 },
    #[error("data directory {dir} belongs to another {what}; choose the right data_dir")]
    Changed { dir: String, what: &'static str },
    #[error("data directory {dir}: {source}; check that it exists and that this user may write to it")]
    Io { dir: String, source: io::Error },
}

/// A locked data directory. The lock lasts until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    dir: PathBuf,
    stamp: Option<NodeStamp>,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if needed, locks it and reads its stamp.
    ///
    /// # Errors
    /// When it is locked, foreign, newer than this program, or unreadable.
    pub fn open(dir: &Path) -> Result<Self, DataDirError> {
        let name = || dir.display().to_string();
        let io_error = |source| DataDirError::Io { dir: name(), source };
        fs::create_dir_all(dir).map_err(io_error)?;
        // Before anything is written into a directory that is not ours; read again under the lock. A stamped one is
        // ours whatever its operator or the node itself keeps beside.
        if read_stamp(dir)?.is_none() {
            refuse_foreign(dir)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))
            .map_err(io_error)?;
        if let Err(e) = lock.try_lock_exclusive() {
            return Err(if e.kind() == fs2::lock_contended_error().kind() {
                DataDirError::Locked { dir: name() }
            } else {
                io_error(e)
            });
        }
        let stamp = read_stamp(dir)?;
        if stamp.is_none() && holds_data(dir).map_err(io_error)? {
            return Err(DataDirError::Unstamped {
                dir: name(),
                reason: "it is missing".into(),
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            stamp,
            _lock: lock,
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The stamp; `None` in a directory that belongs to no cluster yet ("empty").
    #[must_use]
    pub fn stamp(&self) -> Option<&NodeStamp> {
        self.stamp.as_ref()
    }

    /// Writes the stamp atomically, before any data. Cluster id, node id, shard groups and settings of an existing
    /// stamp cannot change; name and members can.
    ///
    /// # Errors
    /// When they would change, or on I/O errors.
    pub fn write_stamp(&mut self, mut stamp: NodeStamp) -> Result<(), DataDirError> {
        stamp.format_version = FORMAT_VERSION;
        if let Some(old) = &self.stamp {
            let changed = if old.cluster_id != stamp.cluster_id {
                Some("cluster")
            } else if old.node_id != stamp.node_id {
                Some("node")
            } else if old.shard_groups != stamp.shard_groups {
                Some("number of shard groups")
            } else if old.settings != stamp.settings {
                Some("set of cluster settings")
            } else {
                None
            };
            if let Some(what) = changed {
                return Err(DataDirError::Changed {
                    dir: self.dir.display().to_string(),
                    what,
                });
            }
        }
        files::write_atomically(&self.dir.join(STAMP), &stamp.encode_to_vec())
            .map_err(|e| self.io_error(e))?;
        self.stamp = Some(stamp);
        Ok(())
    }

    /// Directory of the log engine.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// Directory of one replica's tables and snapshots.
    #[must_use]
    pub fn replica_dir(&self, group: GroupId, replica_id: u64) -> PathBuf {
        self.dir.join(REPLICAS).join(format!("{}-{replica_id}", group.0))
    }

    /// Deletes a replica's tables and snapshots. Its log goes with [`crate::LogEngine::remove_group`].
    ///
    /// # Errors
    /// On I/O errors.
    pub fn remove_replica(&self, group: GroupId, replica_id: u64) -> Result<(), DataDirError> {
        files::remove_tree(&self.replica_dir(group, replica_id)).map_err(|e| self.io_error(e))
    }

    fn io_error(&self, source: io::Error) -> DataDirError {
        DataDirError::Io {
            dir: self.dir.display().to_string(),
            source,
        }
    }
}

fn refuse_foreign(dir: &Path) -> Result<(), DataDirError> {
    let io_error = |source| DataDirError::Io {
        dir: dir.display().to_string(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let name = entry.map_err(io_error)?.file_name();
        let known = [STAMP, "node.tmp", LOCK, LOG, REPLICAS, "lost+found"];
        // What operators keep beside it (reserve files, certificates) begins with a dot or "baton".
        let name = name.to_string_lossy();
        if !known.contains(&&*name) && !name.starts_with('.') && !name.starts_with("baton") {
            return Err(DataDirError::Foreign {
                dir: dir.display().to_string(),
                found: name.into_owned(),
            });
        }
    }
    Ok(())
}

fn read_stamp(dir: &Path) -> Result<Option<NodeStamp>, DataDirError> {
    let name = || dir.display().to_string();
    let bytes = match fs::read(dir.join(STAMP)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DataDirError::Io { dir: name(), source }),
    };
    let stamp: NodeStamp = codec::decode("node stamp", &bytes).map_err(|e| DataDirError::Unstamped {
        dir: name(),
        reason: e.to_string(),
    })?;
    if stamp.format_version > FORMAT_VERSION {
        return Err(DataDirError::Newer {
            dir: name(),
            found: stamp.format_version,
        });
    }
    if stamp.format_version == 0 || stamp.cluster_id.is_empty() {
        return Err(DataDirError::Unstamped {
            dir: name(),
            reason: "it names no cluster".into(),
        });
    }
    Ok(Some(stamp))
}

/// Log or replicas exist: such a directory must never count as empty.
fn holds_data(dir: &Path) -> io::Result<bool> {
    for part in [LOG, REPLICAS] {
        match fs::read_dir(dir.join(part)) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Ok(true);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> NodeStamp {
        NodeStamp {
            cluster_id: vec![7; 16].into(),
            node_id: 3,
            shard_groups: 4,
            ..NodeStamp::default()
        }
    }

    fn error_of(dir: &Path) -> String {
        DataDir::open(dir).unwrap_err().to_string()
    }

    #[test]
    fn a_stamp_survives_reopening_and_its_identity_cannot_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = DataDir::open(dir.path()).unwrap();
        assert!(open.stamp().is_none());
        open.write_stamp(stamp()).unwrap();
        drop(open);
        let mut open = DataDir::open(dir.path()).unwrap();
        assert_eq!(open.stamp().unwrap().node_id, 3);
        let mut renamed = stamp();
        renamed.name = "b".into();
        open.write_stamp(renamed).unwrap();
        let mut other = stamp();
        other.node_id = 4;
        assert!(open.write_stamp(other).is_err());
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _open = DataDir::open(dir.path()).unwrap();
        assert!(error_of(dir.path()).contains("used by another process"));
    }

    #[test]
    fn a_foreign_directory_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(error_of(dir.path()).contains("thesis.tex"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_stamped_directory_may_hold_other_files_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut open = DataDir::open(dir.path()).unwrap();
        open.write_stamp(stamp()).unwrap();
        drop(open);
        fs::write(dir.path().join("client.env"), "x").unwrap();
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut newer = stamp();
        newer.format_version = FORMAT_VERSION + 1;
        fs::write(dir.path().join(STAMP), newer.encode_to_vec()).unwrap();
        assert!(error_of(dir.path()).contains("run a newer baton"));
        assert!(
            !dir.path().join(LOCK).exists(),
            "a refused directory stays as it is"
        );
    }

    #[test]
    fn data_without_a_stamp_is_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(LOG)).unwrap();
        fs::write(dir.path().join(LOG).join("x"), "x").unwrap();
        assert!(error_of(dir.path()).contains("holds data"));
        fs::write(dir.path().join(STAMP), [0xff]).unwrap();
        assert!(error_of(dir.path()).contains("cannot be decoded"));
    }

    // On disks: a change here needs a higher FORMAT_VERSION, not a new expectation.
    #[test]
    fn stamp_bytes_are_stable() {
        let stamp = NodeStamp {
            format_version: 1,
            cluster_id: vec![7; 2].into(),
            node_id: 3,
            name: "n".into(),
            shard_groups: 4,
            settings: Some(baton_protocol::proto::internal::ClusterSettings {
                command_dedup_ms: 1,
                idempotency_retention_ms: 2,
                terminal_retention_ms: 3,
                audit_retention_ms: 0,
            }),
            members: Vec::new(),
        };
        let expected = [
            0x08, 1, 0x12, 2, 7, 7, 0x18, 3, 0x22, 1, b'n', 0x28, 4, 0x32, 6, 0x08, 1, 0x10, 2, 0x18, 3,
        ];
        assert_eq!(stamp.encode_to_vec(), expected);
    }
}
