//! One event, many observers: an operation succeeds when every one of them has seen it.

use super::driver::{Driver, PATIENCE};
use super::load::{Job, Load, Role};
use super::mode::Observe;
use anyhow::Context as _;
use futures::future::{try_join, try_join_all};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Seen intents that wait to be ended, so that they are not delivered again.
const CLOSING_ITEMS_MAX: usize = 1024;
/// Of these, ended at the same time.
const CLOSING_IN_FLIGHT: usize = 16;

/// The observers of a cell.
#[derive(Debug)]
pub(super) struct FanOut {
    observe: Observe,
    /// One client for each observer, spread over the nodes.
    observers: Vec<Driver>,
    agent: String,
    board: Arc<Board>,
    closing: mpsc::Sender<(String, u64)>,
    tasks: Vec<JoinHandle<()>>,
}

impl FanOut {
    /// Starts `observers` of one agent, or prepares them for one intent after the other.
    pub(super) fn start(load: &Load, driver: &Driver, observe: Observe, observers: usize) -> Arc<Self> {
        let observers: Vec<Driver> = (0..observers).map(|n| driver.starting_at(n)).collect();
        let agent = load.recipient(Role::Watched, observers.len() as u64);
        let board = Arc::new(Board::default());
        let (closing, seen) = mpsc::channel(CLOSING_ITEMS_MAX);
        let mut tasks = vec![tokio::spawn(close(driver.clone(), seen))];
        if observe == Observe::Agent {
            tasks.extend(observers.iter().enumerate().map(|(n, observer)| {
                let (mut deliveries, board) = (observer.subscribe(&agent), Arc::clone(&board));
                tokio::spawn(async move {
                    while let Some(number) = deliveries.recv().await {
                        board.seen(number, n);
                    }
                })
            }));
        }
        Arc::new(Self {
            observe,
            observers,
            agent,
            board,
            closing,
            tasks,
        })
    }

    /// Submits one intent and waits until everybody has seen it (observers of an agent) or its end (of an intent).
    pub(super) async fn once(&self, load: &Load, driver: &Driver) -> anyhow::Result<()> {
        match self.observe {
            Observe::Agent => self.delivered(driver, &load.job_to(&self.agent)).await,
            Observe::Intent => self.ended(driver, &load.job(Role::Watched)).await,
        }
    }

    async fn delivered(&self, driver: &Driver, job: &Job) -> anyhow::Result<()> {
        let all = self.board.open(job.number, self.observers.len());
        let outcome = async {
            let id = driver.submit(job).await?;
            tokio::time::timeout(PATIENCE, all)
                .await
                .context("not every observer saw it in time")??;
            anyhow::Ok(id)
        }
        .await;
        self.board.close(job.number);
        self.closing.send((outcome?, job.number)).await?;
        Ok(())
    }

    async fn ended(&self, driver: &Driver, job: &Job) -> anyhow::Result<()> {
        let id = driver.submit(job).await?;
        let watches = try_join_all(self.observers.iter().map(|observer| observer.watch(&id)));
        let ((), numbers) = try_join(driver.resolve(&id, job.number), watches).await?;
        anyhow::ensure!(
            numbers.iter().all(|&number| number == job.number),
            "an observer saw the result of another intent"
        );
        Ok(())
    }
}

impl Drop for FanOut {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Ends what everybody has seen.
async fn close(driver: Driver, mut seen: mpsc::Receiver<(String, u64)>) {
    let places = Arc::new(Semaphore::new(CLOSING_IN_FLIGHT));
    while let Some((id, number)) = seen.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let driver = driver.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.resolve(&id, number).await {
                tracing::debug!(%error, "a seen intent was not ended");
            }
            drop(place);
        });
    }
}

/// Who has seen what.
#[derive(Debug, Default)]
struct Board {
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    seen: Vec<bool>,
    left: usize,
    all: Option<oneshot::Sender<()>>,
}

impl Board {
    fn open(&self, number: u64, observers: usize) -> oneshot::Receiver<()> {
        let (all, everybody) = oneshot::channel();
        let open = Open {
            seen: vec![false; observers],
            left: observers,
            all: Some(all),
        };
        self.lock().insert(number, open);
        everybody
    }

    /// A sighting counts once for each observer, however often a delivery comes.
    fn seen(&self, number: u64, observer: usize) {
        let mut board = self.lock();
        let Some(open) = board.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut open.seen[observer], true) {
            return;
        }
        open.left -= 1;
        if open.left == 0
            && let Some(all) = open.all.take()
        {
            // Whoever waited may have given up.
            _ = all.send(());
        }
    }

    fn close(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        // Nothing between lock and unlock leaves the board half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_must_have_seen_it_and_twice_is_once() {
        let board = Board::default();
        let mut all = board.open(7, 2);
        board.seen(7, 0);
        board.seen(7, 0);
        board.seen(8, 1);
        assert!(all.try_recv().is_err());
        board.seen(7, 1);
        assert!(all.try_recv().is_ok());
        board.seen(7, 1);
        board.close(7);
        assert!(board.lock().is_empty());
    }
}
