//! The nodes that a client knows, and which of them it talks to.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

/// How long a node that failed once is left alone; doubles with each further failure.
const DOWN_FIRST: Duration = Duration::from_millis(100);
/// Longest time that a node is left alone while another one works.
const DOWN_MAX: Duration = Duration::from_secs(5);

/// One node. Its channel connects when it is used and again after it broke.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) uri: String,
    pub(crate) channel: Channel,
    failures: AtomicU32,
    /// Milliseconds since the list was made until which it is left alone; 0 = it works.
    down_until_ms: AtomicU64,
}

/// All nodes. Calls stay with one that works, so that its connection is warm, and move on when it fails.
#[derive(Debug)]
pub(crate) struct Endpoints {
    list: Vec<Endpoint>,
    current: AtomicUsize,
    since: Instant,
}

impl Endpoints {
    /// `channels` must not be empty; calls begin with `first`, counted round.
    pub(crate) fn new(channels: Vec<(String, Channel)>, first: usize) -> Self {
        let list: Vec<_> = channels
            .into_iter()
            .map(|(uri, channel)| Endpoint {
                uri,
                channel,
                failures: AtomicU32::new(0),
                down_until_ms: AtomicU64::new(0),
            })
            .collect();
        Self {
            current: AtomicUsize::new(first % list.len()),
            list,
            since: Instant::now(),
        }
    }

    /// Which one to use now: the current one, else the next that works, else the one that recovers first.
    pub(crate) fn pick(&self) -> usize {
        let now_ms = self.now_ms();
        let current = self.current.load(Ordering::Relaxed);
        let mut order = (0..self.list.len()).map(|n| (current + n) % self.list.len());
        let works = order.find(|&n| self.down_until_ms(n) <= now_ms);
        let chosen = works
            .or_else(|| (0..self.list.len()).min_by_key(|&n| self.down_until_ms(n)))
            .unwrap_or(current);
        if chosen != current {
            self.current.store(chosen, Ordering::Relaxed);
        }
        chosen
    }

    pub(crate) fn get(&self, n: usize) -> &Endpoint {
        &self.list[n]
    }

    /// The one with this `host:port`.
    pub(crate) fn find(&self, address: &str) -> Option<usize> {
        self.list.iter().position(|endpoint| {
            endpoint
                .uri
                .split_once("://")
                .is_some_and(|(_, host)| host == address)
        })
    }

    pub(crate) fn works(&self, n: usize) -> bool {
        self.down_until_ms(n) <= self.now_ms()
    }

    /// Whether a node is left that has not failed lately: then there is no reason to wait before the next try.
    pub(crate) fn any_works(&self) -> bool {
        let now_ms = self.now_ms();
        (0..self.list.len()).any(|n| self.down_until_ms(n) <= now_ms)
    }

    pub(crate) fn succeeded(&self, n: usize) {
        let endpoint = &self.list[n];
        if endpoint.failures.swap(0, Ordering::Relaxed) > 0 {
            endpoint.down_until_ms.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, n: usize) {
        let endpoint = &self.list[n];
        let before = endpoint.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let down = DOWN_FIRST.saturating_mul(1 << before).min(DOWN_MAX);
        let until = self.now_ms() + u64::try_from(down.as_millis()).unwrap_or(u64::MAX);
        endpoint.down_until_ms.store(until, Ordering::Relaxed);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.list.iter()
    }

    fn down_until_ms(&self, n: usize) -> u64 {
        self.list[n].down_until_ms.load(Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Endpoints {
        let channel = |n| {
            let uri = format!("http://127.0.0.1:{n}");
            let endpoint = Channel::from_shared(uri.clone()).unwrap();
            (uri, endpoint.connect_lazy())
        };
        Endpoints::new(vec![channel(1), channel(2), channel(3)], 4)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_stay_with_a_working_node_and_leave_a_failing_one_alone() {
        let endpoints = three();
        assert_eq!((endpoints.pick(), endpoints.pick()), (1, 1));
        endpoints.failed(1);
        assert_eq!(endpoints.pick(), 2);
        tokio::time::advance(DOWN_MAX).await;
        assert_eq!(endpoints.pick(), 2, "a node that came back is no reason to move");
        endpoints.failed(2);
        assert_eq!(endpoints.pick(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn with_all_down_the_first_to_recover_is_tried() {
        let endpoints = three();
        for n in [1, 1, 1, 2, 0] {
            endpoints.failed(n);
        }
        assert!(!endpoints.any_works());
        assert_ne!(endpoints.pick(), 1, "it failed three times");
        endpoints.succeeded(1);
        assert!(endpoints.any_works());
        let current = endpoints.pick();
        assert_eq!(current, 1);
    }
}
