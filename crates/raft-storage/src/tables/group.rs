//! The tables of one replica: applies, checkpoints, snapshots, installs.

use super::disk::{DiskTables, FILL_ROWS_MAX, Position};
use super::memory::TableMemory;
use super::overlay::Levels;
use crate::codec;
use crate::log::GroupLog;
use crate::metrics as names;
use crate::recovery::StateFile;
use crate::snapshot::{SnapshotError, SnapshotFile, SnapshotStore, SnapshotWriter};
use crate::types::LogId;
use baton_protocol::proto::internal as pb;
use baton_state_machine::tables::state_hash;
use baton_state_machine::{Change, Changes, Level, TableError, Tables};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a checkpoint waits for the log's sync before it gives up (and is tried again later).
const SYNC_WAIT_MAX: Duration = Duration::from_secs(30);
const SYNC_POLL: Duration = Duration::from_millis(1);

/// Fixed parts of a snapshot header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) group: u32,
    pub(crate) shard_groups: u32,
    pub(crate) feature_level: u32,
}

pub(crate) struct GroupTables {
    pub(super) levels: RwLock<Levels>,
    applied: watch::Sender<u64>,
    /// Held by whoever writes to disk: checkpoint, snapshot, install, close.
    writing: Mutex<()>,
    state_file: StateFile,
    state: Mutex<pb::TablesState>,
    pub(crate) snapshots: SnapshotStore,
    log: GroupLog,
    identity: Identity,
    memory: TableMemory,
    pub(crate) checkpoint_queued: AtomicBool,
}

pub(crate) struct GroupTablesParts {
    pub(crate) disk: DiskTables,
    pub(crate) position: Position,
    pub(crate) state_file: StateFile,
    pub(crate) state: pb::TablesState,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) log: GroupLog,
    pub(crate) identity: Identity,
    pub(crate) memory: TableMemory,
}

impl GroupTables {
    pub(crate) fn new(parts: GroupTablesParts) -> Self {
        let applied = index(parts.position.applied);
        Self {
            levels: RwLock::new(Levels::new(
                Arc::new(parts.disk),
                parts.position,
                parts.memory.clone(),
            )),
            applied: watch::Sender::new(applied),
            writing: Mutex::default(),
            state_file: parts.state_file,
            state: Mutex::new(parts.state),
            snapshots: parts.snapshots,
            log: parts.log,
            identity: parts.identity,
            memory: parts.memory,
            checkpoint_queued: AtomicBool::new(false),
        }
    }

    pub(super) fn levels(&self) -> RwLockReadGuard<'_, Levels> {
        self.levels.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn levels_mut(&self) -> RwLockWriteGuard<'_, Levels> {
        self.levels.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn position(&self) -> Position {
        self.levels().position.clone()
    }

    pub(crate) fn applied_index(&self) -> u64 {
        *self.applied.borrow()
    }

    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Runs `f` on a consistent view.
    pub(crate) fn with_view<R>(&self, f: impl FnOnce(&dyn Tables) -> R) -> R {
        f(&*self.levels())
    }

    /// Makes changes visible, in memory, together with what they bring the tables to.
    pub(crate) fn commit(&self, changes: Changes, id: LogId, membership: Option<crate::types::Membership>) {
        let mut levels = self.levels_mut();
        levels.commit(changes);
        levels.position.applied = Some(id);
        if let Some(membership) = membership {
            levels.position.membership = crate::types::StoredMembership::new(Some(id), membership);
        }
        drop(levels);
        self.applied.send_replace(id.index);
    }

    /// The overlay is to be written out.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let levels = self.levels();
        self.memory.is_due(levels.active_bytes()) || (self.memory.is_full() && levels.takes_memory())
    }

    pub(crate) fn report_memory(&self) {
        self.memory.report();
    }

    /// Blocks while the node's overlays take all they may and a checkpoint of this group is on its way.
    pub(crate) fn wait_for_room(&self) {
        self.memory
            .wait_for_room(|| self.checkpoint_queued.load(Ordering::Acquire));
    }

    /// A queued checkpoint has ended, well or not.
    pub(crate) fn checkpoint_ended(&self) {
        self.memory
            .relieve(|| self.checkpoint_queued.store(false, Ordering::Release));
    }

    /// Writes the overlay to disk.
    pub(crate) fn checkpoint(&self) -> Result<(), TableError> {
        let writing = self.lock_writing();
        self.checkpoint_locked(&writing).map(drop)
    }

    fn checkpoint_locked(
        &self,
        _writing: &MutexGuard<'_, ()>,
    ) -> Result<(Arc<DiskTables>, Position), TableError> {
        let started = Instant::now();
        let (rows, disk, position) = self.levels_mut().freeze()?;
        if let Err(e) = self.wait_until_synced(&position) {
            self.levels_mut().uncharge();
            return Err(e);
        }
        let written = disk
            .set_mark(&position, true)
            .and_then(|()| disk.write(rows.iter()))
            .and_then(|written| disk.set_mark(&position, false).map(|()| written));
        match written {
            Ok(written) => {
                self.levels_mut().thaw();
                self.memory.relieve(|| ());
                metrics::histogram!(names::CHECKPOINT_ROWS).record(written as f64);
                metrics::histogram!(names::CHECKPOINT_SECONDS).record(started.elapsed().as_secs_f64());
                Ok((disk, position))
            }
            Err(e) => {
                self.distrust();
                self.levels_mut().uncharge();
                Err(e)
            }
        }
    }

    /// Tables must not cover what the log could still lose. What never was in the log came from a snapshot.
    fn wait_until_synced(&self, position: &Position) -> Result<(), TableError> {
        let Some(applied) = position.applied else {
            return Ok(());
        };
        let deadline = Instant::now() + SYNC_WAIT_MAX;
        while self.log.last_log_id() >= Some(applied) && self.log.synced_position() < Some(applied.index) {
            if Instant::now() > deadline {
                return Err(TableError::Storage("log is not synced in time".into()));
            }
            std::thread::sleep(SYNC_POLL);
        }
        Ok(())
    }

    /// Storage of the tables failed: the next start rebuilds them.
    pub(crate) fn distrust(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.corrupt = true;
        if let Err(e) = self.state_file.write(&state) {
            // An open checkpoint leaves its dirty mark besides.
            tracing::error!(error = %e, "tables could not be marked as corrupt");
        }
    }

    /// Checkpoints and writes the image to a snapshot file. Applies go on in the overlay; checkpoints wait.
    pub(crate) fn build_snapshot(&self) -> Result<SnapshotFile, SnapshotError> {
        let started = Instant::now();
        let writing = self.lock_writing();
        let (disk, position) = self.checkpoint_locked(&writing)?;
        let header = pb::SnapshotHeader {
            version: 1,
            last_log_id: position.applied.as_ref().map(codec::log_id_to_pb),
            membership: Some(codec::stored_membership_to_pb(&position.membership)),
            feature_level: self.identity.feature_level,
            group_id: self.identity.group,
            shard_groups: self.identity.shard_groups,
        };
        let path = self.snapshots.building_path();
        let mut out = SnapshotWriter::create(&path, &header)?;
        disk.for_each(|key, value| out.row(key, value))?;
        out.finish(state_hash(&*disk)?)?;
        let built = self.snapshots.adopt(&SnapshotFile::open(&path)?)?;
        metrics::histogram!(names::SNAPSHOT_BUILD_SECONDS).record(started.elapsed().as_secs_f64());
        metrics::gauge!(names::SNAPSHOT_BYTES).set(built.len_bytes() as f64);
        Ok(built)
    }

    /// Replaces the tables by a snapshot. Until the state file names the new tables, the old ones stay in force.
    pub(crate) fn install(&self, file: &SnapshotFile) -> Result<(), SnapshotError> {
        let _writing = self.lock_writing();
        let header = file.header();
        if header.group_id != self.identity.group || header.shard_groups != self.identity.shard_groups {
            return Err(SnapshotError::corrupt(
                file.path(),
                format!(
                    "it belongs to group {} of {}",
                    header.group_id, header.shard_groups
                ),
            ));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = state.generation + 1;
        let dir = self.state_file.tables_dir(generation);
        let (disk, position) = load_snapshot(file, &dir, self.memory.cache_bytes())?;
        let file = self.snapshots.adopt(file)?;
        let next = pb::TablesState {
            generation,
            clean: false,
            corrupt: false,
            boot_id: state.boot_id.clone(),
        };
        let error = SnapshotError::io(file.path());
        self.state_file.write(&next).map_err(&error)?;
        *state = next;
        drop(state);
        let applied = index(position.applied);
        let levels = Levels::new(Arc::new(disk), position, self.memory.clone());
        let old = std::mem::replace(&mut *self.levels_mut(), levels);
        drop(old);
        self.memory.relieve(|| ());
        self.applied.send_replace(applied);
        self.state_file.remove_others(generation).map_err(&error)
    }

    /// Clean stop: everything on disk and synced. Reads fail afterwards.
    pub(crate) fn close_clean(&self) -> io::Result<()> {
        let writing = self.lock_writing();
        self.checkpoint_locked(&writing).map_err(io::Error::other)?;
        // sled writes once more when it closes, so close it before the sync.
        drop(self.levels_mut().close());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        crate::files::sync_tree(&self.state_file.tables_dir(state.generation))?;
        state.clean = true;
        self.state_file.write(&state)
    }
}

/// Fills fresh tables in `dir` from a snapshot, verifying it as a whole.
pub(crate) fn load_snapshot(
    file: &SnapshotFile,
    dir: &Path,
    cache_bytes: u64,
) -> Result<(DiskTables, Position), SnapshotError> {
    crate::files::remove_tree(dir).map_err(SnapshotError::io(dir))?;
    let disk = DiskTables::open(dir, cache_bytes)?;
    let position = Position {
        applied: file.meta().last_log_id,
        membership: file.meta().last_membership.clone(),
    };
    disk.set_mark(&position, true)?;
    let mut rows = Level::new();
    file.for_each_row(|key, value| {
        let change = Change {
            value: Some(value),
            existed: false,
        };
        rows.insert(key.to_vec(), change);
        if rows.len() >= FILL_ROWS_MAX {
            disk.write(std::mem::take(&mut rows).iter())?;
        }
        Ok(())
    })?;
    disk.write(rows.iter())?;
    disk.set_mark(&position, false)?;
    Ok((disk, position))
}

fn index(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}
