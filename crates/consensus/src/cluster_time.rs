//! Cluster time: the stamp of log entries, steered toward the median of the voters' wall clocks.

use crate::clock::Clock;
use crate::metrics;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Fraction of elapsed time by which cluster time may be corrected per step: 1/20.
const STEER_DIVISOR: i64 = 20;
/// A reading whose round trip took longer says too little about the other clock.
pub(crate) const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// One node's view of cluster time, shared by its groups.
///
/// `now_ms` = last log time plus monotonic elapsed, never decreasing, and within `skew_max_ms` of the median of
/// the voters' wall clocks unless the log is already ahead of that: then time stands still until the median has
/// caught up. With two clocks known the lower one is the median: slow time fires deadlines late, fast time would
/// end waiting intents early.
pub(crate) struct ClusterTime {
    clock: Arc<dyn Clock>,
    node_id: u64,
    voters: usize,
    skew_max_ms: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Cluster time minus monotonic time, milliseconds.
    offset_ms: i64,
    /// Wall minus monotonic (of this node) per voter, this one excluded.
    offsets: BTreeMap<u64, i64>,
    /// Largest time handed out or seen in a log.
    floor_ms: i64,
    synced: bool,
    steered_at: Duration,
    off: bool,
}

impl std::fmt::Debug for ClusterTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterTime")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl ClusterTime {
    /// `voters` counts this node.
    pub(crate) fn new(clock: Arc<dyn Clock>, node_id: u64, voters: usize, skew_max_ms: u64) -> Self {
        let time = Self {
            clock,
            node_id,
            voters,
            skew_max_ms: i64::try_from(skew_max_ms).unwrap_or(i64::MAX),
            state: Mutex::new(State::default()),
        };
        time.steer();
        time
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Cluster time in unix milliseconds. Meaningful once [`Self::synced`].
    pub(crate) fn now_ms(&self) -> u64 {
        let mono = self.mono_ms();
        let mut state = self.lock();
        let now = (mono + state.offset_ms).max(state.floor_ms);
        state.floor_ms = now;
        u64::try_from(now).unwrap_or(0)
    }

    /// A log time that was applied here: time never falls behind it.
    pub(crate) fn observe_log_time(&self, log_time_ms: u64) {
        let seen = i64::try_from(log_time_ms).unwrap_or(i64::MAX);
        let mut state = self.lock();
        state.floor_ms = state.floor_ms.max(seen);
    }

    /// A voter's wall clock, read `round_trip` around now.
    pub(crate) fn observe_peer(&self, node_id: u64, wall_ms: u64, round_trip: Duration) {
        if node_id == self.node_id || round_trip > ROUND_TRIP_MAX {
            return;
        }
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(0);
        let offset = i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_add(half) - self.mono_ms();
        self.lock().offsets.insert(node_id, offset);
        self.steer();
    }

    /// How far a voter's wall clock is ahead of cluster time, milliseconds; `None` while it has not been heard.
    pub(crate) fn offset_of(&self, node_id: u64) -> Option<i64> {
        let own = i64::try_from(self.clock.wall_ms()).unwrap_or(i64::MAX) - self.mono_ms();
        let state = self.lock();
        let offset = match node_id == self.node_id {
            true => Some(own),
            false => state.offsets.get(&node_id).copied(),
        };
        offset.map(|offset| offset.saturating_sub(state.offset_ms))
    }

    /// Whether enough clocks are known to trust the median: a majority of the voters.
    pub(crate) fn synced(&self) -> bool {
        self.lock().synced
    }

    /// Whether this node's own wall clock allows it to lead.
    pub(crate) fn may_lead(&self) -> bool {
        let state = self.lock();
        state.synced && !state.off
    }

    /// Moves the estimate toward the median. Called on every reading and at least twice a second.
    pub(crate) fn steer(&self) {
        let mono = self.clock.monotonic();
        let own = i64::try_from(self.clock.wall_ms()).unwrap_or(i64::MAX) - millis(mono);
        let mut state = self.lock();
        let mut known: Vec<i64> = state.offsets.values().copied().collect();
        known.push(own);
        known.sort_unstable();
        let median = known[(known.len() - 1) / 2];
        let majority = known.len() > self.voters / 2;
        if !state.synced {
            state.offset_ms = median;
            state.synced = majority;
        } else {
            let elapsed = millis(mono.saturating_sub(state.steered_at));
            let step = (elapsed / STEER_DIVISOR).max(0);
            let moved = state.offset_ms + (median - state.offset_ms).clamp(-step, step);
            state.offset_ms = moved.clamp(median - self.skew_max_ms, median + self.skew_max_ms);
            // A step of less than a millisecond waits until it is worth one.
            if step == 0 && median != state.offset_ms {
                self.note_skew(&mut state, own - median);
                return;
            }
        }
        state.steered_at = mono;
        self.note_skew(&mut state, own - median);
    }

    fn note_skew(&self, state: &mut State, skew_ms: i64) {
        metrics::clock_skew(skew_ms);
        let off = state.synced && skew_ms.abs() > self.skew_max_ms;
        if off != state.off {
            state.off = off;
            metrics::clock_alarm(off);
            if off {
                tracing::error!(
                    node_id = self.node_id,
                    skew_ms,
                    skew_max_ms = self.skew_max_ms,
                    "this node's wall clock is too far from the other voters'; it will not lead until the clock is set right"
                );
            } else {
                tracing::info!(
                    node_id = self.node_id,
                    skew_ms,
                    "wall clock is within bounds again"
                );
            }
        }
    }

    fn mono_ms(&self) -> i64 {
        millis(self.clock.monotonic())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock whose wall and monotonic hands are moved by the test.
    #[derive(Debug)]
    struct Hands {
        wall_ms: AtomicU64,
        mono_ms: AtomicU64,
    }

    impl Hands {
        fn new(wall_ms: u64) -> Arc<Self> {
            Arc::new(Self {
                wall_ms: AtomicU64::new(wall_ms),
                mono_ms: AtomicU64::new(5),
            })
        }

        fn pass(&self, ms: u64) {
            self.wall_ms.fetch_add(ms, Ordering::Relaxed);
            self.mono_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.mono_ms.load(Ordering::Relaxed))
        }
    }

    const NOON: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;
    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn a_clock_an_hour_off_takes_the_median_and_may_not_lead() {
        for wall in [NOON + HOUR, NOON - HOUR] {
            let hands = Hands::new(wall);
            let time = ClusterTime::new(hands.clone(), 1, 3, 500);
            assert!(!time.synced());
            time.observe_peer(2, NOON, QUICK);
            time.observe_peer(3, NOON, QUICK);
            for _ in 0..40 {
                hands.pass(500);
                let passed = hands.mono_ms.load(Ordering::Relaxed) - 5;
                time.observe_peer(2, NOON + passed, QUICK);
                time.observe_peer(3, NOON + passed, QUICK);
            }
            assert!(time.synced() && !time.may_lead());
            assert!(time.now_ms().abs_diff(NOON + 20_000) <= 500);
        }
    }

    #[test]
    fn a_good_clock_is_not_pulled_by_a_bad_one() {
        let hands = Hands::new(NOON);
        let time = ClusterTime::new(hands, 1, 3, 500);
        time.observe_peer(2, NOON + HOUR, QUICK);
        assert!(time.may_lead(), "the lower of two clocks leads");
        time.observe_peer(3, NOON, QUICK);
        assert!(time.may_lead());
        assert!(time.now_ms().abs_diff(NOON) <= 500);
    }

    #[test]
    fn time_never_runs_back_and_waits_for_a_log_that_is_ahead() {
        let hands = Hands::new(NOON);
        let time = ClusterTime::new(hands.clone(), 1, 1, 500);
        assert!(time.may_lead());
        time.observe_log_time(NOON + 10_000);
        assert_eq!(time.now_ms(), NOON + 10_000);
        hands.pass(4_000);
        time.steer();
        assert_eq!(time.now_ms(), NOON + 10_000);
        hands.wall_ms.store(NOON - HOUR, Ordering::Relaxed);
        time.steer();
        assert_eq!(time.now_ms(), NOON + 10_000);
    }

    #[test]
    fn correction_is_slow_within_the_bound() {
        let hands = Hands::new(NOON);
        let time = ClusterTime::new(hands.clone(), 1, 1, 500);
        hands.wall_ms.store(NOON + 400, Ordering::Relaxed);
        hands.pass(1_000);
        time.steer();
        assert_eq!(time.now_ms(), NOON + 1_000 + 50);
    }
}
