//! openraft's state machine over a group's tables.
use crate::log::GroupLog;
use crate::snapshot::SnapshotFile;
use crate::tables::TablesHandle;
use crate::types::*;
use baton_protocol::{GroupId, GroupMap};
use baton_state_machine::{Applied, Settings};
use futures::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Sees every applied entry, in log order per group, after its rows became visible.
pub trait ApplyObserver: Send + Sync {
    /// Runs on the apply thread: must be short and must not block.
    fn applied(&self, group: GroupId, log_index: u64, term: u64, applied: &Applied);
}

/// Why a group's machine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("{0}")]
    Open(String),
}

/// The node's apply thread and checkpoint thread, shared by all groups. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StorageWorkers {}

impl StorageWorkers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Self> {
        unreachable!()
    }
}

/// What a machine needs.
#[derive(Clone)]
pub struct MachineOptions {
    /// [`crate::DataDir::replica_dir`].
    pub dir: PathBuf,
    pub group: GroupId,
    pub map: GroupMap,
    pub settings: Settings,
    /// Written into snapshots.
    pub feature_level: u32,
    /// Overlay of this group above which a checkpoint starts.
    pub overlay_bytes_max: usize,
    /// Cache of this group's disk tables.
    pub table_cache_bytes: u64,
    pub observer: Arc<dyn ApplyObserver>,
    pub workers: StorageWorkers,
}

impl fmt::Debug for MachineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineOptions").finish_non_exhaustive()
    }
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Why the tables were deleted and rebuilt; `None` when they were trusted.
    pub rebuilt_because: Option<String>,
    /// Last applied index of the tables as opened.
    pub applied_index: u64,
}

/// openraft's state machine of one replica.
#[derive(Debug)]
pub struct GroupMachine {}

impl GroupMachine {
    /// Opens the tables, or rebuilds them from the snapshot where they cannot be trusted.
    ///
    /// # Errors
    /// When neither tables nor snapshot reach the start of the log: this replica must be synced again.
    pub fn open(
        _options: MachineOptions,
        _log: &GroupLog,
    ) -> Result<(Self, TablesHandle, Recovered), MachineError> {
        unreachable!()
    }
}

/// Builds snapshots of one replica.
#[derive(Debug)]
pub struct SnapshotBuilder {}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        unreachable!()
    }
}

impl RaftStateMachine<TypeConfig> for GroupMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;
    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        unreachable!()
    }
    async fn apply<S>(&mut self, _entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        unreachable!()
    }
    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        unreachable!()
    }
    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        _snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        unreachable!()
    }
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        unreachable!()
    }
}
