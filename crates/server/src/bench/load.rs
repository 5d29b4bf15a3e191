//! Workers in a closed loop: each waits for its answer before it goes on.

use super::BenchOptions;
use crate::client::Api;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for one cycle's end.
const CYCLE_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after an error, so that a broken cluster is not hammered.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// What a worker does in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// POST until acknowledged.
    Submit,
    /// Submit, delivery, resume, terminal event observed.
    Cycle,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Cycle => "cycle",
        }
    }
}

/// What the workers of one cell did.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Microseconds of each round that succeeded, sorted.
    pub(super) latencies_us: Vec<u32>,
    pub(super) errors: u64,
    pub(super) seconds: f64,
}

/// The load of one run.
#[derive(Debug, Clone)]
pub(super) struct Load {
    run: String,
    agents: usize,
    filler: Arc<str>,
    duration: Duration,
    warm_up: Duration,
    next: Arc<AtomicU64>,
}

impl Load {
    pub(super) fn new(options: &BenchOptions, run: String) -> Self {
        Self {
            run: run.chars().take(8).collect(),
            agents: options.agents,
            filler: "x".repeat(options.payload_bytes).into(),
            duration: options.duration,
            warm_up: options.warm_up,
            next: Arc::new(AtomicU64::new(0)),
        }
    }

    pub(super) fn duration(&self) -> Duration {
        self.duration
    }

    pub(super) fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// Names of the agents that listen.
    pub(super) fn agents(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.agents).map(|n| self.recipient(Kind::Cycle, n))
    }

    /// Submit cells have recipients of their own, to whom nobody listens: their intents stay open.
    fn recipient(&self, kind: Kind, n: usize) -> String {
        let role = match kind {
            Kind::Submit => "sink",
            Kind::Cycle => "agent",
        };
        format!("bench-{}-{role}-{n}", self.run)
    }

    /// Runs `workers` for a time.
    pub(super) async fn run_for(&self, api: &Api, kind: Kind, workers: usize, time: Duration) -> Counted {
        let started = Instant::now();
        let until = started + time;
        self.spawn(api, kind, workers, move |_| Instant::now() < until, started)
            .await
    }

    /// Submits `count` intents and returns how many were accepted.
    pub(super) async fn run_count(&self, api: &Api, workers: usize, count: u64) -> u64 {
        let first = self.next.load(Ordering::Relaxed);
        let counted = self
            .spawn(
                api,
                Kind::Submit,
                workers,
                move |n| n < first + count,
                Instant::now(),
            )
            .await;
        counted.latencies_us.len() as u64
    }

    async fn spawn(
        &self,
        api: &Api,
        kind: Kind,
        workers: usize,
        go_on: impl Fn(u64) -> bool + Clone + Send + 'static,
        started: Instant,
    ) -> Counted {
        let tasks: Vec<_> = (0..workers)
            .map(|n| tokio::spawn(work(self.clone(), api.starting_at(n), kind, go_on.clone())))
            .collect();
        let mut counted = Counted::default();
        for task in tasks {
            let Ok((latencies, errors)) = task.await else {
                continue;
            };
            counted.latencies_us.extend(latencies);
            counted.errors += errors;
        }
        counted.seconds = started.elapsed().as_secs_f64();
        counted.latencies_us.sort_unstable();
        counted
    }

    /// One round; the answer's time is the caller's to take.
    pub(super) async fn round(&self, api: &Api, kind: Kind, number: u64) -> anyhow::Result<()> {
        let to = self.recipient(kind, usize::try_from(number % self.agents as u64)?);
        let id = self.submit(api, &to, number).await?;
        match kind {
            Kind::Submit => Ok(()),
            Kind::Cycle => ended(api, &id).await,
        }
    }

    /// One submit to `to`; returns the intent's id.
    pub(super) async fn submit(&self, api: &Api, to: &str, number: u64) -> anyhow::Result<String> {
        let body = json!({
            "intent_type": "bench.load.v1",
            "to_agent": to,
            "payload": {"number": number, "filler": &*self.filler},
        });
        let answer = api.once(Method::POST, "/v1/intents", Some(&body), None).await?;
        anyhow::ensure!(answer.ok(), "refused: {}", answer.problem());
        let id = answer.body["intent_id"].as_str();
        Ok(id.ok_or_else(|| anyhow::anyhow!("no intent_id"))?.to_owned())
    }

    /// Numbers rounds across all cells.
    pub(super) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

async fn work(load: Load, api: Api, kind: Kind, go_on: impl Fn(u64) -> bool) -> (Vec<u32>, u64) {
    let mut latencies = Vec::new();
    let mut errors = 0;
    loop {
        let number = load.next_number();
        if !go_on(number) {
            return (latencies, errors);
        }
        let began = Instant::now();
        match load.round(&api, kind, number).await {
            Ok(()) => latencies.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Err(error) => {
                errors += 1;
                tracing::debug!(%error, "a round failed");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Waits for the terminal event on the intent's stream.
async fn ended(api: &Api, id: &str) -> anyhow::Result<()> {
    // The three events of the birth are known already.
    let mut frames = api.follow(format!("/v1/intents/{id}/events/stream"), 3);
    let until = Instant::now() + CYCLE_PATIENCE;
    loop {
        let frame = tokio::time::timeout_at(until, frames.recv())
            .await?
            .ok_or_else(|| anyhow::anyhow!("the event stream closed"))?;
        match frame.event.as_str() {
            "intent.completed" => return Ok(()),
            "intent.failed" | "intent.canceled" | "intent.timed_out" => {
                let event: Value = serde_json::from_str(&frame.data)?;
                anyhow::bail!("ended {}", event["status"]);
            }
            _ => {}
        }
    }
}
