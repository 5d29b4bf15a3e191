//! One replica's log as openraft sees it.

use super::engine::EngineShared;
use super::tail::{Tail, entry_bytes};
use super::writer::{Done, Op, Write};
use super::{KEY_VOTE, record, stopped};
use crate::codec;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use baton_protocol::GroupId;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message as _;
use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Entries read in one go for replication.
const READ_BYTES_MAX: usize = 2 << 20;
/// Reads repeated because entries disappeared meanwhile. One truncation or purge at a time exists per group.
const READ_ATTEMPTS_MAX: usize = 16;

pub(super) struct GroupShared {
    pub(super) group: GroupId,
    pub(super) replica: u64,
    tail: Mutex<Tail>,
    engine: std::sync::Weak<EngineShared>,
}

impl GroupShared {
    pub(super) fn new(group: GroupId, replica: u64, tail: Tail, engine: &Arc<EngineShared>) -> Self {
        Self {
            group,
            replica,
            tail: Mutex::new(tail),
            engine: Arc::downgrade(engine),
        }
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by the writer after a sync.
    pub(super) fn flushed(&self, seq: u64) {
        self.tail().flushed(seq);
        if let Some(engine) = self.engine.upgrade() {
            engine.trim_cache(self);
        }
    }

    /// The committed id, if it is newer than what was written.
    pub(super) fn take_unsaved_committed(&self) -> Option<Vec<u8>> {
        unsaved_committed(&mut self.tail())
    }
}

fn unsaved_committed(tail: &mut Tail) -> Option<Vec<u8>> {
    if !std::mem::take(&mut tail.committed_unsaved) {
        return None;
    }
    tail.committed.map(|id| codec::log_id_to_pb(&id).encode_to_vec())
}

/// One replica's log: openraft's log storage and reader. Cheap to clone; at most one clone may write.
#[derive(Clone)]
pub struct GroupLog {
    pub(super) shared: Arc<GroupShared>,
    pub(super) engine: Arc<EngineShared>,
}

impl fmt::Debug for GroupLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupLog")
            .field("group", &self.shared.group)
            .field("replica", &self.shared.replica)
            .finish_non_exhaustive()
    }
}

impl GroupLog {
    /// The replica this log belongs to.
    #[must_use]
    pub fn replica_id(&self) -> u64 {
        self.shared.replica
    }

    /// Index up to which entries are on stable storage (purged ones count); 0 when none.
    #[must_use]
    pub fn synced_index(&self) -> u64 {
        self.synced_position().unwrap_or(0)
    }

    pub(crate) fn synced_position(&self) -> Option<u64> {
        self.shared.tail().synced_index()
    }

    /// Id of the last purged entry.
    #[must_use]
    pub fn purged(&self) -> Option<LogId> {
        self.shared.tail().purged
    }

    /// Id of the last entry.
    #[must_use]
    pub fn last_log_id(&self) -> Option<LogId> {
        self.shared.tail().last()
    }

    /// Approximate bytes of log since the last purge, also after a restart; input of the snapshot policy.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.shared.tail().bytes_since_purge()
    }

    /// Opening the log cut a torn record and this replica has not caught up with a leader since: it must refuse
    /// votes and not stand for election.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.engine.is_suspect(self.shared.replica)
    }

    /// This replica may lack what it acknowledged, for a reason found outside the log; survives restarts. Replicas not
    /// opened yet become suspect too.
    ///
    /// # Errors
    /// When the marker cannot be written.
    pub fn mark_suspect(&self) -> io::Result<()> {
        self.engine.mark_suspect(self.shared.replica)
    }

    /// The replica has caught up with a leader; survives restarts.
    ///
    /// # Errors
    /// When the marker cannot be written.
    pub fn clear_suspect(&self) -> io::Result<()> {
        self.engine.clear_suspect(self.shared.replica)
    }

    fn send(&self, op: Op, committed: Option<Vec<u8>>, done: Done) -> io::Result<()> {
        self.engine.send(Write {
            replica: self.shared.replica,
            op,
            committed,
            done,
            bytes: 0,
            permit: None,
        })
    }

    /// Entries of `[start, end)` that exist, contiguous, at most about `bytes_max` bytes but at least one.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let (start, disk_end, epoch, mut memory) = {
                let tail = self.shared.tail();
                let start = start.max(tail.first_index());
                let end = end.min(tail.end_index());
                if start >= end {
                    return Ok(Vec::new());
                }
                let split = tail.memory_start().clamp(start, end);
                (start, split, tail.epoch(), tail.memory(split, end, bytes_max))
            };
            if disk_end == start {
                return Ok(memory);
            }
            match self.read_disk(start, disk_end, bytes_max) {
                Ok(mut entries) if self.shared.tail().epoch() == epoch => {
                    let whole = entries.len() as u64 == disk_end - start;
                    let bytes: usize = entries.iter().map(entry_bytes).sum();
                    if whole && bytes < bytes_max {
                        entries.append(&mut memory);
                    }
                    return Ok(entries);
                }
                Ok(_) => {}
                // Purged or cut while reading: look again.
                Err(_) if self.shared.tail().epoch() != epoch => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("log changed too often while it was read"))
    }

    fn read_disk(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let limit = (bytes_max != usize::MAX).then_some(bytes_max);
        let records = self
            .engine
            .raw()
            .fetch(self.shared.replica, start, end, limit)
            .map_err(|e| {
                io::Error::other(format!(
                    "log entries {start}..{end} of group {} cannot be read: {e}; \
                     remove the directories log and replicas of this node, but keep node.pb, to sync it from its peers",
                    self.shared.group.0
                ))
            })?;
        let mut entries = Vec::with_capacity(records.len());
        for (record, index) in records.into_iter().zip(start..) {
            let entry = record::decode(record)?;
            if entry.log_id.index != index {
                return Err(io::Error::other(format!("log entry {index} is missing")));
            }
            entries.push(entry);
        }
        if entries.is_empty() || (limit.is_none() && entries.len() as u64 != end - start) {
            return Err(io::Error::other(format!(
                "log entries {start}..{end} are missing"
            )));
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.tail().vote)
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.shared.tail();
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, synced) = oneshot::channel();
        {
            // The queue must see writes of a group in the order of its memory: send under the lock.
            let mut tail = self.shared.tail();
            let committed = unsaved_committed(&mut tail);
            let op = Op::Put {
                key: KEY_VOTE,
                value: codec::vote_to_pb(vote).encode_to_vec(),
            };
            self.send(op, committed, Done::Waiting(done))?;
        }
        synced.await.map_err(|_| stopped())??;
        // Readers see a vote only once it is on stable storage.
        self.shared.tail().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut tail = self.shared.tail();
        if committed > tail.committed {
            tail.committed = committed;
            tail.committed_unsaved = true;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.tail().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let records: Vec<_> = entries.iter().map(record::encode).collect();
        let bytes = records.iter().map(|r| r.value.len()).sum();
        // Returns at once unless the writer is more than the queue bound behind.
        let permit = self.engine.reserve(bytes).await?;
        let mut tail = self.shared.tail();
        let before = tail.bytes();
        let seq = tail.append(entries)?;
        self.engine.cached(tail.bytes() - before);
        let committed = unsaved_committed(&mut tail);
        self.engine.send(Write {
            replica: self.shared.replica,
            op: Op::Append(records),
            committed,
            done: Done::Flushed {
                group: self.shared.clone(),
                seq,
                callback,
            },
            bytes,
            permit: Some(permit),
        })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let mut tail = self.shared.tail();
        let before = tail.bytes();
        tail.truncate(last_log_id);
        self.engine.freed(before - tail.bytes());
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut tail = self.shared.tail();
        if tail.purged.is_some_and(|p| p.index >= log_id.index) {
            return Ok(());
        }
        let before = tail.bytes();
        let first = tail.purge(log_id);
        self.engine.freed(before - tail.bytes());
        let committed = unsaved_committed(&mut tail);
        let purged = codec::log_id_to_pb(&log_id).encode_to_vec();
        self.send(Op::Purge { first, purged }, committed, Done::Nobody)
    }
}
