//! How long to wait between tries.

use rand::Rng as _;
use std::time::Duration;

/// Exponential back-off with full jitter. Jitter keeps clients that failed together from coming back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one call, the first included. The call's total time bounds it as well.
    pub attempts_max: u32,
    /// Longest pause before the second try.
    pub first_pause: Duration,
    /// Longest pause at all; the server's advice may be longer.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 12,
            first_pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

impl RetryPolicy {
    /// Never repeats anything.
    #[must_use]
    pub fn never() -> Self {
        Self {
            attempts_max: 1,
            ..Self::default()
        }
    }

    /// The pause after `failures` tries in a row, never below the server's advice.
    pub(crate) fn pause(&self, failures: u32, advice: Option<Duration>) -> Duration {
        let most = self.most(failures);
        let drawn = most.mul_f64(rand::rng().random_range(0.0..1.0));
        advice.map_or(drawn, |advice| advice + drawn / 4)
    }

    fn most(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.first_pause
            .saturating_mul(1 << doublings)
            .min(self.pause_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_never_undercut_advice() {
        let policy = RetryPolicy::default();
        let most: Vec<_> = [1, 2, 3, 40].map(|n| policy.most(n).as_millis()).into();
        assert_eq!(most, [50, 100, 200, 2_000]);
        for _ in 0..200 {
            assert!(policy.pause(3, None) <= Duration::from_millis(200));
            assert!(policy.pause(1, Some(Duration::from_secs(1))) >= Duration::from_secs(1));
        }
    }
}
