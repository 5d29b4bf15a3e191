//! The closed loop: each worker waits for its answer before it goes on.

use crate::Mode;
use crate::peer::Peer;
use crate::usage::Usage;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Pause after an error, so that a broken broker is not hammered.
const ERROR_PAUSE: Duration = Duration::from_millis(20);
/// Longest latency that is told apart.
const HIGHEST_US: u64 = 600_000_000;
/// Different error texts that are kept for each worker.
const PROBLEMS_MAX: usize = 8;

/// Numbers of messages, unique in this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// Figures named as in the documents of `baton bench`.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    mode: Mode,
    workers: usize,
    operations: u64,
    errors: u64,
    problems: BTreeMap<String, u64>,
    seconds: f64,
    per_second: f64,
    latency_ms: Latency,
    node_cpu_seconds_per_1000: Option<f64>,
    generator_cpu_seconds_per_1000: Option<f64>,
    /// Proportional set size of all nodes.
    resident_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

struct Counted {
    latencies_us: Histogram<u64>,
    errors: u64,
    problems: BTreeMap<String, u64>,
    last: Instant,
}

impl Counted {
    fn new(last: Instant) -> Self {
        Self {
            latencies_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)
                .expect("constants that fit each other"),
            errors: 0,
            problems: BTreeMap::new(),
            last,
        }
    }

    fn fail(&mut self, problem: String, count: u64) {
        self.errors += count;
        let known = self.problems.len() < PROBLEMS_MAX || self.problems.contains_key(&problem);
        let problem = if known { problem } else { "others".to_owned() };
        *self.problems.entry(problem).or_default() += count;
    }
}

/// Runs one cell.
pub(crate) async fn run(
    peer: &Arc<dyn Peer>,
    mode: Mode,
    workers: usize,
    times: Times,
    pids: &[u32],
) -> Cell {
    eprintln!("{mode:?} {workers}");
    let from = Instant::now() + times.warm_up;
    let until = from + times.duration;
    let tasks: Vec<_> = (0..workers)
        .map(|_| tokio::spawn(work(Arc::clone(peer), mode, from, until)))
        .collect();
    tokio::time::sleep_until(from).await;
    let before = Usage::read(pids);
    let mut total = Counted::new(from);
    for task in tasks {
        match task.await {
            Ok(counted) => {
                total
                    .latencies_us
                    .add(&counted.latencies_us)
                    .expect("histograms of one kind");
                for (problem, count) in counted.problems {
                    total.fail(problem, count);
                }
                total.last = total.last.max(counted.last);
            }
            Err(panicked) => total.fail(panicked.to_string(), 1),
        }
    }
    cell(
        mode,
        workers,
        &total,
        (total.last - from).as_secs_f64(),
        &before,
        &Usage::read(pids),
    )
}

async fn work(peer: Arc<dyn Peer>, mode: Mode, from: Instant, until: Instant) -> Counted {
    let mut counted = Counted::new(from);
    loop {
        let began = Instant::now();
        if began >= until {
            return counted;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let outcome = match mode {
            Mode::Submit => peer.submit(number).await,
            Mode::Cycle => peer.cycle(number).await,
        };
        if began >= from {
            counted.last = Instant::now();
            match &outcome {
                Ok(()) => {
                    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    counted.latencies_us.saturating_record(micros.max(1));
                }
                Err(error) => counted.fail(format!("{error:#}"), 1),
            }
        }
        if outcome.is_err() {
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}

fn cell(mode: Mode, workers: usize, total: &Counted, seconds: f64, before: &Usage, after: &Usage) -> Cell {
    let operations = total.latencies_us.len();
    let each = |before: Option<f64>, after: Option<f64>| {
        (operations > 0).then_some(())?;
        Some((after? - before?) / operations as f64 * 1000.0)
    };
    let at = |quantile| total.latencies_us.value_at_quantile(quantile) as f64 / 1000.0;
    Cell {
        mode,
        workers,
        operations,
        errors: total.errors,
        problems: total.problems.clone(),
        seconds,
        per_second: operations as f64 / seconds.max(f64::EPSILON),
        latency_ms: Latency {
            mean: total.latencies_us.mean() / 1000.0,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: total.latencies_us.max() as f64 / 1000.0,
        },
        node_cpu_seconds_per_1000: each(before.node_cpu_seconds, after.node_cpu_seconds),
        generator_cpu_seconds_per_1000: each(before.own_cpu_seconds, after.own_cpu_seconds),
        resident_bytes: after.resident_bytes,
    }
}
