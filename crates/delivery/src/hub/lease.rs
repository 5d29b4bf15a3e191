//! The permission to hand out deliveries, counted on the monotonic clock from the moment it was asked for.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Requests for a lease that may be unanswered at the same time.
const ASKED_MAX: usize = 16;

/// A lease that its holders share.
#[derive(Debug)]
pub(super) struct Lease {
    until: Mutex<Instant>,
}

impl Lease {
    pub(super) fn new(until: Instant) -> Self {
        Self {
            until: Mutex::new(until),
        }
    }

    pub(super) fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_valid(&self) -> bool {
        Instant::now() < self.until()
    }

    pub(super) fn extend(&self, until: Instant) {
        let mut current = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *current = until.max(*current);
    }
}

/// Matches answers to requests: a lease must not count from a later moment than the leader thinks.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    last_nonce: u64,
    asked: VecDeque<(u64, Instant)>,
}

impl Renewals {
    /// A nonce for a request that goes out at `now`.
    pub(super) fn ask(&mut self, now: Instant) -> u64 {
        self.last_nonce += 1;
        if self.asked.len() >= ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((self.last_nonce, now));
        self.last_nonce
    }

    /// The end of the lease that answers `nonce`; `None` for an answer nobody waits for.
    pub(super) fn answered(&mut self, nonce: u64, valid_for: Duration) -> Option<Instant> {
        let at = self.asked.iter().position(|(n, _)| *n == nonce)?;
        let (_, asked) = self.asked.drain(..=at).next_back()?;
        Some(asked + valid_for)
    }
}
