//! Whether a replica's tables may be trusted after a restart.
//!
//! The log is the truth; tables are a cache that sled does not sync. They are trusted only if the process stopped
//! cleanly or the kernel is still the same one (so nothing written was lost), no checkpoint was open, nothing in
//! them failed, and they do not reach beyond the log. Otherwise they are deleted and rebuilt from snapshot and log.

use crate::codec;
use crate::files;
use crate::tables::disk::Position;
use crate::types::LogId;
use baton_protocol::proto::internal as pb;
use prost::Message as _;
use std::io;
use std::path::{Path, PathBuf};

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The running kernel's boot id. Where it cannot be read, a value that never matches, so that tables are trusted
/// only after a clean stop.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID_FILE).map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// The file that names the current table directory and says whether it may be trusted.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    dir: PathBuf,
}

impl StateFile {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("tables.state")
    }

    /// `None` when there is none. Undecodable counts as corrupt.
    pub(crate) fn read(&self) -> io::Result<Option<pb::TablesState>> {
        match std::fs::read(self.path()) {
            Ok(bytes) => Ok(Some(codec::decode("tables state", &bytes).unwrap_or(
                pb::TablesState {
                    corrupt: true,
                    ..pb::TablesState::default()
                },
            ))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn write(&self, state: &pb::TablesState) -> io::Result<()> {
        files::write_atomically(&self.path(), &state.encode_to_vec())
    }

    pub(crate) fn tables_dir(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("tables-{generation}"))
    }

    /// Deletes table directories other than the current one.
    pub(crate) fn remove_others(&self, current: u64) -> io::Result<()> {
        let keep = self.tables_dir(current);
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let is_tables = path
                .file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with("tables-"));
            if is_tables && path != keep {
                files::remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

/// Why tables must be rebuilt, judged before they are opened.
pub(crate) fn distrust(state: &pb::TablesState, boot_id: &str) -> Option<&'static str> {
    if state.corrupt {
        return Some("a read or write of the tables had failed");
    }
    if !state.clean && (boot_id.is_empty() || state.boot_id != boot_id) {
        return Some("the machine restarted without a clean stop");
    }
    None
}

/// Why opened tables must be rebuilt. `log_end` is the last log id on stable storage.
pub(crate) fn distrust_position(
    position: &Position,
    dirty: bool,
    log_end: Option<LogId>,
) -> Option<&'static str> {
    if dirty {
        return Some("a checkpoint had been under way");
    }
    if position.applied > log_end {
        return Some("the tables reach beyond the log");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn state(boot_id: &str, clean: bool) -> pb::TablesState {
        pb::TablesState {
            generation: 1,
            boot_id: boot_id.into(),
            clean,
            corrupt: false,
        }
    }

    #[test]
    fn another_boot_is_trusted_only_after_a_clean_stop() {
        assert_eq!(distrust(&state("a", false), "a"), None);
        assert_eq!(distrust(&state("a", true), "b"), None);
        assert!(distrust(&state("a", false), "b").is_some());
        assert!(distrust(&state("", false), "").is_some());
    }

    #[test]
    fn corrupt_tables_are_never_trusted() {
        let mut corrupt = state("a", true);
        corrupt.corrupt = true;
        assert!(distrust(&corrupt, "a").is_some());
    }

    #[test]
    fn open_checkpoints_and_tables_ahead_of_the_log_are_not_trusted() {
        let position = Position {
            applied: Some(log_id(1, 5)),
            ..Position::default()
        };
        assert_eq!(distrust_position(&position, false, Some(log_id(1, 5))), None);
        assert!(distrust_position(&position, true, Some(log_id(1, 5))).is_some());
        assert!(distrust_position(&position, false, Some(log_id(1, 4))).is_some());
        assert!(distrust_position(&position, false, None).is_some());
    }
}
