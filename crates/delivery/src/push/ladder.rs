//! When a failed push is tried again.

use super::settings::RETRY_AFTER_MAX;
use baton_protocol::IntentId;
use std::time::Duration;

/// Pauses are longer by up to one part in this many, so that what failed together is not tried together.
const JITTER_PARTS: u64 = 10;

/// Time to the next attempt after `attempt` (1 = the first) failed: the step of the schedule with its jitter, or what
/// the endpoint asked for, whichever is longer. The same for every leader.
pub(crate) fn delay_ms(
    schedule_ms: &[u64],
    intent_id: IntentId,
    attempt: u32,
    retry_after: Option<Duration>,
) -> u64 {
    let step = (attempt.max(1) as usize - 1).min(schedule_ms.len().saturating_sub(1));
    let pause_ms = schedule_ms.get(step).copied().unwrap_or(0);
    let mut drawn_from = intent_id.as_bytes().to_vec();
    drawn_from.extend_from_slice(&attempt.to_be_bytes());
    let share = xxhash_rust::xxh3::xxh3_64(&drawn_from) % 1_000;
    let jitter_ms = pause_ms / JITTER_PARTS * share / 1_000;
    let asked_ms = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).as_millis() as u64;
    pause_ms.saturating_add(jitter_ms).max(asked_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;

    const SCHEDULE: [u64; 3] = [30_000, 120_000, 600_000];

    fn id(n: u64) -> IntentId {
        IntentId::new(1, Slot::from_bits(3), n)
    }

    #[test]
    fn pauses_follow_the_schedule_within_a_tenth() {
        for (attempt, pause_ms) in [
            (1, 30_000),
            (2, 120_000),
            (3, 600_000),
            (4, 600_000),
            (99, 600_000),
        ] {
            let mut seen = std::collections::BTreeSet::new();
            for n in 0..200 {
                let delay = delay_ms(&SCHEDULE, id(n), attempt, None);
                assert!(
                    (pause_ms..=pause_ms + pause_ms / 10).contains(&delay),
                    "{attempt}: {delay}"
                );
                assert_eq!(delay, delay_ms(&SCHEDULE, id(n), attempt, None));
                seen.insert(delay);
            }
            assert!(seen.len() > 100, "they spread");
        }
        assert_eq!(delay_ms(&[], id(1), 1, None), 0);
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_but_not_for_ever() {
        let asked = |secs| delay_ms(&SCHEDULE, id(1), 1, Some(Duration::from_secs(secs)));
        assert_eq!(asked(90), 90_000);
        assert!(asked(1) >= 30_000, "nor for less");
        assert_eq!(asked(u64::MAX), 3_600_000);
    }
}
