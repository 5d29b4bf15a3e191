//! A replica in a temporary directory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests"
)]

use baton_protocol::proto::internal::Batch;
use baton_protocol::{GroupId, GroupMap};
use baton_raft_storage::types::log_id;
use baton_raft_storage::{
    ApplyObserver, Entry, EntryData, GroupLog, GroupMachine, LogEngine, LogId, LogOptions, MachineError,
    MachineOptions, Payload, Recovered, StorageWorkers, TableMemory, TablesHandle, TypeConfig,
};
use baton_state_machine::{Applied, Settings};
use bytes::Bytes;
use futures::stream;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt as _;
use openraft::type_config::alias::OneshotReceiverOf;
use prost::Message as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const GROUP: GroupId = GroupId(1);
pub const REPLICA: u64 = 11;

pub struct NoObserver;

impl ApplyObserver for NoObserver {
    fn applied(&self, _: GroupId, _: u64, _: u64, _: &Arc<Applied>) {}
}

pub fn small_log() -> LogOptions {
    LogOptions {
        file_bytes: 256 << 10,
        purge_threshold_bytes: 256 << 10,
        ..LogOptions::default()
    }
}

pub fn machine_options(dir: PathBuf) -> MachineOptions {
    MachineOptions {
        dir,
        group: GROUP,
        map: GroupMap::new(4).unwrap(),
        settings: Settings::default(),
        feature_level: 1,
        memory: TableMemory::new(4 << 20, 1),
        observer: Arc::new(NoObserver),
        workers: StorageWorkers::start().unwrap(),
    }
}

pub struct Replica {
    pub engine: LogEngine,
    pub log: GroupLog,
    pub machine: GroupMachine,
    pub tables: TablesHandle,
    pub recovered: Recovered,
}

impl Replica {
    pub fn open(dir: &Path) -> Self {
        Self::open_as(dir, "boot")
    }

    pub fn open_as(dir: &Path, boot_id: &str) -> Self {
        Self::try_open(dir, boot_id).unwrap()
    }

    pub fn try_open(dir: &Path, boot_id: &str) -> Result<Self, MachineError> {
        let engine = loop {
            match LogEngine::open(&dir.join("log"), small_log()) {
                // A user-space file system drops the lock of a killed process a moment after its end.
                Err(error) if error.to_string().contains("lock file") => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let log = engine.group(GROUP, REPLICA).unwrap();
        let options = machine_options(dir.join("replica"));
        let (machine, tables, recovered) = GroupMachine::open_under(options, &log, boot_id)?;
        Ok(Self {
            engine,
            log,
            machine,
            tables,
            recovered,
        })
    }

    /// Appends and applies entries, as a follower would.
    pub async fn put(&mut self, entries: Vec<Entry>) {
        append(&mut self.log, entries.clone()).await.unwrap();
        let items = entries.into_iter().map(|e| Ok((e, None)));
        self.machine.apply(stream::iter(items)).await.unwrap();
    }
}

pub async fn append(log: &mut GroupLog, entries: Vec<Entry>) -> std::io::Result<()> {
    submit(log, entries).await?.await.unwrap()
}

/// Appends; the receiver resolves when the entries are flushed.
pub async fn submit(log: &mut GroupLog, entries: Vec<Entry>) -> std::io::Result<Flushed> {
    let (done, flushed) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await?;
    Ok(flushed)
}

pub type Flushed = OneshotReceiverOf<TypeConfig, std::io::Result<()>>;

pub fn entry(id: LogId, data: impl Into<Bytes>) -> Entry {
    Entry {
        log_id: id,
        payload: Payload::Normal(EntryData(data.into())),
    }
}

/// Entries with empty batches: they move log time and index.
pub fn batches(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes
        .map(|index| {
            let batch = Batch {
                log_time_ms: 1_000 + index,
                commands: Vec::new(),
            };
            entry(log_id(term, index), batch.encode_to_vec())
        })
        .collect()
}

/// Entries that submit one intent each, to an agent of this group's map.
pub fn submits(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    use baton_protocol::proto::internal::{Command, command};
    use baton_state_machine::testing::submit;
    indexes
        .map(|index| {
            let command = Command {
                origin: 1,
                sequence: index,
                settled_below: index,
                expires_at_ms: u64::MAX,
                body: Some(command::Body::Submit(submit("worker", index))),
            };
            let batch = Batch {
                log_time_ms: 1_800_000_000_000 + index,
                commands: vec![command],
            };
            entry(log_id(term, index), batch.encode_to_vec())
        })
        .collect()
}

impl Replica {
    pub fn state_hash(&self) -> u64 {
        self.tables
            .read(|tables| baton_state_machine::tables::state_hash(tables))
            .unwrap()
    }

    /// The state hash, computed from every row.
    pub fn hash_of_rows(&self) -> u64 {
        use baton_state_machine::tables::{STATE_HASH_KEY, row_hash};
        let mut hash = 0u64;
        let add = &mut |key: &[u8], value: &Bytes| {
            if key != STATE_HASH_KEY {
                hash = hash.wrapping_add(row_hash(key, value));
            }
            std::ops::ControlFlow::Continue(())
        };
        self.tables
            .read(|tables| tables.scan(&[], &[0xff; 32], add))
            .unwrap();
        hash
    }

    pub fn row_count(&self) -> usize {
        let mut rows = 0;
        let count = &mut |_: &[u8], _: &Bytes| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        };
        self.tables
            .read(|tables| tables.scan(&[], &[0xff; 32], count))
            .unwrap();
        rows
    }

    /// Applies what the log holds behind the tables, as a restart does.
    pub async fn replay(&mut self) {
        use openraft::RaftLogReader as _;
        let (applied, _) = self.machine.applied_state().await.unwrap();
        let from = applied.map_or(0, |id| id.index + 1);
        let entries = self.log.try_get_log_entries(from..).await.unwrap();
        let items = entries.into_iter().map(|e| Ok((e, None)));
        self.machine.apply(stream::iter(items)).await.unwrap();
    }

    /// Ends without a clean stop, and waits until the files are closed.
    pub fn crash(self) {
        self.engine.close();
    }
}
