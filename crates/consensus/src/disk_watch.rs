//! Keeps the log from filling the disk: in time, and in a way that a caller can retry.
//!
//! A node whose disk is low gives its groups to nodes that have room, and as long as a majority has room, writes go
//! on. Without one the leader refuses them and reads go on. What is left below the threshold is the reserve of
//! checkpoints, snapshots and elections, which are what frees space. A replica that has used most of the reserve
//! takes no more entries and catches up when there is room again, instead of ending with a full disk.

use crate::metrics;
use baton_protocol::{ErrorCode, ServiceError};
use baton_raft_storage::DiskSpace;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Part of the threshold that must be free beyond it before writes are accepted again, so that the state does not
/// flap: an eighth.
const RECOVERED_SHARE: u64 = 8;
/// Part of the threshold below which a replica takes no entries: a quarter.
const RESERVE_SHARE: u64 = 4;
/// Seconds after which a refused caller should ask again.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Room on this node's disk, and what its peers said about theirs.
pub(crate) struct DiskWatch {
    node_id: u64,
    disk: Arc<dyn DiskSpace>,
    free_min_bytes: u64,
    /// Nodes without room, this one included.
    low: Mutex<HashSet<u64>>,
    /// Whether `low` holds any, so that a proposal usually looks no further.
    any_low: AtomicBool,
    reserve_used: AtomicBool,
}

impl std::fmt::Debug for DiskWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskWatch")
            .field("low", &self.lock())
            .finish_non_exhaustive()
    }
}

impl DiskWatch {
    /// `free_min_bytes` of 0 switches it off.
    pub(crate) fn new(node_id: u64, disk: Arc<dyn DiskSpace>, free_min_bytes: u64) -> Self {
        Self {
            node_id,
            disk,
            free_min_bytes,
            low: Mutex::default(),
            any_low: AtomicBool::new(false),
            reserve_used: AtomicBool::new(false),
        }
    }

    /// Reads the disk. What cannot be read is taken as it was.
    pub(crate) fn sample(&self) {
        let free = match self.disk.free_bytes() {
            Ok(free) => free,
            Err(error) => {
                tracing::debug!(%error, "free space of the data directory is unknown");
                return;
            }
        };
        let was_low = self.is_low();
        let needed = if was_low {
            self.free_min_bytes + self.free_min_bytes / RECOVERED_SHARE
        } else {
            self.free_min_bytes
        };
        let low = free < needed;
        self.reserve_used
            .store(free < self.free_min_bytes / RESERVE_SHARE, Ordering::Release);
        self.note(self.node_id, low);
        metrics::disk(free, low);
        if low && !was_low {
            tracing::error!(
                free_bytes = free,
                free_min_bytes = self.free_min_bytes,
                "the disk of the data directory is nearly full: writes are refused where no majority has room; free \
                 space on it or enlarge it"
            );
        } else if was_low && !low {
            tracing::info!(free_bytes = free, "the disk of the data directory has room again");
        }
    }

    /// What a node said about its own disk.
    pub(crate) fn note(&self, node: u64, low: bool) {
        let mut nodes = self.lock();
        if low {
            nodes.insert(node);
        } else {
            nodes.remove(&node);
        }
        self.any_low.store(!nodes.is_empty(), Ordering::Release);
    }

    /// Whether this node's disk is low.
    pub(crate) fn is_low(&self) -> bool {
        self.any_low() && self.lock().contains(&self.node_id)
    }

    /// Whether any node's disk is low.
    pub(crate) fn any_low(&self) -> bool {
        self.any_low.load(Ordering::Acquire)
    }

    /// Whether this node's replicas must not take entries.
    pub(crate) fn reserve_used(&self) -> bool {
        self.reserve_used.load(Ordering::Acquire)
    }

    /// Whether writes go on without this node's replicas: it takes no entries, and not all of the `nodes` are low.
    pub(crate) fn left_behind(&self, nodes: usize) -> bool {
        self.reserve_used() && self.lock().len() < nodes
    }

    /// Whether a group of these voters may take a command.
    pub(crate) fn admit(&self, voters: impl Iterator<Item = u64>) -> Result<(), ServiceError> {
        let low = self.lock();
        let (mut all, mut full) = (0, 0);
        for voter in voters {
            all += 1;
            full += usize::from(low.contains(&voter));
        }
        if all - full > all / 2 {
            return Ok(());
        }
        let mut error = ServiceError::new(
            ErrorCode::DiskLow,
            "the disks of this group's nodes are nearly full, it takes no writes; retry when there is room again",
        );
        error.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
        Err(error)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.low.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::AtomicU64;

    #[derive(Default)]
    struct Disk(AtomicU64);

    impl DiskSpace for Disk {
        fn free_bytes(&self) -> io::Result<u64> {
            match self.0.load(Ordering::Relaxed) {
                u64::MAX => Err(io::Error::other("gone")),
                free => Ok(free),
            }
        }
    }

    #[test]
    fn a_disk_is_low_until_there_is_clearly_room() {
        let disk = Arc::new(Disk::default());
        let watch = DiskWatch::new(1, disk.clone(), 800);
        let low_at = |free| {
            disk.0.store(free, Ordering::Relaxed);
            watch.sample();
            (watch.is_low(), watch.reserve_used())
        };
        assert_eq!(low_at(800), (false, false));
        assert_eq!(low_at(799), (true, false));
        assert_eq!(low_at(199), (true, true));
        assert_eq!(low_at(u64::MAX), (true, true));
        assert_eq!(low_at(899), (true, false));
        assert_eq!(low_at(900), (false, false));
        low_at(0);
        assert!(watch.left_behind(3) && !watch.left_behind(1));
    }

    #[test]
    fn writes_need_room_on_a_majority() {
        let watch = DiskWatch::new(1, Arc::new(Disk::default()), 0);
        let admits = |voters: &[u64]| watch.admit(voters.iter().copied()).is_ok();
        watch.sample();
        assert!(admits(&[1]) && admits(&[1, 2, 3]));
        watch.note(1, true);
        assert!(!admits(&[1]) && !admits(&[1, 2]) && admits(&[1, 2, 3]));
        watch.note(3, true);
        let refused = watch.admit([1, 2, 3].into_iter()).unwrap_err();
        assert_eq!(
            (refused.code, refused.retry_after_seconds),
            (ErrorCode::DiskLow, Some(RETRY_AFTER_SECONDS))
        );
        watch.note(1, false);
        assert!(admits(&[1, 2, 3]));
    }
}
