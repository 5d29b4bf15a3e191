//! Leaves an endpoint alone that keeps failing, then asks it with one delivery.

use super::settings::{BREAKER_PAUSE_MAX, PushSettings, RETRY_AFTER_MAX};
use std::time::Duration;
use tokio::time::Instant;

/// Whether an attempt may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    Go,
    /// Not before then.
    Wait(Instant),
    /// One attempt is under way; its outcome decides.
    Probing,
}

/// Soft state of one endpoint. Holding back costs no attempt.
#[derive(Debug)]
pub(super) struct Breaker {
    threshold: u32,
    first_pause: Duration,
    pause: Duration,
    failures: u32,
    held_until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    pub(super) fn new(settings: &PushSettings) -> Self {
        let first_pause = Duration::from_millis(settings.breaker_pause_ms);
        Self {
            threshold: settings.breaker_failures.max(1),
            first_pause,
            pause: first_pause,
            failures: 0,
            held_until: None,
            probing: false,
        }
    }

    pub(super) fn advice(&self, now: Instant) -> Advice {
        match self.held_until {
            None => Advice::Go,
            Some(until) if now < until => Advice::Wait(until),
            Some(_) if self.probing => Advice::Probing,
            Some(_) => Advice::Go,
        }
    }

    /// An attempt begins.
    pub(super) fn started(&mut self) {
        self.probing = self.held_until.is_some();
    }

    /// An attempt came to nothing that says anything about the endpoint.
    pub(super) fn forgotten(&mut self) {
        self.probing = false;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.held_until = None;
        self.probing = false;
        self.pause = self.first_pause;
    }

    /// An attempt failed; `retry_after` is what the endpoint asked for.
    pub(super) fn failed(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        if self.probing || (self.held_until.is_none() && self.failures >= self.threshold) {
            self.hold(now + self.pause);
            self.pause = (self.pause * 2).min(BREAKER_PAUSE_MAX);
        }
        self.probing = false;
        if let Some(asked) = retry_after {
            self.hold(now + asked.min(RETRY_AFTER_MAX));
        }
    }

    fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |before| before.max(until)));
    }

    pub(super) fn is_holding(&self) -> bool {
        self.held_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn breaker() -> (Breaker, Instant) {
        let settings = PushSettings {
            breaker_failures: 3,
            breaker_pause_ms: 30_000,
            ..PushSettings::default()
        };
        (Breaker::new(&settings), Instant::now())
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let (mut breaker, now) = breaker();
        breaker.failed(now, None);
        breaker.failed(now, None);
        breaker.succeeded();
        breaker.failed(now, None);
        breaker.failed(now, None);
        assert_eq!(breaker.advice(now), Advice::Go);
        breaker.failed(now, None);
        assert_eq!(breaker.advice(now), Advice::Wait(now + PAUSE));
        // Those that were under way when it opened change nothing.
        breaker.failed(now, None);
        assert_eq!(breaker.advice(now), Advice::Wait(now + PAUSE));
        let later = now + PAUSE;
        assert_eq!(breaker.advice(later), Advice::Go);
        breaker.started();
        assert_eq!(breaker.advice(later), Advice::Probing);
        breaker.failed(later, None);
        assert_eq!(breaker.advice(later), Advice::Wait(later + PAUSE * 2));
        let later = later + PAUSE * 2;
        breaker.started();
        breaker.forgotten();
        assert_eq!(breaker.advice(later), Advice::Go);
        breaker.started();
        breaker.succeeded();
        assert_eq!(breaker.advice(later), Advice::Go);
        assert!(!breaker.is_holding());
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let (mut breaker, mut now) = breaker();
        for _ in 0..3 {
            breaker.failed(now, None);
        }
        for _ in 0..10 {
            let Advice::Wait(until) = breaker.advice(now) else {
                panic!("closed")
            };
            assert!(until - now <= BREAKER_PAUSE_MAX);
            now = until;
            breaker.started();
            breaker.failed(now, None);
        }
        assert_eq!(breaker.advice(now), Advice::Wait(now + BREAKER_PAUSE_MAX));
    }

    #[test]
    fn an_endpoint_that_asks_for_time_gets_it_within_a_bound() {
        let (mut breaker, now) = breaker();
        breaker.failed(now, Some(Duration::from_secs(7)));
        assert_eq!(breaker.advice(now), Advice::Wait(now + Duration::from_secs(7)));
        breaker.failed(now, Some(Duration::from_secs(u64::MAX)));
        assert_eq!(breaker.advice(now), Advice::Wait(now + RETRY_AFTER_MAX));
    }
}
