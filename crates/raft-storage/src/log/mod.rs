//! The log of all groups of a node: one engine, one writer thread, one sync for everything that waits.
//!
//! # Invariants
//! - `append` returns at once; its callback, and a vote's completion, come only after a sync that covers them.
//! - An entry is readable when `append` returns and leaves memory only after its flush.
//! - Writes of a group reach the engine in the order of the group's memory.
//! - After a failed write or sync nothing is acknowledged any more: the fatal handler ends the process.
//! - A torn last record is cut and remembered until the replica has caught up; any other damage that recovery meets
//!   refuses to open. A damaged entry inside a readable record is found when it is read, and ends the node then.
//!
//! The commit index is not synced: it rides in the next batch, so that a restart replays up to an older one.

mod engine;
mod file_system;
mod group;
mod raw;
mod record;
mod suspects;
mod tail;
pub(crate) mod writer;

pub use engine::LogEngine;
pub use group::GroupLog;

use std::io;
use std::sync::Arc;
use std::time::Duration;

const KEY_VOTE: &[u8] = b"vote";
const KEY_COMMITTED: &[u8] = b"committed";
const KEY_PURGED: &[u8] = b"purged";

/// Called with a description when the log can no longer be trusted to be durable. Must not return to normal
/// service: [`abort_process`] logs and aborts.
pub type FatalHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// The default [`FatalHandler`].
#[must_use]
pub fn abort_process() -> FatalHandler {
    Arc::new(|problem| {
        tracing::error!("log storage failed, aborting so that nothing unsynced is acknowledged: {problem}");
        std::process::abort();
    })
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log {dir} cannot be opened: {reason}; if it is damaged, \
         remove the directories log and replicas of this node, but keep node.pb, to sync it from its peers"
    )]
    Open { dir: String, reason: String },
    #[error(
        "log of group {group} cannot be read: {reason}; \
         remove the directories log and replicas of this node, but keep node.pb, to sync it from its peers"
    )]
    Group { group: u32, reason: String },
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

fn stopped() -> io::Error {
    io::Error::other("log writer has stopped")
}
