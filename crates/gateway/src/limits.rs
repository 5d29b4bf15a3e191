//! Request rates per key and endpoint: this node's share of the cluster's limit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use baton_protocol::{ErrorCode, ServiceError};

const WINDOW_MS: u64 = 60_000;
/// Counters kept at one time; above it the window starts anew, which errs in the callers' favour.
const COUNTERS_MAX: usize = 100_000;

/// Counts requests in fixed one-minute windows.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_minute: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    number: u64,
    used: HashMap<(String, &'static str), u32>,
}

/// What the `X-RateLimit-*` headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateStatus {
    pub limit: u32,
    pub remaining: u32,
    /// Unix seconds at which the window ends.
    pub reset_at_seconds: u64,
    pub retry_after_seconds: u32,
    /// How many of the counted requests are within the limit.
    pub admitted: u32,
    /// All of them are.
    pub allowed: bool,
}

impl RateStatus {
    /// What is said to a request beyond the limit.
    pub(crate) fn refusal(&self) -> ServiceError {
        let mut error = ServiceError::new(
            ErrorCode::RateLimitExceeded,
            format!(
                "more than {} requests a minute on this endpoint of this node; the limit is shared by all nodes",
                self.limit
            ),
        );
        error.retry_after_seconds = Some(self.retry_after_seconds);
        error
    }
}

impl RateLimiter {
    /// `per_minute` 0 = unlimited.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            window: Mutex::default(),
        }
    }

    /// Counts requests, each item of a batch being one; `None` when there is no limit. Requests are taken to be spread
    /// over `live_nodes`, so each admits an equal share, rounded up.
    pub(crate) fn count(
        &self,
        key_id: &str,
        endpoint: &'static str,
        requests: u32,
        now_ms: u64,
        live_nodes: usize,
    ) -> Option<RateStatus> {
        if self.per_minute == 0 {
            return None;
        }
        let nodes = u32::try_from(live_nodes.max(1)).unwrap_or(u32::MAX);
        let limit = self.per_minute.div_ceil(nodes);
        let number = now_ms / WINDOW_MS;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.number != number || window.used.len() >= COUNTERS_MAX {
            window.number = number;
            window.used.clear();
        }
        let used = window.used.entry((key_id.to_owned(), endpoint)).or_default();
        let left = limit.saturating_sub(*used);
        *used = used.saturating_add(requests);
        let end_ms = (number + 1) * WINDOW_MS;
        Some(RateStatus {
            limit,
            remaining: limit.saturating_sub(*used),
            reset_at_seconds: end_ms / 1000,
            retry_after_seconds: (end_ms - now_ms).div_ceil(1000) as u32,
            admitted: left.min(requests),
            allowed: left >= requests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_admits_the_limit_per_key_and_endpoint() {
        let limiter = RateLimiter::new(2);
        let allowed = |key, endpoint, now| limiter.count(key, endpoint, 1, now, 1).unwrap().allowed;
        assert!(allowed("a", "x", 0) && allowed("a", "x", 1));
        assert!(!allowed("a", "x", 59_999));
        assert!(allowed("a", "y", 59_999) && allowed("b", "x", 59_999));
        assert!(allowed("a", "x", 60_000));
        let status = limiter.count("a", "x", 1, 60_500, 1).unwrap();
        assert_eq!((status.remaining, status.retry_after_seconds), (0, 60));
        assert_eq!(RateLimiter::new(0).count("a", "x", 1, 0, 1), None);
        let batch = limiter.count("c", "x", 5, 0, 1).unwrap();
        assert_eq!((batch.admitted, batch.allowed, batch.remaining), (2, false, 0));
    }

    #[test]
    fn nodes_share_the_limit_and_take_over_the_share_of_a_lost_one() {
        let limiter = RateLimiter::new(4);
        let count = |nodes| limiter.count("a", "x", 1, 0, nodes).unwrap();
        assert!(count(3).allowed && count(3).allowed);
        let third = count(3);
        assert_eq!((third.limit, third.remaining, third.allowed), (2, 0, false));
        let alone = count(1);
        assert_eq!((alone.limit, alone.allowed), (4, true));
        assert_eq!(
            limiter.count("b", "x", 1, 0, 9).unwrap().limit,
            1,
            "never none at all"
        );
        assert_eq!(limiter.count("b", "y", 1, 0, 0).unwrap().limit, 4);
    }
}
