//! How much room is left on the disk of the data directory.

use std::io;
use std::path::PathBuf;

/// Where a node reads how much it may still write. Injected, so that a test can fill a disk.
pub trait DiskSpace: Send + Sync + 'static {
    /// Bytes that this process may still write.
    ///
    /// # Errors
    /// When the file system does not answer.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// The file system that holds a directory.
#[derive(Debug)]
pub struct MountedDisk {
    dir: PathBuf,
}

impl MountedDisk {
    /// The file system of `dir`, which must exist when it is asked.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

impl DiskSpace for MountedDisk {
    fn free_bytes(&self) -> io::Result<u64> {
        fs2::available_space(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_a_disk_and_a_missing_one_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(MountedDisk::new(dir.path().into()).free_bytes().unwrap() > 0);
        assert!(MountedDisk::new(dir.path().join("gone")).free_bytes().is_err());
    }
}
