//! What one operation does, per mode. An operation succeeds only when what it counts was observed.

use super::driver::Driver;
use super::fan_out::FanOut;
use super::load::{Load, Role};
use futures::{StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Intents that the reads of a get cell go round.
const GET_INTENTS: usize = 1000;
/// Submits under way while they are stored.
const STORE_IN_FLIGHT: usize = 64;

/// One mode, ready to run.
#[derive(Debug, Clone)]
pub(super) enum Round {
    Submit,
    Cycle,
    Push,
    Get(Arc<Stored>),
    FanOut(Arc<FanOut>),
}

impl Round {
    /// One operation; its time is the caller's to take.
    pub(super) async fn once(&self, load: &Load, driver: &Driver) -> anyhow::Result<()> {
        match self {
            Self::Submit => {
                driver.submit(&load.job(Role::Sink)).await?;
                load.left_open();
                Ok(())
            }
            Self::Cycle => driver.cycle(&load.job(Role::Agent)).await,
            Self::Push => driver.cycle(&load.job(Role::Pushed)).await,
            Self::Get(stored) => stored.get(driver).await,
            Self::FanOut(fan_out) => fan_out.once(load, driver).await,
        }
    }
}

/// Intents with known payloads.
#[derive(Debug)]
pub(super) struct Stored {
    /// Id and the number in the payload.
    intents: Vec<(String, u64)>,
    next: AtomicUsize,
}

impl Stored {
    /// Submits them.
    pub(super) async fn store(load: &Load, driver: &Driver) -> anyhow::Result<Arc<Self>> {
        let submits = (0..GET_INTENTS).map(|n| {
            let (job, driver) = (load.job(Role::Sink), driver.starting_at(n));
            async move {
                let id = driver.submit(&job).await?;
                load.left_open();
                anyhow::Ok((id, job.number))
            }
        });
        let intents = futures::stream::iter(submits)
            .buffer_unordered(STORE_IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(Arc::new(Self {
            intents,
            next: AtomicUsize::new(0),
        }))
    }

    async fn get(&self, driver: &Driver) -> anyhow::Result<()> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (id, number) = &self.intents[next % self.intents.len()];
        anyhow::ensure!(driver.get(id).await? == *number, "get: another payload came back");
        Ok(())
    }
}
