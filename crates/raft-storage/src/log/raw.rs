//! The engine behind an object-safe trait, so that the injected file system stays out of every other type.

use super::record::Record;
use protobuf::well_known_types::BytesValue;
use raft_engine::env::FileSystem;
use raft_engine::{Engine, LogBatch, Result};

pub(super) trait RawEngine: Send + Sync {
    fn write(&self, batch: &mut LogBatch) -> Result<usize>;
    fn get(&self, replica: u64, key: &[u8]) -> Option<Vec<u8>>;
    fn first_index(&self, replica: u64) -> Option<u64>;
    fn last_index(&self, replica: u64) -> Option<u64>;
    /// Entries of `[start, end)`, as many as fit `bytes_max`, at least one.
    fn fetch(&self, replica: u64, start: u64, end: u64, bytes_max: Option<usize>) -> Result<Vec<BytesValue>>;
    /// Deletes old files; replicas that keep older ones alive.
    fn purge(&self) -> Result<Vec<u64>>;
}

impl<F: FileSystem> RawEngine for Engine<F> {
    fn write(&self, batch: &mut LogBatch) -> Result<usize> {
        Engine::write(self, batch, true)
    }

    fn get(&self, replica: u64, key: &[u8]) -> Option<Vec<u8>> {
        Engine::get(self, replica, key)
    }

    fn first_index(&self, replica: u64) -> Option<u64> {
        Engine::first_index(self, replica)
    }

    fn last_index(&self, replica: u64) -> Option<u64> {
        Engine::last_index(self, replica)
    }

    fn fetch(&self, replica: u64, start: u64, end: u64, bytes_max: Option<usize>) -> Result<Vec<BytesValue>> {
        let mut records = Vec::new();
        self.fetch_entries_to::<Record>(replica, start, end, bytes_max, &mut records)?;
        Ok(records)
    }

    fn purge(&self) -> Result<Vec<u64>> {
        self.purge_expired_files()
    }
}
