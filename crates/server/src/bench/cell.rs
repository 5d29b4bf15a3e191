//! One mode at one load: warm-up, counting, what the nodes spent.

use super::driver::Driver;
use super::histogram_log::HistogramLog;
use super::load::Load;
use super::mode::{Mode, Protocol};
use super::progress::Progress;
use super::record::{Interval, Recorder};
use super::rounds::Round;
use super::schedule::{Pace, Schedule};
use super::target::Target;
use super::usage::Usage;
use futures::future::JoinAll;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Pause of a worker after an error, so that a broken cluster is not hammered. Not in the open loop.
const ERROR_PAUSE: Duration = Duration::from_millis(20);
/// How often the counters are taken.
const TICK: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) protocol: Protocol,
    /// Most operations at a time.
    pub(super) workers: usize,
    /// Observers of each operation; fan-out only.
    pub(super) observers: Option<usize>,
    /// Operations per second; none = closed loop.
    pub(super) rate: Option<u32>,
    /// Time before counting.
    pub(super) warm_up: Duration,
    pub(super) until: End,
}

/// When a cell ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// After this time of counting.
    Time(Duration),
    /// After this many operations; without warm-up.
    Count(u64),
}

impl Plan {
    fn pace(&self) -> Pace {
        match (self.until, self.rate) {
            (End::Count(count), _) => Pace::Count(count),
            (End::Time(time), None) => Pace::Closed(self.warm_up + time),
            (End::Time(time), Some(per_second)) => Pace::Open {
                per_second,
                time: self.warm_up + time,
            },
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mode, self.protocol)?;
        match (self.observers, self.rate) {
            (Some(observers), _) => write!(f, " {observers} observers")?,
            (None, None) => write!(f, " {}", self.workers)?,
            (None, Some(_)) => {}
        }
        match self.rate {
            Some(rate) => write!(f, " {rate}/s"),
            None => Ok(()),
        }
    }
}

/// What the workers of a cell did and what it cost.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) total: Interval,
    /// From the first counted operation to the end of the last.
    pub(super) seconds: f64,
    /// Operations that ended in each whole second.
    pub(super) per_second: Vec<u64>,
    pub(super) before: Usage,
    pub(super) after: Usage,
}

/// Where cells report to.
#[derive(Debug)]
pub(super) struct Reporting {
    pub(super) progress: Progress,
    pub(super) log: Option<HistogramLog>,
}

impl Reporting {
    fn interval(
        &mut self,
        name: &str,
        time: Duration,
        elapsed: Duration,
        last: Interval,
        counted: &mut Counted,
    ) {
        // Cannot fail: all histograms of this program have one shape. An error would lose an interval, so it is said.
        if let Err(error) = counted.total.merge(&last) {
            self.progress.line(format!("an interval was lost: {error:#}"));
        }
        self.progress.second(name, elapsed, &last, &counted.total);
        if let Some(log) = &mut self.log {
            log.add(&name.replace(' ', "-"), time, last);
        }
    }
}

/// Runs one cell.
pub(super) async fn run(
    plan: &Plan,
    round: &Round,
    load: &Load,
    driver: &Driver,
    target: &Target,
    reporting: &mut Reporting,
) -> Counted {
    reporting.progress.line(plan.to_string());
    let schedule = Schedule::begin(plan.pace(), plan.workers);
    let recorder = Arc::new(Recorder::new(schedule.start() + plan.warm_up));
    let workers = (0..plan.workers).map(|n| {
        let worker = Worker {
            schedule: Arc::clone(&schedule),
            recorder: Arc::clone(&recorder),
            round: round.clone(),
            load: load.clone(),
            driver: driver.starting_at(n),
            patient: plan.rate.is_none(),
        };
        tokio::spawn(worker.run())
    });
    let workers = futures::future::join_all(workers);
    tokio::time::sleep_until(schedule.start() + plan.warm_up).await;
    let before = Usage::read(target).await;
    let mut counted = count(plan, &recorder, workers, reporting).await;
    let missed = schedule.never_begun(plan.warm_up);
    if missed > 0 {
        let problem = "never begun: the cluster was too slow for the rate";
        counted.total.fail(problem, missed);
    }
    counted.seconds = recorder.elapsed().as_secs_f64();
    counted.before = before;
    counted.after = Usage::read(target).await;
    reporting.progress.clear();
    counted
}

/// Takes the counters every second until all workers have ended.
async fn count(
    plan: &Plan,
    recorder: &Recorder,
    mut workers: JoinAll<JoinHandle<()>>,
    reporting: &mut Reporting,
) -> Counted {
    let name = plan.to_string();
    let from = Instant::now();
    let mut ticks = tokio::time::interval_at(from + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut counted, mut taken) = (Counted::default(), from);
    loop {
        let ended = tokio::select! {
            ended = &mut workers => Some(ended),
            _ = ticks.tick() => None,
        };
        let (last, now) = (recorder.take(), Instant::now());
        if ended.is_none() {
            counted.per_second.push(last.operations());
        }
        reporting.interval(&name, now - taken, now - from, last, &mut counted);
        taken = now;
        for panicked in ended.iter().flatten().filter_map(|ended| ended.as_ref().err()) {
            counted
                .total
                .fail(&format!("a worker ended early: {panicked}"), 1);
        }
        if ended.is_some() {
            return counted;
        }
    }
}

struct Worker {
    schedule: Arc<Schedule>,
    recorder: Arc<Recorder>,
    round: Round,
    load: Load,
    driver: Driver,
    patient: bool,
}

impl Worker {
    async fn run(self) {
        while let Some(intended) = self.schedule.next().await {
            let outcome = self.round.once(&self.load, &self.driver).await;
            self.recorder.record(intended, &outcome);
            if let Err(error) = outcome {
                tracing::debug!(%error, "an operation failed");
                if self.patient {
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }
}
