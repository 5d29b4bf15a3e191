//! Receives a snapshot file in chunks.

use super::{SnapshotError, SnapshotFile};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Receives a snapshot in chunks; a broken transfer is resumed at [`SnapshotReceiver::offset`].
#[derive(Debug)]
pub struct SnapshotReceiver {
    file: File,
    part: PathBuf,
    complete: PathBuf,
    offset: u64,
    len: u64,
}

impl SnapshotReceiver {
    /// Opens `part`, keeping what an earlier transfer of the same snapshot left.
    pub(super) fn open(part: &Path, complete: &Path, len: u64) -> Result<Self, SnapshotError> {
        let error = SnapshotError::io(part);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(part)
            .map_err(&error)?;
        let mut offset = file.metadata().map_err(&error)?.len();
        if offset > len {
            file.set_len(0).map_err(&error)?;
            offset = 0;
        }
        Ok(Self {
            file,
            part: part.to_owned(),
            complete: complete.to_owned(),
            offset,
            len,
        })
    }

    /// Bytes present; the sender continues here.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends a chunk. What lies below the offset is ignored, a gap is refused.
    ///
    /// # Errors
    /// On a gap, beyond the announced length, or when writing fails.
    pub fn write_chunk(&mut self, offset: u64, data: &[u8]) -> Result<(), SnapshotError> {
        let end = offset.saturating_add(data.len() as u64);
        if offset > self.offset || end > self.len {
            return Err(SnapshotError::Transfer(format!(
                "chunk {offset}..{end} does not continue at {} of {}",
                self.offset, self.len
            )));
        }
        let known = usize::try_from(self.offset - offset).unwrap_or(usize::MAX);
        let Some(new) = data.get(known..) else {
            return Ok(());
        };
        self.file
            .write_all_at(new, self.offset)
            .map_err(SnapshotError::io(&self.part))?;
        self.offset += new.len() as u64;
        Ok(())
    }

    /// Syncs and verifies the whole file.
    ///
    /// # Errors
    /// When it is incomplete (what came stays for a resume) or corrupt (it is deleted).
    pub fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        if self.offset != self.len {
            return Err(SnapshotError::Transfer(format!(
                "{} of {} bytes arrived",
                self.offset, self.len
            )));
        }
        let error = SnapshotError::io(&self.part);
        self.file.sync_all().map_err(&error)?;
        if let Err(e) = SnapshotFile::open(&self.part).and_then(|file| file.verify()) {
            crate::files::remove_if_present(&self.part).map_err(&error)?;
            return Err(e);
        }
        std::fs::rename(&self.part, &self.complete).map_err(&error)?;
        crate::files::sync_parent(&self.complete).map_err(&error)?;
        SnapshotFile::open(&self.complete)
    }
}
