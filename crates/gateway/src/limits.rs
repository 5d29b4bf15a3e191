//! Request rates per key and endpoint, on this node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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
    pub allowed: bool,
}

impl RateLimiter {
    /// `per_minute` 0 = unlimited.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            window: Mutex::default(),
        }
    }

    /// Counts one request; `None` when there is no limit.
    pub(crate) fn count(&self, key_id: &str, endpoint: &'static str, now_ms: u64) -> Option<RateStatus> {
        if self.per_minute == 0 {
            return None;
        }
        let number = now_ms / WINDOW_MS;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.number != number || window.used.len() >= COUNTERS_MAX {
            window.number = number;
            window.used.clear();
        }
        let used = window.used.entry((key_id.to_owned(), endpoint)).or_default();
        *used = used.saturating_add(1);
        let end_ms = (number + 1) * WINDOW_MS;
        Some(RateStatus {
            limit: self.per_minute,
            remaining: self.per_minute.saturating_sub(*used),
            reset_at_seconds: end_ms / 1000,
            retry_after_seconds: (end_ms - now_ms).div_ceil(1000) as u32,
            allowed: *used <= self.per_minute,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_admits_the_limit_per_key_and_endpoint() {
        let limiter = RateLimiter::new(2);
        let allowed = |key, endpoint, now| limiter.count(key, endpoint, now).unwrap().allowed;
        assert!(allowed("a", "x", 0) && allowed("a", "x", 1));
        assert!(!allowed("a", "x", 59_999));
        assert!(allowed("a", "y", 59_999) && allowed("b", "x", 59_999));
        assert!(allowed("a", "x", 60_000));
        let status = limiter.count("a", "x", 60_500).unwrap();
        assert_eq!((status.remaining, status.retry_after_seconds), (0, 60));
        assert_eq!(RateLimiter::new(0).count("a", "x", 0), None);
    }
}
