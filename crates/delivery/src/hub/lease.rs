//! The permission to hand out deliveries, counted on the monotonic clock from the moment it was asked for.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Requests for a lease that may be unanswered at the same time.
const ASKED_MAX: usize = 16;

/// A lease that its holders share.
#[derive(Debug)]
pub(crate) struct Lease {
    until: Mutex<Instant>,
}

impl Lease {
    pub(crate) fn new(until: Instant) -> Self {
        Self {
            until: Mutex::new(until),
        }
    }

    pub(crate) fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_valid(&self) -> bool {
        Instant::now() < self.until()
    }

    pub(crate) fn extend(&self, until: Instant) {
        let mut current = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *current = until.max(*current);
    }
}

/// Matches answers to requests: a lease must not count from a later moment than the leader thinks.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    last_nonce: u64,
    asked: VecDeque<(u64, Instant)>,
}

impl Renewals {
    /// A nonce for a request that goes out at `now`.
    pub(crate) fn ask(&mut self, now: Instant) -> u64 {
        self.last_nonce += 1;
        if self.asked.len() >= ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((self.last_nonce, now));
        self.last_nonce
    }

    /// The end of the lease that answers `nonce`; `None` for an answer nobody waits for.
    pub(crate) fn answered(&mut self, nonce: u64, valid_for: Duration) -> Option<Instant> {
        let at = self.asked.iter().position(|(n, _)| *n == nonce)?;
        let (_, asked) = self.asked.drain(..=at).next_back()?;
        Some(asked + valid_for)
    }
}
