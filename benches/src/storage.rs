//! One replica in a temporary directory: log and tables as a node has them.

use baton_protocol::proto::internal::{Batch, GetIntent, Query, query, query_reply};
use baton_protocol::{GroupId, GroupMap};
use baton_raft_storage::{
    ApplyObserver, Entry, EntryData, GroupLog, GroupMachine, LogEngine, LogOptions, MachineOptions, Payload,
    StorageWorkers, TableMemory, TablesHandle, TypeConfig, log_id,
};
use baton_state_machine::{Applied, Settings, testing};
use futures::stream;
use openraft::storage::{IOFlushed, RaftLogStorage as _, RaftStateMachine as _};
use openraft::type_config::TypeConfigExt as _;
use prost::Message as _;
use std::error::Error;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Memory of the group's overlay and of its disk cache: a sixteenth of a node's 1 GiB.
const TABLE_MEMORY_BYTES: u64 = 256 << 20;
/// Submits of one log entry while tables are filled.
const FILL_COMMANDS: u64 = 64;
/// Entries appended and applied at once while tables are filled.
const FILL_ENTRIES: u64 = 64;

/// What any step of a benchmark may fail with.
pub type Failed = Box<dyn Error + Send + Sync>;

struct NoObserver;

impl ApplyObserver for NoObserver {
    fn applied(&self, _: GroupId, _: u64, _: u64, _: &Arc<Applied>) {}
}

/// A replica of the only shard group, alone in its directory, which is removed in the end.
#[derive(Debug)]
pub struct Replica {
    runtime: Runtime,
    log: GroupLog,
    machine: GroupMachine,
    tables: TablesHandle,
    engine: LogEngine,
    next_index: u64,
    next_submit: u64,
    _dir: TempDir,
}

impl Replica {
    /// An empty replica.
    ///
    /// # Errors
    /// When the temporary directory cannot be used.
    pub fn open() -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let engine = LogEngine::open(&dir.path().join("log"), LogOptions::default())?;
        let group = GroupId(1);
        let log = engine.group(group, 1)?;
        let options = MachineOptions {
            dir: dir.path().join("replica"),
            group,
            map: GroupMap::new(1)?,
            settings: Settings::default(),
            feature_level: 1,
            memory: TableMemory::new(TABLE_MEMORY_BYTES, 1),
            observer: Arc::new(NoObserver),
            workers: StorageWorkers::start()?,
        };
        let (machine, tables, _) = GroupMachine::open(options, &log)?;
        Ok(Self {
            runtime: Runtime::new()?,
            log,
            machine,
            tables,
            engine,
            next_index: 1,
            next_submit: 0,
            _dir: dir,
        })
    }

    /// The next `entries` log entries of `commands` submits each.
    pub fn entries(&mut self, entries: u64, commands: u64) -> Vec<Entry> {
        let indexes = self.take_indexes(entries);
        indexes
            .map(|index| {
                let first = self.next_submit;
                self.next_submit += commands;
                let batch: Batch = super::entry((first..self.next_submit).map(super::submit));
                Entry {
                    log_id: log_id(1, index),
                    payload: Payload::Normal(EntryData(batch.encode_to_vec().into())),
                }
            })
            .collect()
    }

    fn take_indexes(&mut self, count: u64) -> Range<u64> {
        let first = self.next_index;
        self.next_index += count;
        first..self.next_index
    }

    /// Appends in one call and waits for the sync.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn append(&mut self, entries: Vec<Entry>) -> Result<(), Failed> {
        let (done, flushed) = TypeConfig::oneshot();
        let log = &mut self.log;
        self.runtime.block_on(async {
            log.append(entries, IOFlushed::signal(done)).await?;
            flushed.await??;
            Ok(())
        })
    }

    /// Applies entries that were appended.
    ///
    /// # Errors
    /// When the tables fail.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<(), Failed> {
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        self.runtime.block_on(self.machine.apply(stream::iter(entries)))?;
        Ok(())
    }

    /// Writes the overlay to the disk tables.
    ///
    /// # Errors
    /// When the tables fail.
    pub fn checkpoint(&self) -> Result<(), Failed> {
        Ok(self.runtime.block_on(self.tables.checkpoint())?)
    }

    /// Submits until there are about this many rows, all of them in the disk tables. Returns the number of intents.
    ///
    /// # Errors
    /// When log or tables fail.
    pub fn fill(&mut self, rows: u64) -> Result<u64, Failed> {
        self.put(1)?;
        let rows_per_intent = (self.rows()? / self.next_submit).max(1);
        let intents = rows / rows_per_intent;
        while self.next_submit < intents {
            let missing = (intents - self.next_submit).div_ceil(FILL_COMMANDS);
            self.put(missing.min(FILL_ENTRIES))?;
        }
        self.checkpoint()?;
        Ok(self.next_submit)
    }

    fn put(&mut self, entries: u64) -> Result<(), Failed> {
        let entries = self.entries(entries, FILL_COMMANDS);
        self.append(entries.clone())?;
        self.apply(entries)
    }

    fn rows(&self) -> Result<u64, Failed> {
        let mut rows = 0;
        let count = &mut |_: &[u8], _: &bytes::Bytes| {
            rows += 1;
            ControlFlow::Continue(())
        };
        self.tables.read(|tables| tables.scan(&[], &[0xff; 32], count))?;
        Ok(rows)
    }

    /// Reads the `n`th intent with its payload, as a linearizable read does once its index is known.
    ///
    /// # Errors
    /// When the tables fail or do not have it.
    pub fn read(&self, n: u64) -> Result<(), Failed> {
        let to = testing::agent(&super::agent_name(n));
        let query = Query {
            actor: None,
            body: Some(query::Body::GetIntent(GetIntent {
                intent_id: testing::intent_id(&to, n).to_bytes(),
                with_payload: true,
            })),
        };
        let reply = self
            .tables
            .read(|tables| baton_state_machine::query(tables, &query))?;
        match reply.outcome {
            Some(query_reply::Outcome::Intent(_)) => Ok(()),
            other => Err(format!("intent {n} is not there: {other:?}").into()),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.engine.close();
    }
}
