//! The generator's hands: the same few calls over either protocol.

mod axp;
mod grpc;
mod submit_stream;
mod work;

pub(super) use axp::Axp;
pub(super) use grpc::Grpc;

use super::load::Job;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longest wait for one operation's end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a broken stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(40);
/// Items between a stream and its reader.
const SEEN_QUEUE_ITEMS_MAX: usize = 256;

/// A client of one protocol. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) enum Driver {
    Axp(Axp),
    Grpc(Grpc),
}

impl Driver {
    /// The same client, but talking to the `n`th node first.
    pub(super) fn starting_at(&self, n: usize) -> Self {
        match self {
            Self::Axp(axp) => Self::Axp(axp.starting_at(n)),
            Self::Grpc(grpc) => Self::Grpc(grpc.starting_at(n)),
        }
    }

    /// Submits and returns the intent's id when it is committed.
    pub(super) async fn submit(&self, job: &Job) -> anyhow::Result<String> {
        match self {
            Self::Axp(axp) => axp.submit(job).await,
            Self::Grpc(grpc) => grpc.submit(job).await,
        }
    }

    /// Submits and waits until the submitter has seen the end, which must be this job's own result.
    pub(super) async fn cycle(&self, job: &Job) -> anyhow::Result<()> {
        let number = match self {
            Self::Axp(axp) => axp.cycle(job).await?,
            Self::Grpc(grpc) => grpc.cycle(job).await?,
        };
        own_result(job.number, number)
    }

    /// The number in the payload of a stored intent, read linearizably.
    pub(super) async fn get(&self, id: &str) -> anyhow::Result<u64> {
        match self {
            Self::Axp(axp) => axp.get(id).await,
            Self::Grpc(grpc) => grpc.get(id).await,
        }
    }

    /// Ends an intent from outside, with `number` in the result.
    pub(super) async fn resolve(&self, id: &str, number: u64) -> anyhow::Result<()> {
        match self {
            Self::Axp(axp) => axp.resolve(id, number).await,
            Self::Grpc(grpc) => grpc.resolve(id, number).await,
        }
    }

    /// Follows an intent to its end on a stream of its own and returns the number in the result.
    pub(super) async fn watch(&self, id: &str) -> anyhow::Result<u64> {
        match self {
            Self::Axp(axp) => axp.watch(id).await,
            Self::Grpc(grpc) => grpc.watch(id).await,
        }
    }

    /// Looks on at an agent's deliveries; gives the number in each payload. Ends when the receiver is dropped.
    pub(super) fn subscribe(&self, agent: &str) -> mpsc::Receiver<u64> {
        match self {
            Self::Axp(axp) => axp.subscribe(agent),
            Self::Grpc(grpc) => grpc.subscribe(agent),
        }
    }

    /// An agent that answers each delivery at once with the number of its payload.
    pub(super) fn agent(&self, name: String, refused: &Refused) -> JoinHandle<()> {
        match self {
            Self::Axp(axp) => tokio::spawn(axp.clone().listen(name, refused.clone())),
            Self::Grpc(grpc) => tokio::spawn(grpc.clone().work(name, refused.clone())),
        }
    }
}

/// Completions that were refused or got no answer, of all agents. Most are deliveries that came twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused(Arc<AtomicU64>);

impl Refused {
    pub(super) fn count(&self, completions: u64) {
        self.0.fetch_add(completions, Ordering::Relaxed);
    }

    /// So far.
    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A result counts only for the job that it belongs to.
fn own_result(wanted: u64, got: u64) -> anyhow::Result<()> {
    anyhow::ensure!(wanted == got, "ended with the result of another intent");
    Ok(())
}

/// The part of a payload or result that tells whose it is.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Numbered {
    pub(super) number: u64,
}

impl Numbered {
    fn read(json: &[u8]) -> anyhow::Result<u64> {
        let numbered: Self = serde_json::from_slice(json)
            .map_err(|_| anyhow::anyhow!("a payload or result without its number"))?;
        Ok(numbered.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_number_counts() {
        assert_eq!(Numbered::read(br#"{"filler":"xx","number":7}"#).unwrap(), 7);
        assert!(Numbered::read(b"{}").is_err());
        assert!(own_result(7, 7).is_ok());
        assert!(own_result(7, 8).is_err());
    }
}
