//! What every request of a node shares, whichever protocol it came by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use baton_protocol::limits::TASK_LINK_REQUESTS_PER_MINUTE;
use baton_protocol::{ErrorCode, ServiceError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::GatewayConfig;
use crate::limits::{RateLimiter, RateStatus};
use crate::ports::Ports;
use crate::service::{Caller, Service};

/// Between two attempts of a stream that waits for a leader.
const PATIENCE_PAUSE: Duration = Duration::from_millis(100);

/// The operations with what bounds them.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) limiter: RateLimiter,
    /// Of links to human tasks, which come without a key.
    links: RateLimiter,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    /// Patterns of the HTTP routes, as labels.
    pub(crate) endpoints: Vec<&'static str>,
    tokens: AtomicU64,
}

impl App {
    pub(crate) fn new(config: Arc<GatewayConfig>, ports: Ports, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            limiter: RateLimiter::new(config.requests_per_minute),
            links: RateLimiter::new(match config.requests_per_minute {
                0 => 0,
                _ => TASK_LINK_REQUESTS_PER_MINUTE,
            }),
            streams: Arc::new(Semaphore::new(config.streams_max)),
            service: Service::new(ports, config),
            shutdown,
            endpoints: crate::http::route_patterns(),
            tokens: AtomicU64::new(1),
        })
    }

    /// Repeats what fails for lack of a leader, for as long as a new stream may wait.
    pub(crate) async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let until = Instant::now() + Duration::from_millis(self.service.config.stream_patience_ms);
        loop {
            match call().await {
                Err(error) if error.code.retryable() && Instant::now() < until => {
                    tokio::time::sleep(PATIENCE_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// A number that this process has not used before; later ones are higher.
    pub(crate) fn token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts `requests` of a key; `None` when there is no limit.
    pub(crate) fn count(&self, caller: &Caller, endpoint: &'static str, requests: u32) -> Option<RateStatus> {
        let environment = &self.service.ports.environment;
        let (now, nodes) = (environment.now_ms(), environment.live_nodes());
        self.limiter
            .count(&caller.key.key_id, endpoint, requests, now, nodes)
    }

    /// Counts a request for the page of a task; `None` when there is no limit.
    pub(crate) fn count_link(&self, whose: &str) -> Option<RateStatus> {
        let environment = &self.service.ports.environment;
        let (now, nodes) = (environment.now_ms(), environment.live_nodes());
        self.links.count(whose, "task page", 1, now, nodes)
    }

    /// One of the node's streams.
    ///
    /// # Errors
    /// `Unavailable` when all are taken.
    pub(crate) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            ServiceError::new(
                ErrorCode::Unavailable,
                "too many open streams on this node; try another one",
            )
        })
    }
}
