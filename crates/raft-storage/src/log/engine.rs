//! The node's log engine: opening, threads, the shared cache budget.

use super::file_system::{Watch, WatchedFileSystem};
use super::group::{GroupLog, GroupShared};
use super::raw::RawEngine;
use super::tail::{Tail, entry_bytes};
use super::writer::{Busy, Done, Job, Op, Write, Writer, panic_text};
use super::{
    FatalHandler, KEY_COMMITTED, KEY_PURGED, KEY_VOTE, LogError, LogOptions, record, stopped, suspects,
};
use crate::codec;
use crate::metrics as names;
use crate::types::LogId;
use baton_protocol::GroupId;
use baton_protocol::proto::internal as pb;
use raft_engine::env::{DefaultFileSystem, FileSystem};
use raft_engine::{Config, Engine, ReadableSize, RecoveryMode};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes that one permit of the queue stands for.
const PERMIT_BYTES: usize = 1_024;
/// Entries at each end of a log that are read to estimate its size.
const SAMPLED_ENTRIES: u64 = 16;
const SAMPLED_BYTES_MAX: usize = 256 << 10;

/// The node's log engine; one per node, shared by all groups. Cheap to clone.
#[derive(Clone)]
pub struct LogEngine {
    shared: Arc<EngineShared>,
}

impl fmt::Debug for LogEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogEngine").finish_non_exhaustive()
    }
}

pub(super) struct EngineShared {
    raw: Arc<dyn RawEngine>,
    jobs: Mutex<Sender<Job>>,
    queue: Arc<Semaphore>,
    queue_permits: usize,
    cache_bytes_max: usize,
    cache_bytes: AtomicUsize,
    groups: Mutex<BTreeMap<u64, Arc<GroupShared>>>,
    old_files: Mutex<Vec<u64>>,
    suspects: suspects::Suspects,
    stop: Arc<(Mutex<bool>, Condvar)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    failed: Arc<AtomicBool>,
    busy: Arc<Busy>,
}

impl LogEngine {
    /// Opens the log under `dir`. Any failure to write or sync aborts the process.
    ///
    /// # Errors
    /// When the directory cannot be read or the log is damaged before its last record.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        Self::open_with(dir, options, Arc::new(DefaultFileSystem), super::abort_process())
    }

    /// Like [`LogEngine::open`], on a given file system and with a given reaction to failed writes.
    ///
    /// # Errors
    /// See [`LogEngine::open`].
    pub fn open_with<F: FileSystem + 'static>(
        dir: &Path,
        options: LogOptions,
        file_system: Arc<F>,
        fatal: FatalHandler,
    ) -> Result<Self, LogError> {
        let fail = |reason: String| LogError::Open {
            dir: dir.display().to_string(),
            reason,
        };
        std::fs::create_dir_all(dir).map_err(|e| fail(e.to_string()))?;
        crate::files::sync_parent(dir).map_err(|e| fail(e.to_string()))?;
        let watch = Arc::new(Watch::default());
        watch.recovering.store(true, Ordering::Release);
        let watched = Arc::new(WatchedFileSystem::new(file_system, watch.clone()));
        let config = engine_config(dir, &options);
        let engine = catch_unwind(AssertUnwindSafe(|| {
            Engine::open_with_file_system(config, watched)
        }))
        .map_err(|panic| fail(panic_text(&*panic)))?
        .map_err(|e| fail(e.to_string()))?;
        watch.recovering.store(false, Ordering::Release);
        let suspects = suspects::Suspects::open(dir, watch.cut.load(Ordering::Acquire))
            .map_err(|e| fail(format!("cut marker: {e}")))?;
        let shared = EngineShared::start(Arc::new(engine), &options, suspects, fatal)
            .map_err(|e| fail(format!("threads: {e}")))?;
        Ok(Self { shared })
    }

    /// The log of one replica. `replica_id` is the engine's region. Repeated calls share one state.
    ///
    /// # Errors
    /// When its stored vote or ids cannot be read.
    pub fn group(&self, group: GroupId, replica_id: u64) -> Result<GroupLog, LogError> {
        let mut groups = lock(&self.shared.groups);
        let shared = match groups.get(&replica_id) {
            Some(open) => open.clone(),
            None => {
                let tail = self.shared.load(replica_id).map_err(|e| LogError::Group {
                    group: group.0,
                    reason: e.to_string(),
                })?;
                let new = Arc::new(GroupShared::new(group, replica_id, tail, &self.shared));
                groups.insert(replica_id, new.clone());
                new
            }
        };
        Ok(GroupLog {
            shared,
            engine: self.shared.clone(),
        })
    }

    /// Whether this or an earlier opening cut a torn record and some replica has not caught up since; see
    /// [`GroupLog::is_suspect`].
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.shared.suspects.any()
    }

    /// How long the writer has been at one batch; zero while it waits for work.
    #[must_use]
    pub fn write_stalled_for(&self) -> Duration {
        self.shared.busy.time()
    }

    /// Replicas that hold old log files: snapshot them, then purge their logs.
    #[must_use]
    pub fn replicas_holding_old_files(&self) -> Vec<u64> {
        lock(&self.shared.old_files).clone()
    }

    /// Deletes old log files now; returns the replicas that hold others.
    ///
    /// # Errors
    /// When files cannot be rewritten or deleted.
    pub fn purge_files(&self) -> io::Result<Vec<u64>> {
        self.shared.purge_files()
    }

    /// Deletes everything of a replica.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn remove_group(&self, replica_id: u64) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        if let Some(gone) = lock(&self.shared.groups).remove(&replica_id) {
            self.shared.freed(gone.tail().bytes());
        }
        self.shared.send(Write {
            replica: replica_id,
            op: Op::Clean,
            committed: None,
            done: Done::Waiting(done),
            bytes: 0,
            permit: None,
        })?;
        synced.await.map_err(|_| stopped())?
    }

    /// Writes what waits, the committed ids included, and stops the threads. Later writes fail.
    pub fn close(&self) {
        let groups: Vec<_> = lock(&self.shared.groups).values().cloned().collect();
        for group in groups {
            let Some(committed) = group.take_unsaved_committed() else {
                continue;
            };
            // A stopped writer cannot save it, which is allowed.
            let _ = self.shared.send(Write {
                replica: group.replica,
                op: Op::Put {
                    key: KEY_COMMITTED,
                    value: committed,
                },
                committed: None,
                done: Done::Nobody,
                bytes: 0,
                permit: None,
            });
        }
        self.shared.stop();
    }
}

impl EngineShared {
    fn start(
        raw: Arc<dyn RawEngine>,
        options: &LogOptions,
        suspects: suspects::Suspects,
        fatal: FatalHandler,
    ) -> io::Result<Arc<Self>> {
        let (jobs, receiver) = channel();
        let failed = Arc::new(AtomicBool::new(false));
        let busy = Arc::new(Busy::default());
        let writer = Writer {
            engine: raw.clone(),
            jobs: receiver,
            batch_bytes_max: options.batch_bytes_max,
            fatal: fatal.clone(),
            failed: failed.clone(),
            busy: busy.clone(),
        };
        let queue_permits = (options.queue_bytes_max / PERMIT_BYTES).clamp(1, u32::MAX as usize >> 3);
        let shared = Arc::new(Self {
            raw,
            jobs: Mutex::new(jobs),
            queue: Arc::new(Semaphore::new(queue_permits)),
            queue_permits,
            cache_bytes_max: options.cache_bytes_max,
            cache_bytes: AtomicUsize::new(0),
            groups: Mutex::default(),
            old_files: Mutex::default(),
            suspects,
            stop: Arc::default(),
            threads: Mutex::default(),
            failed,
            busy,
        });
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let write = thread("baton-log").spawn(move || writer.run())?;
        let weak = Arc::downgrade(&shared);
        let stop = shared.stop.clone();
        let interval = options.purge_interval;
        let purge = thread("baton-log-purge").spawn(move || {
            loop {
                let (stopped, wake) = &*stop;
                let (stopped, _) = wake
                    .wait_timeout_while(lock(stopped), interval, |stopped| !*stopped)
                    .unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    return;
                }
                drop(stopped);
                let Some(shared) = weak.upgrade() else { return };
                purge_guarded(&shared, &fatal);
            }
        })?;
        lock(&shared.threads).extend([write, purge]);
        Ok(shared)
    }

    /// Reads a replica's ids from the engine.
    fn load(&self, replica: u64) -> io::Result<Tail> {
        let vote = self
            .raw
            .get(replica, KEY_VOTE)
            .map(|b| codec::decode::<pb::Vote>("vote", &b))
            .transpose()?;
        let stored_id = |key, what| -> io::Result<Option<LogId>> {
            let Some(bytes) = self.raw.get(replica, key) else {
                return Ok(None);
            };
            Ok(Some(codec::log_id_from_pb(&codec::decode(what, &bytes)?)))
        };
        let purged = stored_id(KEY_PURGED, "purged log id")?;
        let committed = stored_id(KEY_COMMITTED, "committed log id")?;
        let mut last = purged;
        let mut begin = 0;
        let mut bytes = 0;
        if let (Some(first), Some(end)) = (self.raw.first_index(replica), self.raw.last_index(replica)) {
            let start = purged.map_or(0, |p| p.index + 1);
            if end >= start {
                if purged.is_some() && first > start {
                    return Err(io::Error::other(format!(
                        "log entries {start}..{first} are missing"
                    )));
                }
                begin = first;
                let read = self
                    .raw
                    .fetch(replica, end, end + 1, None)
                    .map_err(io::Error::other)?;
                let record = read.into_iter().next().ok_or_else(stopped)?;
                last = Some(record::decode(record)?.log_id);
                bytes = self.estimated_bytes(replica, first.max(start), end + 1);
            }
        }
        // A committed id may ride in a batch whose entries were cut; it cannot lie behind the log.
        let committed = committed.min(last);
        Ok(Tail::recovered(
            vote.as_ref().map(codec::vote_from_pb),
            committed,
            purged,
            last,
            begin,
            bytes,
        ))
    }

    /// Bytes of `[start, end)`, judged by the entries at both ends: reading all would make every start slow. What
    /// cannot be read is left out; whoever needs it will find it.
    fn estimated_bytes(&self, replica: u64, start: u64, end: u64) -> u64 {
        let sampled = [start, end.saturating_sub(SAMPLED_ENTRIES).max(start)];
        let sizes: Vec<u64> = sampled
            .into_iter()
            .filter_map(|from| {
                let to = end.min(from + SAMPLED_ENTRIES);
                self.raw.fetch(replica, from, to, Some(SAMPLED_BYTES_MAX)).ok()
            })
            .flatten()
            .filter_map(|record| record::decode(record).ok())
            .map(|entry| entry_bytes(&entry) as u64)
            .collect();
        sizes.iter().sum::<u64>() / (sizes.len() as u64).max(1) * (end - start)
    }

    pub(super) fn raw(&self) -> &dyn RawEngine {
        &*self.raw
    }

    pub(super) fn send(&self, write: Write) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(stopped());
        }
        lock(&self.jobs).send(Job::Write(write)).map_err(|_| stopped())
    }

    /// Room in the writer's queue.
    pub(super) async fn reserve(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let permits = bytes.div_ceil(PERMIT_BYTES).clamp(1, self.queue_permits) as u32;
        let queue = self.queue.clone();
        queue.acquire_many_owned(permits).await.map_err(|_| stopped())
    }

    pub(super) fn cached(&self, bytes: usize) {
        self.cache_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn freed(&self, bytes: usize) {
        self.cache_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Keeps the cache within its bound: first the group that just grew, then any group above its fair share.
    pub(super) fn trim_cache(&self, grown: &GroupShared) {
        let used = self.cache_bytes.load(Ordering::Relaxed);
        metrics::gauge!(names::LOG_CACHE_BYTES).set(used as f64);
        if used <= self.cache_bytes_max {
            return;
        }
        let groups: Vec<_> = lock(&self.groups).values().cloned().collect();
        let share = self.cache_bytes_max / groups.len().max(1);
        let freed = grown.tail().evict(share);
        self.freed(freed);
        for group in groups {
            if self.cache_bytes.load(Ordering::Relaxed) <= self.cache_bytes_max {
                return;
            }
            let freed = group.tail().evict(share);
            self.freed(freed);
        }
    }

    pub(super) fn is_suspect(&self, replica: u64) -> bool {
        self.suspects.is_suspect(replica)
    }

    pub(super) fn mark_suspect(&self, replica: u64) -> io::Result<()> {
        let open: Vec<u64> = lock(&self.groups).keys().copied().collect();
        self.suspects.mark(replica, &open)
    }

    pub(super) fn clear_suspect(&self, replica: u64) -> io::Result<()> {
        let open: Vec<u64> = lock(&self.groups).keys().copied().collect();
        self.suspects.clear(replica, &open)
    }

    fn purge_files(&self) -> io::Result<Vec<u64>> {
        let holding = self.raw.purge().map_err(io::Error::other)?;
        metrics::gauge!(names::LOG_OLD_FILE_REPLICAS).set(holding.len() as f64);
        lock(&self.old_files).clone_from(&holding);
        Ok(holding)
    }

    fn stop(&self) {
        // Queued writes come before the stop.
        let _ = lock(&self.jobs).send(Job::Stop);
        let (stopped, wake) = &*self.stop;
        *lock(stopped) = true;
        wake.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let me = std::thread::current().id();
        for thread in threads.into_iter().filter(|t| t.thread().id() != me) {
            // A thread that panicked has reported through the fatal handler.
            let _ = thread.join();
        }
    }
}

impl Drop for EngineShared {
    fn drop(&mut self) {
        self.stop();
    }
}

fn purge_guarded(shared: &EngineShared, fatal: &FatalHandler) {
    if shared.failed.load(Ordering::Acquire) {
        return;
    }
    match catch_unwind(AssertUnwindSafe(|| shared.purge_files())) {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => tracing::error!(error = %e, "old log files cannot be purged"),
        Err(panic) => {
            shared.failed.store(true, Ordering::Release);
            fatal(&format!("log purge failed: {}", panic_text(&*panic)));
        }
    }
}

fn engine_config(dir: &Path, options: &LogOptions) -> Config {
    Config {
        dir: dir.display().to_string(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        recovery_threads: 2,
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(options.file_bytes),
        purge_threshold: ReadableSize(options.purge_threshold_bytes.max(options.file_bytes)),
        // Recycled files carry old records behind the end, which could not be told from torn ones.
        enable_log_recycle: false,
        ..Config::default()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
