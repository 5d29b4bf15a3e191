//! The log of all groups.
use crate::types::*;
use baton_protocol::GroupId;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Called once with a description when the log can no longer be trusted to be durable. Must not return to
/// normal service: the default logs and aborts the process.
pub type FatalHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{0}")]
    Open(String),
}

/// Bounds and intervals of a [`LogEngine`].
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Recent entries kept in memory, all groups together.
    pub cache_bytes_max: usize,
    /// Entries that wait for the writer, all groups together; above it `append` waits.
    pub queue_bytes_max: usize,
    /// Entries in one write.
    pub batch_bytes_max: usize,
    /// Log bytes on disk above which old files are purged.
    pub purge_threshold_bytes: u64,
    /// Size of one log file.
    pub file_bytes: u64,
    /// How often old files are purged.
    pub purge_interval: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            cache_bytes_max: 64 << 20,
            queue_bytes_max: 64 << 20,
            batch_bytes_max: 8 << 20,
            purge_threshold_bytes: 256 << 20,
            file_bytes: 64 << 20,
            purge_interval: Duration::from_secs(10),
        }
    }
}

/// The node's log engine; one per node, shared by all groups. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogEngine {}

impl LogEngine {
    /// Opens the log under `dir`. Any failure to write or sync aborts the process.
    ///
    /// # Errors
    /// When the directory cannot be read or the log is damaged before its last record.
    pub fn open(_dir: &Path, _options: LogOptions) -> Result<Self, LogError> {
        unreachable!()
    }
    /// The log of one replica. `replica_id` is the engine's region.
    ///
    /// # Errors
    /// When its stored vote or ids cannot be read.
    pub fn group(&self, _group: GroupId, _replica_id: u64) -> Result<GroupLog, LogError> {
        unreachable!()
    }
    /// Whether opening cut a torn record: every replica of this node must refuse votes and not stand for election
    /// until it has caught up with a leader.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        unreachable!()
    }
    /// Replicas that hold old log files; snapshot them, then purge.
    #[must_use]
    pub fn replicas_holding_old_files(&self) -> Vec<u64> {
        unreachable!()
    }
    /// Deletes everything of a replica.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn remove_group(&self, _replica_id: u64) -> io::Result<()> {
        unreachable!()
    }
    /// Writes what waits and stops the threads.
    pub fn close(&self) {}
}

/// One replica's log: openraft's log storage and reader. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupLog {}

impl GroupLog {
    /// Index up to which entries are on stable storage (purged ones count).
    #[must_use]
    pub fn synced_index(&self) -> u64 {
        unreachable!()
    }
    /// Approximate bytes of log since the last purge; input of the snapshot policy.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        unreachable!()
    }
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        _range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        unreachable!()
    }
    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        unreachable!()
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;
    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        unreachable!()
    }
    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }
    async fn save_vote(&mut self, _vote: &Vote) -> Result<(), io::Error> {
        unreachable!()
    }
    async fn append<I>(&mut self, _entries: I, _callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        unreachable!()
    }
    async fn truncate_after(&mut self, _last_log_id: Option<LogId>) -> Result<(), io::Error> {
        unreachable!()
    }
    async fn purge(&mut self, _log_id: LogId) -> Result<(), io::Error> {
        unreachable!()
    }
}
