//! openraft's state machine over a group's tables. Applies run on the node's apply thread (see [`StorageWorkers`]).

use crate::causes;
use crate::log::GroupLog;
use crate::metrics as names;
use crate::recovery::{self, StateFile};
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotStore};
use crate::tables::disk::{DiskTables, Position};
use crate::tables::group::{GroupTables, GroupTablesParts, Identity, load_snapshot};
use crate::tables::{TableMemory, TablesHandle};
use crate::types::{
    ApplyResponse, Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
use crate::workers::StorageWorkers;
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, GroupMap, proto::internal::Batch, trace};
use baton_state_machine::{Applied, ApplyContext, Changes, Settings, TableError, WriteBatch};
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use prost::Message as _;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Entries handed to the apply thread at once.
const APPLY_ENTRIES_MAX: usize = 64;

/// Sees every applied batch, in log order per group, after its rows became visible and before its proposer is
/// answered. Entries without a batch (a new leader's first, membership changes) are not reported; follow
/// [`TablesHandle::watch_applied`] for the index.
pub trait ApplyObserver: Send + Sync {
    /// Runs on the apply thread: must be short and must not block. The replies went to the proposer.
    fn applied(&self, group: GroupId, log_index: u64, term: u64, applied: &Arc<Applied>);
}

/// Why a group's machine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("replica directory {dir}: {source}")]
    Io { dir: String, source: io::Error },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("tables of group {group} cannot be created: {source}")]
    Tables { group: u32, source: TableError },
    #[error(
        "group {group}: the log begins behind index {purged} but tables and snapshot reach only {reached}; \
         remove the directories log and replicas of this node, but keep node.pb, to sync it from its peers"
    )]
    Gap { group: u32, purged: u64, reached: u64 },
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
    /// Shared by all groups of the node.
    pub memory: TableMemory,
    pub observer: Arc<dyn ApplyObserver>,
    pub workers: StorageWorkers,
}

impl fmt::Debug for MachineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineOptions")
            .field("dir", &self.dir)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Why the tables were deleted and rebuilt; `None` when they were trusted or there were none.
    pub rebuilt_because: Option<String>,
    /// Last applied index of the tables as opened.
    pub applied_index: u64,
}

struct Shared {
    group: GroupId,
    map: GroupMap,
    settings: Settings,
    observer: Arc<dyn ApplyObserver>,
    workers: StorageWorkers,
    tables: Arc<GroupTables>,
}

/// openraft's state machine of one replica.
pub struct GroupMachine {
    shared: Arc<Shared>,
}

impl fmt::Debug for GroupMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupMachine")
            .field("group", &self.shared.group)
            .finish_non_exhaustive()
    }
}

impl GroupMachine {
    /// Opens the tables, or rebuilds them from the snapshot where they cannot be trusted. Call it before anything is
    /// appended to `log`. Blocks.
    ///
    /// # Errors
    /// When neither tables nor snapshot reach the start of the log: this replica must be synced again.
    pub fn open(
        options: MachineOptions,
        log: &GroupLog,
    ) -> Result<(Self, TablesHandle, Recovered), MachineError> {
        Self::open_under(options, log, &recovery::boot_id())
    }

    /// Like [`GroupMachine::open`], under a given kernel boot id.
    ///
    /// # Errors
    /// See [`GroupMachine::open`].
    pub fn open_under(
        options: MachineOptions,
        log: &GroupLog,
        boot_id: &str,
    ) -> Result<(Self, TablesHandle, Recovered), MachineError> {
        let opened = Opened::open(&options, log, boot_id)?;
        let applied = opened.position.applied;
        let reached = applied.map_or(0, |id| id.index);
        if let Some(purged) = log.purged()
            && applied.is_none_or(|id| id.index < purged.index)
        {
            return Err(MachineError::Gap {
                group: options.group.0,
                purged: purged.index,
                reached,
            });
        }
        let recovered = Recovered {
            rebuilt_because: opened.rebuilt_because.clone(),
            applied_index: reached,
        };
        let tables = Arc::new(GroupTables::new(GroupTablesParts {
            disk: opened.disk,
            position: opened.position,
            state_file: opened.state_file,
            state: opened.state,
            snapshots: opened.snapshots,
            log: log.clone(),
            identity: Identity {
                group: options.group.0,
                shard_groups: options.map.shard_groups(),
                feature_level: options.feature_level,
            },
            memory: options.memory,
        }));
        let handle = TablesHandle::new(tables.clone(), options.workers.clone());
        let shared = Arc::new(Shared {
            group: options.group,
            map: options.map,
            settings: options.settings,
            observer: options.observer,
            workers: options.workers,
            tables,
        });
        Ok((Self { shared }, handle, recovered))
    }
}

/// Tables as found or rebuilt.
struct Opened {
    disk: DiskTables,
    position: Position,
    state_file: StateFile,
    state: pb::TablesState,
    snapshots: SnapshotStore,
    rebuilt_because: Option<String>,
}

impl Opened {
    fn open(options: &MachineOptions, log: &GroupLog, boot_id: &str) -> Result<Self, MachineError> {
        let io_error = |source| MachineError::Io {
            dir: options.dir.display().to_string(),
            source,
        };
        std::fs::create_dir_all(&options.dir).map_err(io_error)?;
        let snapshots = SnapshotStore::open(&options.dir.join("snapshots"))?;
        let state_file = StateFile::new(&options.dir);
        let stored = state_file.read().map_err(io_error)?;
        let generation = stored.as_ref().map_or(0, |s| s.generation);
        let judged = match &stored {
            Some(state) => trusted(options, &state_file, state, log, boot_id).map_err(Some),
            None if snapshots.current().is_some() => Err(Some("the tables are missing".into())),
            None => Err(None),
        };
        let (disk, position, generation, rebuilt_because) = match judged {
            Ok((disk, position)) => (disk, position, generation, None),
            Err(reason) => {
                let generation = generation + 1;
                let dir = state_file.tables_dir(generation);
                let (disk, position) = rebuild(options, &dir, &snapshots)?;
                (disk, position, generation, reason)
            }
        };
        if let Some(reason) = &rebuilt_because {
            tracing::warn!(
                group = options.group.0,
                reason,
                "tables are rebuilt from snapshot and log"
            );
            metrics::counter!(names::TABLES_REBUILT).increment(1);
        }
        let state = pb::TablesState {
            generation,
            boot_id: boot_id.to_owned(),
            clean: false,
            corrupt: false,
        };
        state_file.write(&state).map_err(io_error)?;
        state_file.remove_others(generation).map_err(io_error)?;
        Ok(Self {
            disk,
            position,
            state_file,
            state,
            snapshots,
            rebuilt_because,
        })
    }
}

/// Opens the current tables, or says why they are not to be trusted.
fn trusted(
    options: &MachineOptions,
    state_file: &StateFile,
    state: &pb::TablesState,
    log: &GroupLog,
    boot_id: &str,
) -> Result<(DiskTables, Position), String> {
    if let Some(reason) = recovery::distrust(state, boot_id) {
        return Err(reason.into());
    }
    let dir = state_file.tables_dir(state.generation);
    if !dir.is_dir() {
        return Err("the tables are missing".into());
    }
    let damaged = |e: TableError| format!("the tables are damaged: {e}");
    let disk = DiskTables::open(&dir, options.memory.cache_bytes()).map_err(damaged)?;
    let (position, dirty) = disk.mark().map_err(damaged)?;
    if let Some(reason) = recovery::distrust_position(&position, dirty, log.last_log_id()) {
        return Err(reason.into());
    }
    if position.applied.map(|id| id.index) < log.purged().map(|id| id.index) {
        return Err("the log begins behind the tables".into());
    }
    Ok((disk, position))
}

fn rebuild(
    options: &MachineOptions,
    dir: &std::path::Path,
    snapshots: &SnapshotStore,
) -> Result<(DiskTables, Position), MachineError> {
    if let Some(snapshot) = snapshots.current() {
        return Ok(load_snapshot(&snapshot, dir, options.memory.cache_bytes())?);
    }
    crate::files::remove_tree(dir).map_err(|source| MachineError::Io {
        dir: dir.display().to_string(),
        source,
    })?;
    let disk =
        DiskTables::open(dir, options.memory.cache_bytes()).map_err(|source| MachineError::Tables {
            group: options.group.0,
            source,
        })?;
    Ok((disk, Position::default()))
}

impl Shared {
    fn apply_all(self: &Arc<Self>, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let started = Instant::now();
        for (entry, responder) in entries {
            let response = self.apply_one(entry).inspect_err(|e| {
                tracing::error!(group = self.group.0, error = %e, "entry cannot be applied");
                if !matches!(e, ApplyError::Undecodable { .. }) {
                    self.tables.distrust();
                }
            })?;
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        metrics::histogram!(names::APPLY_SECONDS).record(started.elapsed().as_secs_f64());
        self.relieve();
        Ok(())
    }

    fn apply_one(&self, entry: Entry) -> Result<ApplyResponse, ApplyError> {
        let id = entry.log_id;
        let data = match entry.payload {
            Payload::Normal(data) if !data.0.is_empty() => data,
            Payload::Normal(_) | Payload::Blank => {
                self.tables.commit(Changes::new(), id, None);
                return Ok(ApplyResponse::default());
            }
            Payload::Membership(membership) => {
                self.tables.commit(Changes::new(), id, Some(membership));
                return Ok(ApplyResponse::default());
            }
        };
        let batch = Batch::decode(data.0).map_err(|source| ApplyError::Undecodable {
            index: id.index,
            source,
        })?;
        let context = ApplyContext {
            group: self.group,
            map: self.map,
            log_index: id.index,
            term: id.leader_id.term,
            settings: self.settings,
        };
        let span = tracing::debug_span!(
            "group.apply",
            group_id = self.group.0,
            term = context.term,
            log_index = context.log_index
        );
        trace::caused_by(&span, causes::trace_parents(&batch));
        let _span = span.entered();
        let (changes, mut applied) = self.tables.with_view(|view| {
            let mut rows = WriteBatch::new(view);
            let applied = baton_state_machine::apply(&mut rows, batch, &context)?;
            Ok::<_, TableError>((rows.finish()?, applied))
        })?;
        self.tables.commit(changes, id, None);
        let replies = std::mem::take(&mut applied.replies);
        self.observer
            .applied(self.group, id.index, id.leader_id.term, &Arc::new(applied));
        Ok(ApplyResponse(replies))
    }

    /// Starts a checkpoint when the node's overlays have taken enough of its memory; waits when they have taken all they
    /// may.
    fn relieve(self: &Arc<Self>) {
        let tables = &self.tables;
        tables.report_memory();
        if !tables.wants_checkpoint() {
            return;
        }
        if !tables.checkpoint_queued.swap(true, Ordering::AcqRel) {
            let ended = CheckpointEnded(self.clone());
            self.workers.try_background(move || {
                // A failure has marked the tables as corrupt; they stay right in memory.
                if let Err(e) = ended.0.tables.checkpoint() {
                    tracing::error!(group = ended.0.group.0, error = %e, "checkpoint failed");
                }
                drop(ended);
            });
        }
        tables.wait_for_room();
    }
}

/// Says so however a queued checkpoint ends, also when it found no place in the queue: applies may wait for it.
struct CheckpointEnded(Arc<Shared>);

impl Drop for CheckpointEnded {
    fn drop(&mut self) {
        self.0.tables.checkpoint_ended();
    }
}

#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("log entry {index} cannot be decoded, a newer version may have written it: {source}")]
    Undecodable { index: u64, source: prost::DecodeError },
    #[error(transparent)]
    Tables(#[from] TableError),
}

impl From<ApplyError> for io::Error {
    fn from(e: ApplyError) -> Self {
        Self::other(e)
    }
}

/// Builds snapshots of one replica.
pub struct SnapshotBuilder {
    shared: Arc<Shared>,
}

impl fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotBuilder").finish_non_exhaustive()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let tables = self.shared.tables.clone();
        let built = self
            .shared
            .workers
            .background(move || Ok(tables.build_snapshot()?))
            .await?;
        Ok(openraft_snapshot(built))
    }
}

fn openraft_snapshot(file: SnapshotFile) -> Snapshot {
    Snapshot {
        meta: file.meta().clone(),
        snapshot: file,
    }
}

impl RaftStateMachine<TypeConfig> for GroupMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let position = self.shared.tables.position();
        Ok((position.applied, position.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut chunk = vec![first?];
            let mut failed = None;
            while chunk.len() < APPLY_ENTRIES_MAX {
                match entries.next().now_or_never() {
                    Some(Some(Ok(entry))) => chunk.push(entry),
                    Some(Some(Err(e))) => {
                        failed = Some(e);
                        break;
                    }
                    Some(None) | None => break,
                }
            }
            let shared = self.shared.clone();
            let apply = move || shared.apply_all(chunk);
            self.shared.workers.apply(apply).await?;
            if let Some(e) = failed {
                return Err(e);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilder {
            shared: self.shared.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let tables = self.shared.tables.clone();
        let install = move || Ok(tables.install(&snapshot)?);
        self.shared.workers.background(install).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.shared.tables.snapshots.current();
        Ok(current.map(openraft_snapshot))
    }
}
