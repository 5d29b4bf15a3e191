//! The one thread that writes: group commit of everything that waits.

use super::FatalHandler;
use super::group::GroupShared;
use super::raw::RawEngine;
use super::record::Record;
use crate::metrics as names;
use crate::types::TypeConfig;
use openraft::storage::IOFlushed;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, LogBatch};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Writes that share one sync.
const BATCH_ITEMS_MAX: usize = 1_024;

pub(super) enum Op {
    Append(Vec<BytesValue>),
    Put {
        key: &'static [u8],
        value: Vec<u8>,
    },
    /// Removes entries below `first` and stores the purged id, in one batch.
    Purge {
        first: u64,
        purged: Vec<u8>,
    },
    /// Removes everything of the replica.
    Clean,
}

/// Whom to tell once the write is on stable storage.
pub(super) enum Done {
    Flushed {
        group: Arc<GroupShared>,
        seq: u64,
        callback: IOFlushed<TypeConfig>,
    },
    Waiting(oneshot::Sender<io::Result<()>>),
    Nobody,
}

pub(super) struct Write {
    pub(super) replica: u64,
    pub(super) op: Op,
    /// A committed id that rides along: key and value.
    pub(super) committed: Option<Vec<u8>>,
    pub(super) done: Done,
    pub(super) bytes: usize,
    /// Released when the write is finished: bounds the queue in bytes.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

pub(super) enum Job {
    Write(Write),
    Stop,
}

pub(super) struct Writer {
    pub(super) engine: Arc<dyn RawEngine>,
    pub(super) jobs: Receiver<Job>,
    pub(super) batch_bytes_max: usize,
    pub(super) fatal: FatalHandler,
    pub(super) failed: Arc<AtomicBool>,
    pub(super) busy: Arc<Busy>,
}

/// How long the writer has been at its current batch: a disk that never answers shows here and nowhere else.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<Option<Instant>>);

impl Busy {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub(super) fn time(&self) -> Duration {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Writer {
    /// Runs until `Stop` or until every sender is gone.
    pub(super) fn run(self) {
        let mut batch = Vec::new();
        while let Ok(Job::Write(first)) = self.jobs.recv() {
            let started = Instant::now();
            let stop = self.collect(first, &mut batch);
            if self.failed.load(Ordering::Acquire) {
                refuse(&mut batch);
            } else {
                self.busy.set(Some(started));
                self.write(&mut batch, started);
                self.busy.set(None);
            }
            if stop {
                break;
            }
        }
    }

    /// Takes everything that waits, up to the bounds. True when asked to stop.
    fn collect(&self, first: Write, batch: &mut Vec<Write>) -> bool {
        let mut bytes = first.bytes;
        batch.push(first);
        while bytes < self.batch_bytes_max && batch.len() < BATCH_ITEMS_MAX {
            match self.jobs.try_recv() {
                Ok(Job::Write(write)) => {
                    bytes += write.bytes;
                    batch.push(write);
                }
                Ok(Job::Stop) => return true,
                Err(_) => break,
            }
        }
        metrics::histogram!(names::LOG_BATCH_ITEMS).record(batch.len() as f64);
        metrics::histogram!(names::LOG_BATCH_BYTES).record(bytes as f64);
        false
    }

    fn write(&self, batch: &mut Vec<Write>, started: Instant) {
        // The engine reports a failed sync by panicking.
        let span = tracing::debug_span!("raft.append", items = batch.len()).entered();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut engine_batch = LogBatch::with_capacity(batch.len());
            for write in batch.iter() {
                add(&mut engine_batch, write)?;
            }
            self.engine.write(&mut engine_batch)
        }));
        let problem = match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(e)) => Some(format!("log write failed: {e}")),
            Err(panic) => Some(format!("log write or sync failed: {}", panic_text(&*panic))),
        };
        if let Some(problem) = problem {
            // Nothing of this batch, and nothing after it, may ever be acknowledged: the kernel may have dropped the
            // dirty pages, so that a later sync would succeed without them.
            self.failed.store(true, Ordering::Release);
            refuse(batch);
            // Dropping the engine would sync again.
            std::mem::forget(self.engine.clone());
            (self.fatal)(&format!("{problem}{}", remedy(&problem)));
            return;
        }
        drop(span);
        for write in batch.drain(..) {
            drop(write.permit);
            match write.done {
                Done::Flushed { group, seq, callback } => {
                    group.flushed(seq);
                    callback.io_completed(Ok(()));
                }
                Done::Waiting(waiting) => {
                    // The caller may have gone; the write stands.
                    let _ = waiting.send(Ok(()));
                }
                Done::Nobody => {}
            }
        }
        metrics::histogram!(names::LOG_APPEND_SECONDS).record(started.elapsed().as_secs_f64());
    }
}

/// What to do about it, where that is known. The engine's panics carry nothing but text.
fn remedy(problem: &str) -> &'static str {
    // As the engine, and as the standard library prints ENOSPC and EDQUOT.
    if ["nospace", "(os error 28)", "(os error 122)"]
        .iter()
        .any(|sign| problem.contains(sign))
    {
        "; free space on the disk of the data directory, then start this node again"
    } else {
        ""
    }
}

fn add(batch: &mut LogBatch, write: &Write) -> raft_engine::Result<()> {
    match &write.op {
        Op::Append(records) => batch.add_entries::<Record>(write.replica, records)?,
        Op::Put { key, value } => batch.put(write.replica, key.to_vec(), value.clone())?,
        Op::Purge { first, purged } => {
            batch.put(write.replica, super::KEY_PURGED.to_vec(), purged.clone())?;
            batch.add_command(write.replica, Command::Compact { index: *first });
        }
        Op::Clean => batch.add_command(write.replica, Command::Clean),
    }
    if let Some(committed) = &write.committed {
        batch.put(write.replica, super::KEY_COMMITTED.to_vec(), committed.clone())?;
    }
    Ok(())
}

fn refuse(batch: &mut Vec<Write>) {
    for write in batch.drain(..) {
        match write.done {
            Done::Flushed { callback, .. } => callback.io_completed(Err(super::stopped())),
            Done::Waiting(waiting) => {
                let _ = waiting.send(Err(super::stopped()));
            }
            Done::Nobody => {}
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "panic".into())
}
