//! The envelope of an intent: which bounds may be set, and what follows from them.

use crate::limits::{
    DELIVERY_ATTEMPTS_MAX, ENVELOPE_EXECUTION_SECONDS_MAX, ENVELOPE_RETRY_BACKOFF_SECONDS_MAX,
    ENVELOPE_TTL_SECONDS_MAX,
};
use crate::proto::internal::EnvelopeLimits;
use crate::{ErrorCode, ServiceError};

/// Pauses of the retry ladder, in its base.
const LADDER: [u64; 3] = [1, 4, 20];

impl EnvelopeLimits {
    /// # Errors
    /// `InvalidArgument`, naming the member that is out of its bounds.
    pub fn check(&self) -> Result<(), ServiceError> {
        let bounded = |name: &str, value: Option<u32>, least: u32, most: u32| match value {
            Some(value) if !(least..=most).contains(&value) => Err(ServiceError::new(
                ErrorCode::InvalidArgument,
                format!("envelope_patch.{name} must be {least} to {most}"),
            )),
            Some(_) | None => Ok(()),
        };
        bounded(
            "max_retry_count",
            self.max_retry_count,
            0,
            DELIVERY_ATTEMPTS_MAX - 1,
        )?;
        bounded(
            "retry_backoff_seconds",
            self.retry_backoff_seconds,
            1,
            ENVELOPE_RETRY_BACKOFF_SECONDS_MAX,
        )?;
        bounded(
            "execution_timeout_seconds",
            self.execution_timeout_seconds,
            1,
            ENVELOPE_EXECUTION_SECONDS_MAX,
        )?;
        bounded("ttl_seconds", self.ttl_seconds, 1, ENVELOPE_TTL_SECONDS_MAX)?;
        if self.expires_at_ms == Some(0) {
            return Err(ServiceError::new(
                ErrorCode::InvalidArgument,
                "envelope_patch.expires_at must be a time after 1970",
            ));
        }
        Ok(())
    }

    /// Takes over what `patch` sets.
    pub fn merge(&mut self, patch: &Self) {
        self.max_retry_count = patch.max_retry_count.or(self.max_retry_count);
        self.retry_backoff_seconds = patch.retry_backoff_seconds.or(self.retry_backoff_seconds);
        self.execution_timeout_seconds = patch.execution_timeout_seconds.or(self.execution_timeout_seconds);
        self.ttl_seconds = patch.ttl_seconds.or(self.ttl_seconds);
        self.expires_at_ms = patch.expires_at_ms.or(self.expires_at_ms);
    }

    /// When an intent of this age ends at the latest: the earlier of both bounds, if there is one.
    #[must_use]
    pub fn deadline_ms(&self, created_at_ms: u64) -> Option<u64> {
        let lives_until = self
            .ttl_seconds
            .map(|ttl| created_at_ms.saturating_add(u64::from(ttl) * 1_000));
        [lives_until, self.expires_at_ms].into_iter().flatten().min()
    }

    /// Pauses after the first, second, … failed attempt, milliseconds; the last one repeats. `None` when the envelope says
    /// nothing about them.
    #[must_use]
    pub fn retry_schedule_ms(&self) -> Option<[u64; 3]> {
        let base_ms = u64::from(self.retry_backoff_seconds?) * 1_000;
        let most_ms = u64::from(ENVELOPE_RETRY_BACKOFF_SECONDS_MAX) * 1_000;
        Some(LADDER.map(|step| (base_ms * step).min(most_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_bounds() {
        let set = |n: usize, value: u32| {
            let mut limits = EnvelopeLimits::default();
            *[
                &mut limits.max_retry_count,
                &mut limits.retry_backoff_seconds,
                &mut limits.execution_timeout_seconds,
                &mut limits.ttl_seconds,
            ][n] = Some(value);
            limits.check().is_ok()
        };
        for (n, least, most) in [
            (0, 0, DELIVERY_ATTEMPTS_MAX - 1),
            (1, 1, 86_400),
            (2, 1, 604_800),
            (3, 1, ENVELOPE_TTL_SECONDS_MAX),
        ] {
            assert!(set(n, least) && set(n, most), "{n}");
            assert!(!set(n, most + 1) && (least == 0 || !set(n, least - 1)), "{n}");
        }
    }

    #[test]
    fn the_earlier_end_counts_and_a_patch_keeps_the_rest() {
        let mut limits = EnvelopeLimits {
            ttl_seconds: Some(10),
            ..EnvelopeLimits::default()
        };
        assert_eq!(limits.deadline_ms(1_000), Some(11_000));
        limits.merge(&EnvelopeLimits {
            expires_at_ms: Some(5_000),
            ..EnvelopeLimits::default()
        });
        assert_eq!(limits.deadline_ms(1_000), Some(5_000));
        assert_eq!(limits.retry_schedule_ms(), None);
        limits.retry_backoff_seconds = Some(3);
        assert_eq!(limits.retry_schedule_ms(), Some([3_000, 12_000, 60_000]));
        limits.retry_backoff_seconds = Some(86_400);
        assert_eq!(limits.retry_schedule_ms(), Some([86_400_000; 3]));
        assert_eq!(EnvelopeLimits::default().deadline_ms(1), None);
    }
}
