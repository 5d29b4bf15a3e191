//! How sure this node is that its copy of the meta group is current.

use crate::clock::Clock;
use crate::core::Core;
use baton_protocol::{META_GROUP, ServiceError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// A replica unconfirmed for longer than this does not answer authenticated requests.
pub const META_FRESH_MAX: Duration = Duration::from_millis(1_000);
/// How often a node confirms its meta index unasked.
pub(crate) const META_CONFIRM_INTERVAL: Duration = Duration::from_millis(300);
/// Shortest time between two rounds that unknown keys cause.
const REFRESH_PAUSE: Duration = Duration::from_millis(50);
/// A round that takes longer counts as failed.
const ROUND_TIMEOUT: Duration = Duration::from_millis(900);

/// When the last successful confirmation began.
#[derive(Debug, Default)]
pub(crate) struct MetaFreshness {
    /// Monotonic milliseconds plus one; 0 = never.
    confirmed: AtomicU64,
    /// Start of the last round. Held during a round, so that callers share it.
    round: Mutex<Option<Duration>>,
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

impl MetaFreshness {
    pub(crate) fn is_fresh(&self, clock: &dyn Clock) -> bool {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        let age = millis(clock.monotonic()).saturating_sub(confirmed.saturating_sub(1));
        confirmed > 0 && age <= millis(META_FRESH_MAX)
    }
}

impl Core {
    pub(crate) fn meta_fresh(&self) -> bool {
        self.meta.is_fresh(self.time.clock())
    }

    /// Brings the local meta tables up to everything committed before this call. Calls that wait together share
    /// one round, and rounds keep a pause between them.
    pub(crate) async fn refresh_meta(&self) -> Result<(), ServiceError> {
        let clock = self.time.clock();
        let asked = clock.monotonic();
        let mut last = self.meta.round.lock().await;
        let confirmed = self.meta.confirmed.load(Ordering::Acquire);
        if confirmed > 0 && confirmed - 1 > millis(asked) {
            return Ok(());
        }
        if let Some(last) = *last {
            let wait = REFRESH_PAUSE.saturating_sub(clock.monotonic().saturating_sub(last));
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        let started = clock.monotonic();
        *last = Some(started);
        self.catch_up(META_GROUP, ROUND_TIMEOUT).await?;
        self.meta.confirmed.store(millis(started) + 1, Ordering::Release);
        Ok(())
    }
}
