//! What the tables of all groups of one node may keep in memory.

use crate::metrics as names;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Overlays that take more than one part in this many of the budget are written out.
const CHECKPOINT_SHARE: usize = 4;
/// Overlays, those being written out included, never take more than one part in this many: applies wait.
const OVERLAY_SHARE: usize = 2;
/// sled's caches get one part in this many. Its buffers and page tables, about 4 MiB a group, come out of what is left.
const CACHE_SHARE: u64 = 4;

/// One memory budget for the tables of all groups of a node. Cheap to clone.
#[derive(Clone)]
pub struct TableMemory {
    shared: Arc<Shared>,
}

struct Shared {
    budget_bytes: usize,
    cache_bytes: u64,
    /// Overlays that applies write to.
    active_bytes: AtomicUsize,
    /// Overlays that a checkpoint is writing out.
    frozen_bytes: AtomicUsize,
    overlays: AtomicUsize,
    /// Signalled when a checkpoint of any group ends.
    relieved: (Mutex<()>, Condvar),
}

impl fmt::Debug for TableMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableMemory")
            .field("budget_bytes", &self.shared.budget_bytes)
            .field("overlay_bytes", &self.overlay_bytes())
            .finish_non_exhaustive()
    }
}

impl TableMemory {
    /// `budget_bytes` for `groups` groups together.
    #[must_use]
    pub fn new(budget_bytes: u64, groups: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                budget_bytes: usize::try_from(budget_bytes).unwrap_or(usize::MAX),
                cache_bytes: budget_bytes / CACHE_SHARE / groups.max(1),
                active_bytes: AtomicUsize::new(0),
                frozen_bytes: AtomicUsize::new(0),
                overlays: AtomicUsize::new(0),
                relieved: Default::default(),
            }),
        }
    }

    /// Cache of one group's disk tables.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.shared.cache_bytes
    }

    fn overlay_bytes(&self) -> usize {
        self.shared.active_bytes.load(Ordering::Relaxed) + self.shared.frozen_bytes.load(Ordering::Relaxed)
    }

    /// Whether an overlay of this size is to be written out: all together are above their share and this one is at
    /// least of average size. So a busy group may use what idle ones leave.
    pub(super) fn is_due(&self, own_bytes: usize) -> bool {
        let active = self.shared.active_bytes.load(Ordering::Relaxed);
        let overlays = self.shared.overlays.load(Ordering::Relaxed);
        active > self.shared.budget_bytes / CHECKPOINT_SHARE && own_bytes.saturating_mul(overlays) >= active
    }

    /// Blocks while overlays take all they may and the checkpoint that the caller queued has not ended.
    pub(super) fn wait_for_room(&self, queued: impl Fn() -> bool) {
        let (lock, relieved) = &self.shared.relieved;
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.is_full() && queued() {
            guard = relieved.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.overlay_bytes() > self.shared.budget_bytes / OVERLAY_SHARE
    }

    /// There is room again, or a queued checkpoint has ended as `mark` notes: those who wait look again.
    pub(super) fn relieve(&self, mark: impl FnOnce()) {
        let (lock, relieved) = &self.shared.relieved;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        mark();
        relieved.notify_all();
        drop(guard);
    }

    pub(super) fn report(&self) {
        metrics::gauge!(names::OVERLAY_BYTES).set(self.overlay_bytes() as f64);
    }
}

/// What one group's overlay takes of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: TableMemory,
    active_bytes: usize,
    frozen_bytes: usize,
}

impl Share {
    pub(super) fn new(memory: TableMemory) -> Self {
        memory.shared.overlays.fetch_add(1, Ordering::Relaxed);
        Self {
            memory,
            active_bytes: 0,
            frozen_bytes: 0,
        }
    }

    pub(super) fn active_bytes(&self) -> usize {
        self.active_bytes
    }

    pub(super) fn frozen_bytes(&self) -> usize {
        self.frozen_bytes
    }

    pub(super) fn set_active(&mut self, bytes: usize) {
        change(&self.memory.shared.active_bytes, &mut self.active_bytes, bytes);
    }

    pub(super) fn set_frozen(&mut self, bytes: usize) {
        change(&self.memory.shared.frozen_bytes, &mut self.frozen_bytes, bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set_active(0);
        self.set_frozen(0);
        self.memory.shared.overlays.fetch_sub(1, Ordering::Relaxed);
    }
}

fn change(total: &AtomicUsize, own: &mut usize, bytes: usize) {
    if bytes >= *own {
        total.fetch_add(bytes - *own, Ordering::Relaxed);
    } else {
        total.fetch_sub(*own - bytes, Ordering::Relaxed);
    }
    *own = bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_overlay_goes_first_and_a_lone_one_may_use_all() {
        let memory = TableMemory::new(400, 2);
        let mut large = Share::new(memory.clone());
        let mut small = Share::new(memory.clone());
        large.set_active(90);
        assert!(!memory.is_due(90), "together below a quarter");
        small.set_active(20);
        assert!(memory.is_due(90));
        assert!(!memory.is_due(20));
        large.set_active(0);
        large.set_frozen(90);
        assert!(!memory.is_due(20), "what is being written out is not active");
        small.set_active(120);
        assert!(memory.is_full());
        drop(large);
        assert!(!memory.is_full());
        assert_eq!(memory.overlay_bytes(), 120);
    }

    #[test]
    fn waiting_ends_with_room_or_with_the_own_checkpoint() {
        let memory = TableMemory::new(4, 1);
        let mut share = Share::new(memory.clone());
        share.set_active(100);
        let queued = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let other = std::thread::spawn({
            let (memory, queued) = (memory.clone(), queued.clone());
            move || memory.wait_for_room(|| queued.load(Ordering::Acquire))
        });
        memory.relieve(|| queued.store(false, Ordering::Release));
        other.join().unwrap();
        assert!(memory.is_full());
        let other = std::thread::spawn({
            let memory = memory.clone();
            move || memory.wait_for_room(|| true)
        });
        share.set_active(0);
        memory.relieve(|| ());
        other.join().unwrap();
    }
}
