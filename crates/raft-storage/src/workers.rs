//! The node's apply thread and its checkpoint thread.
//!
//! Applies run on a thread of their own, so that a long batch or a slow table read never delays heartbeats on the
//! consensus thread; one group's applies stay in order because each group has one call under way. Checkpoints,
//! snapshots and installs share a second thread, one at a time per node.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::{mpsc, oneshot};

/// Tasks that may wait per thread. A group has at most a few, so senders hardly ever wait.
const QUEUE_TASKS_MAX: usize = 1_024;

type Task = Box<dyn FnOnce() + Send>;

/// The threads, shared by all groups of a node. They end when the last clone is dropped. Cheap to clone.
#[derive(Clone)]
pub struct StorageWorkers {
    apply: mpsc::Sender<Task>,
    background: mpsc::Sender<Task>,
}

impl fmt::Debug for StorageWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageWorkers").finish_non_exhaustive()
    }
}

impl StorageWorkers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            apply: spawn("baton-apply")?,
            background: spawn("baton-checkpoint")?,
        })
    }

    /// Runs `work` on the apply thread.
    pub(crate) async fn apply<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        run(&self.apply, work).await
    }

    /// Runs `work` on the checkpoint thread.
    pub(crate) async fn background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        run(&self.background, work).await
    }

    /// Queues `work` for the checkpoint thread unless its queue is full.
    pub(crate) fn try_background(&self, work: impl FnOnce() + Send + 'static) {
        // What `work` owns is dropped with it.
        let _ = self.background.try_send(Box::new(work));
    }
}

async fn run<T: Send + 'static>(
    queue: &mpsc::Sender<Task>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let task: Task = Box::new(move || {
        // Whoever asked may be gone; the work is done all the same.
        let _ = done.send(work());
    });
    let gone = || io::Error::other("storage worker failed");
    queue.send(task).await.map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

fn spawn(name: &str) -> io::Result<mpsc::Sender<Task>> {
    let (tasks, mut waiting) = mpsc::channel::<Task>(QUEUE_TASKS_MAX);
    std::thread::Builder::new().name(name.into()).spawn(move || {
        while let Some(task) = waiting.blocking_recv() {
            // The task's owner sees its channel closed and stops its group.
            if catch_unwind(AssertUnwindSafe(task)).is_err() {
                tracing::error!("a storage task panicked");
            }
        }
    })?;
    Ok(tasks)
}
