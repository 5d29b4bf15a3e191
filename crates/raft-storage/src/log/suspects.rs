//! Remembers, across restarts, which replicas have not caught up since a torn record was cut.
//!
//! The file `CUT` exists while any replica is suspect; its lines are the replicas that are not any more.

use super::engine::lock;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(super) struct Suspects {
    path: PathBuf,
    /// Cleared replicas; `None` when nothing was cut.
    cleared: Mutex<Option<BTreeSet<u64>>>,
}

/// Written before anything is cut.
pub(super) fn marker(dir: &Path) -> PathBuf {
    dir.join("CUT")
}

impl Suspects {
    pub(super) fn open(dir: &Path, cut_now: bool) -> io::Result<Self> {
        let path = marker(dir);
        let cleared = if cut_now {
            Some(BTreeSet::new())
        } else {
            match std::fs::read_to_string(&path) {
                Ok(text) => Some(text.lines().filter_map(|line| line.parse().ok()).collect()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            }
        };
        Ok(Self {
            path,
            cleared: Mutex::new(cleared),
        })
    }

    pub(super) fn any(&self) -> bool {
        lock(&self.cleared).is_some()
    }

    pub(super) fn is_suspect(&self, replica: u64) -> bool {
        lock(&self.cleared)
            .as_ref()
            .is_some_and(|cleared| !cleared.contains(&replica))
    }

    /// Makes one of the `open` replicas suspect.
    pub(super) fn mark(&self, replica: u64, open: &[u64]) -> io::Result<()> {
        let mut state = lock(&self.cleared);
        let cleared = state.get_or_insert_with(|| open.iter().copied().collect());
        cleared.remove(&replica);
        self.write(cleared)
    }

    fn write(&self, cleared: &BTreeSet<u64>) -> io::Result<()> {
        let lines: String = cleared.iter().map(|id| format!("{id}\n")).collect();
        crate::files::write_atomically(&self.path, lines.as_bytes())
    }

    /// Clears one replica; the marker goes when every one of `open` is cleared.
    pub(super) fn clear(&self, replica: u64, open: &[u64]) -> io::Result<()> {
        let mut state = lock(&self.cleared);
        let Some(cleared) = state.as_mut() else {
            return Ok(());
        };
        cleared.insert(replica);
        if open.iter().all(|id| cleared.contains(id)) {
            crate::files::remove_if_present(&self.path)?;
            *state = None;
            return Ok(());
        }
        self.write(cleared)
    }
}
