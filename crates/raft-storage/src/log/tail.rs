//! The in-memory state of one replica's log: ids, vote, and the recent entries.

use crate::types::{Entry, LogId, Payload, Vote};
use std::collections::VecDeque;
use std::io;

/// What an entry costs in memory besides its data.
const ENTRY_OVERHEAD_BYTES: usize = 96;

#[derive(Debug)]
struct Cached {
    entry: Entry,
    bytes: usize,
    /// Number of the append that brought it; flushed once the group's flushed number reaches it.
    seq: u64,
}

/// Ids and recent entries. Entries on disk lie below the tail; an entry leaves the tail only after its flush.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) committed_unsaved: bool,
    pub(super) purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the first entry, where the log does not begin behind the purged id.
    start: u64,
    entries: VecDeque<Cached>,
    bytes: usize,
    seq: u64,
    flushed_seq: u64,
    /// Highest index the engine may hold, beyond `last` after a truncation.
    disk_high: Option<u64>,
    /// Changes whenever entries disappear: truncation, purge.
    epoch: u64,
    bytes_since_purge: u64,
}

impl Tail {
    pub(super) fn recovered(
        vote: Option<Vote>,
        committed: Option<LogId>,
        purged: Option<LogId>,
        last: Option<LogId>,
        start: u64,
        bytes_since_purge: u64,
    ) -> Self {
        Self {
            vote,
            committed,
            purged,
            last,
            start,
            bytes_since_purge,
            disk_high: last.map(|id| id.index),
            ..Self::default()
        }
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bytes_since_purge(&self) -> u64 {
        self.bytes_since_purge
    }

    /// First index that can be read.
    pub(super) fn first_index(&self) -> u64 {
        next(self.purged).max(self.start)
    }

    /// Index after the last.
    pub(super) fn end_index(&self) -> u64 {
        next(self.last)
    }

    /// First index held in memory; the end when none is.
    pub(super) fn memory_start(&self) -> u64 {
        self.entries
            .front()
            .map_or(self.end_index(), |c| c.entry.log_id.index)
    }

    /// Entries `[start, end)` from memory; `start` must not lie below [`Tail::memory_start`].
    pub(super) fn memory(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let skip = start.saturating_sub(self.memory_start()) as usize;
        let count = end.saturating_sub(start) as usize;
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(skip)
            .take(count)
            .take_while(|c| {
                let fits = bytes < bytes_max;
                bytes += c.bytes;
                fits
            })
            .map(|c| c.entry.clone())
            .collect()
    }

    /// Adds entries behind the last one; returns the number of this append.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> io::Result<u64> {
        self.seq += 1;
        for entry in entries {
            let id = entry.log_id;
            if self.last.is_some() && id.index != self.end_index() {
                return Err(io::Error::other(format!(
                    "append of log index {} behind {} would leave a hole",
                    id.index,
                    self.end_index()
                )));
            }
            if self.last.is_none() {
                self.start = id.index;
            }
            let bytes = entry_bytes(&entry);
            self.bytes += bytes;
            self.bytes_since_purge += bytes as u64;
            self.entries.push_back(Cached {
                entry,
                bytes,
                seq: self.seq,
            });
            self.last = Some(id);
            self.disk_high = self.disk_high.max(Some(id.index));
        }
        Ok(self.seq)
    }

    /// Drops entries behind `last`.
    pub(super) fn truncate(&mut self, last: Option<LogId>) {
        let end = next(last);
        if end >= self.end_index() {
            return;
        }
        self.epoch += 1;
        while self.entries.back().is_some_and(|c| c.entry.log_id.index >= end) {
            if let Some(gone) = self.entries.pop_back() {
                self.bytes -= gone.bytes;
            }
        }
        self.last = last.max(self.purged);
    }

    /// Forgets entries up to `id`. Returns the index below which the engine must forget too.
    pub(super) fn purge(&mut self, id: LogId) -> u64 {
        if self.purged.is_some_and(|p| p.index >= id.index) {
            return self.first_index();
        }
        self.epoch += 1;
        while self
            .entries
            .front()
            .is_some_and(|c| c.entry.log_id.index <= id.index)
        {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes -= gone.bytes;
            }
        }
        self.purged = Some(id);
        let held = self.end_index().saturating_sub(id.index + 1);
        if held == 0 {
            self.last = Some(id);
            self.bytes_since_purge = 0;
            // What a truncation left on disk must not come back behind the purged id.
            let high = self.disk_high.take().unwrap_or(0).max(id.index);
            return high + 1;
        }
        // Of what was there, the share that is still held.
        let memory: usize = self.bytes;
        self.bytes_since_purge = self.bytes_since_purge.min(memory as u64);
        id.index + 1
    }

    /// Append number `seq` and everything before it is on stable storage.
    pub(super) fn flushed(&mut self, seq: u64) {
        self.flushed_seq = self.flushed_seq.max(seq);
    }

    /// Last index on stable storage.
    pub(super) fn synced_index(&self) -> Option<u64> {
        let flushed = self.entries.partition_point(|c| c.seq <= self.flushed_seq);
        match self.entries.front() {
            None => self.last.map(|id| id.index),
            Some(front) => (front.entry.log_id.index + flushed as u64).checked_sub(1),
        }
    }

    /// Drops flushed entries from the front until at most `keep_bytes` stay. Returns the bytes freed.
    pub(super) fn evict(&mut self, keep_bytes: usize) -> usize {
        let before = self.bytes;
        while self.bytes > keep_bytes && self.entries.front().is_some_and(|c| c.seq <= self.flushed_seq) {
            if let Some(gone) = self.entries.pop_front() {
                self.bytes -= gone.bytes;
            }
        }
        before - self.bytes
    }
}

fn next(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let data = match &entry.payload {
        Payload::Blank => 0,
        Payload::Normal(data) => data.0.len(),
        Payload::Membership(m) => m.nodes().count() * 16,
    };
    data + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn blank(term: u64, index: u64) -> Entry {
        Entry {
            log_id: log_id(term, index),
            payload: Payload::Blank,
        }
    }

    #[test]
    fn an_entry_leaves_memory_only_after_its_flush() {
        let mut tail = Tail::default();
        let first = tail.append(vec![blank(1, 0), blank(1, 1)]).unwrap();
        tail.append(vec![blank(1, 2)]).unwrap();
        assert_eq!(tail.evict(0), 0);
        assert_eq!(tail.synced_index(), None);
        tail.flushed(first);
        assert_eq!(tail.synced_index(), Some(1));
        assert!(tail.evict(0) > 0);
        assert_eq!(tail.memory_start(), 2);
        assert_eq!(tail.synced_index(), Some(1));
    }

    #[test]
    fn a_late_flush_of_truncated_entries_does_not_cover_their_successors() {
        let mut tail = Tail::default();
        let old = tail.append(vec![blank(1, 0), blank(1, 1), blank(1, 2)]).unwrap();
        tail.truncate(Some(log_id(1, 0)));
        let new = tail.append(vec![blank(2, 1)]).unwrap();
        tail.flushed(old);
        assert_eq!(tail.synced_index(), Some(0));
        tail.flushed(new);
        assert_eq!(tail.synced_index(), Some(1));
    }

    #[test]
    fn purging_everything_also_covers_what_a_truncation_left_on_disk() {
        let mut tail = Tail::recovered(None, None, None, Some(log_id(1, 10)), 0, 0);
        tail.truncate(Some(log_id(1, 5)));
        assert_eq!(tail.purge(log_id(3, 7)), 11);
        assert_eq!(tail.last(), Some(log_id(3, 7)));
        assert!(tail.append(vec![blank(3, 8)]).is_ok());
    }

    #[test]
    fn a_hole_is_refused() {
        let mut tail = Tail::default();
        tail.append(vec![blank(1, 0)]).unwrap();
        assert!(tail.append(vec![blank(1, 2)]).is_err());
    }
}
