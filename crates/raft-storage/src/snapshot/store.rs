//! The snapshot directory of one replica: at most one current snapshot, parts that arrive, files being written.

use super::{SnapshotError, SnapshotFile, SnapshotReceiver};
use crate::types::LogId;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The snapshot directory of one replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    dir: Arc<PathBuf>,
    current: Arc<Mutex<Option<SnapshotFile>>>,
}

impl SnapshotStore {
    /// Opens the directory; unfinished files of an earlier process are deleted, parts of transfers are kept.
    pub(crate) fn open(dir: &Path) -> Result<Self, SnapshotError> {
        let error = SnapshotError::io(dir);
        std::fs::create_dir_all(dir).map_err(&error)?;
        let mut newest: Option<SnapshotFile> = None;
        for entry in std::fs::read_dir(dir).map_err(&error)? {
            let path = entry.map_err(&error)?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("snap") => match SnapshotFile::open(&path) {
                    Ok(file) => {
                        if newest
                            .as_ref()
                            .is_none_or(|n| n.meta().last_log_id < file.meta().last_log_id)
                        {
                            newest = Some(file);
                        }
                    }
                    Err(e) => tracing::warn!(error = %e, "snapshot is ignored"),
                },
                Some("part") => {}
                _ => crate::files::remove_if_present(&path).map_err(&error)?,
            }
        }
        Ok(Self {
            dir: Arc::new(dir.to_owned()),
            current: Arc::new(Mutex::new(newest)),
        })
    }

    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Option<SnapshotFile> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts or resumes receiving the snapshot of `last_log_id` with `len_bytes` bytes. Parts of other snapshots are
    /// deleted. Two transfers of one replica at the same time are not supported.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn receiver(&self, last_log_id: LogId, len_bytes: u64) -> Result<SnapshotReceiver, SnapshotError> {
        // The length is part of the name: a snapshot built again at the same id may differ in bytes.
        let part = self
            .dir
            .join(format!("{}-{len_bytes}.part", name(Some(last_log_id))));
        let error = SnapshotError::io(&self.dir);
        for entry in std::fs::read_dir(&*self.dir).map_err(&error)? {
            let path = entry.map_err(&error)?.path();
            if path.extension().is_some_and(|e| e == "part") && path != part {
                crate::files::remove_if_present(&path).map_err(&error)?;
            }
        }
        let complete = self.dir.join(format!("{}.received", name(Some(last_log_id))));
        SnapshotReceiver::open(&part, &complete, len_bytes)
    }

    /// Where a snapshot is written before [`SnapshotStore::adopt`].
    pub(crate) fn building_path(&self) -> PathBuf {
        self.dir.join("building.tmp")
    }

    /// Makes a complete, synced file the current snapshot and deletes the one before.
    pub(crate) fn adopt(&self, file: &SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let path = self.dir.join(format!("{}.snap", name(file.meta().last_log_id)));
        let error = SnapshotError::io(&path);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if file.path() != path {
            if file.path().parent() == Some(&self.dir) {
                std::fs::rename(file.path(), &path).map_err(&error)?;
            } else {
                let copy = self.building_path();
                std::fs::copy(file.path(), &copy).map_err(&error)?;
                std::fs::File::open(&copy)
                    .and_then(|f| f.sync_all())
                    .map_err(&error)?;
                std::fs::rename(&copy, &path).map_err(&error)?;
            }
            crate::files::sync_parent(&path).map_err(&error)?;
        }
        let adopted = SnapshotFile::open(&path)?;
        let before = current.replace(adopted.clone());
        drop(current);
        for entry in std::fs::read_dir(&*self.dir).map_err(&error)? {
            let other = entry.map_err(&error)?.path();
            if other.extension().is_some_and(|e| e == "snap") && other != path {
                crate::files::remove_if_present(&other).map_err(&error)?;
            }
        }
        drop(before);
        Ok(adopted)
    }
}

fn name(id: Option<LogId>) -> String {
    id.map_or_else(
        || "empty".into(),
        |id| format!("{:020}-{}", id.index, id.leader_id.term),
    )
}
