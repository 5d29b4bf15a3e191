//! When operations begin: as soon as a worker is free (closed loop), at a given rate (open loop), or until a number
//! is reached.
//!
//! In the open loop an operation belongs to a slot of the schedule. Its latency counts from that slot, also when no
//! worker was free then: a slow server cannot slow the clock that measures it (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The pacing thread sleeps at least this long; slots that fall due meanwhile are released together.
const TICK: Duration = Duration::from_micros(250);
/// How long after the end workers go on with slots that were due before it.
const OVERTIME: Duration = Duration::from_secs(20);

/// How the operations of a cell are spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Each worker goes on when it has its answer, for this long.
    Closed(Duration),
    /// This many per second, for this long.
    Open { per_second: u32, time: Duration },
    /// Each worker goes on when it has its answer, until this many have begun.
    Count(u64),
}

/// Hands out intended starts to all workers of a cell.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    start: Instant,
    taken: AtomicU64,
    /// Slots that are due.
    due: Semaphore,
}

impl Schedule {
    /// Starts now. `workers` is how many will ask.
    pub(super) fn begin(pace: Pace, workers: usize) -> Arc<Self> {
        let schedule = Arc::new(Self {
            pace,
            start: Instant::now(),
            taken: AtomicU64::new(0),
            due: Semaphore::new(0),
        });
        if let Pace::Open { per_second, time } = pace {
            let paced = Arc::clone(&schedule);
            // A thread, because the timer of the runtime is only exact to a millisecond.
            std::thread::spawn(move || paced.release(per_second, slots(per_second, time), workers));
        }
        schedule
    }

    /// When it began.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Waits for the next operation's turn and returns its intended start; none when all is done.
    pub(super) async fn next(&self) -> Option<Instant> {
        match self.pace {
            Pace::Closed(time) => {
                let now = Instant::now();
                (now < self.start + time).then_some(now)
            }
            Pace::Count(count) => (self.taken.fetch_add(1, Ordering::Relaxed) < count).then(Instant::now),
            Pace::Open { per_second, time } => {
                self.due.acquire().await.ok()?.forget();
                if Instant::now() > self.start + time + OVERTIME {
                    return None;
                }
                let slot = self.taken.fetch_add(1, Ordering::Relaxed);
                (slot < slots(per_second, time)).then(|| self.start + offset(slot, per_second))
            }
        }
    }

    /// Slots after `from` that nobody began in time, for the whole cell.
    pub(super) fn never_begun(&self, from: Duration) -> u64 {
        match self.pace {
            Pace::Closed(_) | Pace::Count(_) => 0,
            Pace::Open { per_second, time } => {
                let first = self.taken.load(Ordering::Relaxed).max(slots(per_second, from));
                slots(per_second, time).saturating_sub(first)
            }
        }
    }

    fn release(&self, per_second: u32, slots: u64, workers: usize) {
        let mut released = 0;
        while released < slots {
            let now = self.start.elapsed();
            let due = due(now, per_second).min(slots);
            self.due.add_permits(usize::try_from(due - released).unwrap_or(0));
            released = due;
            std::thread::sleep(offset(due, per_second).saturating_sub(now).max(TICK));
        }
        // Wakes those who wait for a slot that will never come.
        self.due.add_permits(workers);
    }
}

/// Slots that begin before `time`.
fn slots(per_second: u32, time: Duration) -> u64 {
    u64::try_from((time.as_nanos() * u128::from(per_second)).div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

/// Slots that begin at or before `elapsed`.
fn due(elapsed: Duration, per_second: u32) -> u64 {
    u64::try_from(elapsed.as_nanos() * u128::from(per_second) / 1_000_000_000 + 1).unwrap_or(u64::MAX)
}

/// When slot `n` begins; exact to a nanosecond and never drifting.
fn offset(n: u64, per_second: u32) -> Duration {
    let nanos = u128::from(n) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_evenly_spaced_and_add_up() {
        assert_eq!(offset(0, 3), Duration::ZERO);
        assert_eq!(offset(3, 3), Duration::from_secs(1));
        assert_eq!(offset(3_000_000, 3), Duration::from_secs(1_000_000));
        assert_eq!(slots(1000, Duration::from_secs(10)), 10_000);
        // Every slot that is due has an offset that has passed, the next one has not.
        for (per_second, millis) in [(1, 0), (1, 999), (3, 334), (7, 1500), (1000, 12)] {
            let elapsed = Duration::from_millis(millis);
            let due = due(elapsed, per_second);
            assert!(
                offset(due - 1, per_second) <= elapsed,
                "{per_second}/s at {millis} ms"
            );
            assert!(offset(due, per_second) > elapsed, "{per_second}/s at {millis} ms");
        }
    }

    #[tokio::test]
    async fn a_busy_worker_does_not_move_the_slots() {
        let pace = Pace::Open {
            per_second: 100,
            time: Duration::from_millis(50),
        };
        let schedule = Schedule::begin(pace, 1);
        let mut starts = Vec::new();
        while let Some(intended) = schedule.next().await {
            // Far slower than the schedule: the later slots are taken late.
            tokio::time::sleep(Duration::from_millis(25)).await;
            starts.push(intended - schedule.start());
        }
        let wanted: Vec<Duration> = (0..5).map(|n| Duration::from_millis(n * 10)).collect();
        assert_eq!(starts, wanted);
        assert_eq!(schedule.never_begun(Duration::ZERO), 0);
    }

    #[tokio::test]
    async fn what_nobody_began_is_known_without_the_warm_up() {
        let pace = Pace::Open {
            per_second: 100,
            time: Duration::from_millis(100),
        };
        let schedule = Schedule::begin(pace, 1);
        assert!(schedule.next().await.is_some());
        assert_eq!(schedule.never_begun(Duration::ZERO), 9);
        assert_eq!(schedule.never_begun(Duration::from_millis(50)), 5);
    }

    #[tokio::test]
    async fn a_count_is_exact_for_many_workers() {
        let schedule = Schedule::begin(Pace::Count(10), 3);
        let workers = (0..3).map(|_| {
            let schedule = Arc::clone(&schedule);
            tokio::spawn(async move {
                let mut begun = 0;
                while schedule.next().await.is_some() {
                    begun += 1;
                    tokio::task::yield_now().await;
                }
                begun
            })
        });
        let begun: u64 = futures::future::join_all(workers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .sum();
        assert_eq!(begun, 10);
    }
}
