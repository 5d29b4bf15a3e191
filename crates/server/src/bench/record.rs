//! What the workers of a cell saw: latencies in a histogram, errors by what they say.

use anyhow::Context as _;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Longest latency that is told apart; longer ones count as this.
const HIGHEST_US: u64 = 600_000_000;
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;
/// Different error texts that are kept; the rest is counted as others.
const PROBLEMS_MAX: usize = 16;
/// Characters of an error text that are kept.
const PROBLEM_CHARS_MAX: usize = 160;

/// An empty histogram of microseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("the bounds are constants that fit each other")
}

/// What happened in some time.
#[derive(Debug, Clone)]
pub(super) struct Interval {
    pub(super) latencies_us: Histogram<u64>,
    pub(super) errors: u64,
    /// How often each error text was seen.
    pub(super) problems: BTreeMap<String, u64>,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            latencies_us: histogram(),
            errors: 0,
            problems: BTreeMap::new(),
        }
    }
}

impl Interval {
    /// Adds `other`.
    pub(super) fn merge(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latencies_us
            .add(&other.latencies_us)
            .context("histograms of one kind")?;
        self.errors += other.errors;
        for (problem, count) in &other.problems {
            self.problem(problem, *count);
        }
        Ok(())
    }

    /// Counts errors of one kind.
    pub(super) fn fail(&mut self, problem: &str, count: u64) {
        self.errors += count;
        self.problem(problem, count);
    }

    fn problem(&mut self, problem: &str, count: u64) {
        let text: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
        let known = self.problems.len() < PROBLEMS_MAX || self.problems.contains_key(&text);
        let text = if known { text } else { "others".to_owned() };
        *self.problems.entry(text).or_default() += count;
    }

    /// Operations that succeeded.
    pub(super) fn operations(&self) -> u64 {
        self.latencies_us.len()
    }
}

/// Shared by the workers of a cell; counts what was meant to begin at `from` or later.
#[derive(Debug)]
pub(super) struct Recorder {
    from: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    interval: Interval,
    /// When the last counted operation ended.
    last: Instant,
}

impl Recorder {
    pub(super) fn new(from: Instant) -> Self {
        Self {
            from,
            state: Mutex::new(State {
                interval: Interval::default(),
                last: from,
            }),
        }
    }

    /// The operation that was to begin at `intended` has just ended.
    pub(super) fn record(&self, intended: Instant, outcome: &anyhow::Result<()>) {
        if intended < self.from {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        state.last = now;
        match outcome {
            Ok(()) => {
                let micros = u64::try_from((now - intended).as_micros()).unwrap_or(u64::MAX);
                state.interval.latencies_us.saturating_record(micros.max(1));
            }
            Err(error) => state.interval.fail(&format!("{error:#}"), 1),
        }
    }

    /// What happened since the last call.
    pub(super) fn take(&self) -> Interval {
        std::mem::take(&mut self.lock().interval)
    }

    /// From the beginning until the last counted operation ended.
    pub(super) fn elapsed(&self) -> Duration {
        self.lock().last - self.from
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_intervals_say_what_one_would_have_said() {
        let mut whole = Interval::default();
        let mut total = Interval::default();
        for part in 0..4_u64 {
            let mut interval = Interval::default();
            for n in 1..=250 {
                let micros = (part * 250 + n) * 100;
                interval.latencies_us.saturating_record(micros);
                whole.latencies_us.saturating_record(micros);
            }
            interval.fail("refused", 2);
            whole.fail("refused", 2);
            total.merge(&interval).unwrap();
        }
        assert_eq!(total.operations(), 1000);
        assert_eq!(total.latencies_us, whole.latencies_us);
        assert_eq!((total.errors, &total.problems), (8, &whole.problems));
        // Three digits: 50.0 ms is told from 50.1 ms.
        let median = total.latencies_us.value_at_quantile(0.5);
        assert!((49_950..=50_050).contains(&median), "{median}");
    }

    #[tokio::test]
    async fn latency_counts_from_the_intended_start_and_the_warm_up_does_not() {
        let now = Instant::now();
        let recorder = Recorder::new(now - Duration::from_secs(2));
        recorder.record(now - Duration::from_secs(3), &Ok(()));
        recorder.record(now - Duration::from_secs(1), &Ok(()));
        recorder.record(now, &Err(anyhow::anyhow!("503 busy")));
        let interval = recorder.take();
        assert_eq!((interval.operations(), interval.errors), (1, 1));
        assert!(interval.latencies_us.max() >= 999_000);
        assert_eq!(interval.problems["503 busy"], 1);
        assert!(recorder.elapsed() >= Duration::from_secs(2));
        assert_eq!(recorder.take().operations(), 0);
    }

    #[test]
    fn many_different_errors_stay_few_lines_and_none_is_lost() {
        let mut interval = Interval::default();
        for n in 0..100 {
            interval.fail(&format!("problem {n}"), 1);
        }
        assert!(interval.problems.len() <= PROBLEMS_MAX + 1);
        assert_eq!(interval.problems.values().sum::<u64>(), 100);
        let long = "x".repeat(10_000);
        interval.fail(&long, u64::MAX - interval.errors);
        assert!(
            interval
                .problems
                .keys()
                .all(|text| text.len() <= PROBLEM_CHARS_MAX)
        );
    }
}
