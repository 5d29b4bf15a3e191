//! Durations and bounds of push delivery.

use ipnet::IpNet;
use std::time::Duration;

/// Payloads up to this many encoded bytes travel with a push; the agent fetches larger ones with the intent.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;
/// Bytes of an answer's head, and what is read of one at a time.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer's body that are read, so that the connection can serve again. Longer ones cost the connection.
pub const RESPONSE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Time that reading such a body may take.
pub const RESPONSE_BODY_TIMEOUT: Duration = Duration::from_millis(500);
/// Time to resolve, dial and shake hands.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of this, to dial one of several addresses.
pub const ADDRESS_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// Time an unused connection is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest pause that an endpoint may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Open deliveries of an agent read in one go.
pub const PAGE_ITEMS: usize = 64;
/// Replays of an agent read in one go.
pub const REPLAY_PAGE_ITEMS: u32 = 64;
/// Deliveries that are passed over in one turn of an agent.
pub const PASSED_OVER_MAX: usize = 256;
/// Agents read from the meta group in one go.
pub const DIRECTORY_PAGE: u32 = 1_000;
/// Changes of the directory a group may be behind before it looks at all of it again.
pub const DIRECTORY_CHANGES_BUFFERED: usize = 1_024;

/// How deliveries are pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSettings {
    /// Posts of this node under way at the same time.
    pub concurrency: usize,
    /// Of these, to one endpoint.
    pub endpoint_concurrency: usize,
    /// Of these, to one host.
    pub host_concurrency: usize,
    /// Of these, for the agents of one workspace.
    pub workspace_concurrency: usize,
    /// Time one attempt may take, from the name's resolution to the answer's head.
    pub timeout_ms: u64,
    /// Pauses after the first, second, … failed attempt; the last one repeats.
    pub retry_schedule_ms: Vec<u64>,
    /// Whether `http://` is dialled.
    pub allow_http: bool,
    /// Networks that may be dialled although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Failures in a row after which an endpoint is left alone for a while.
    pub breaker_failures: u32,
    /// For how long, the first time; doubled up to [`BREAKER_PAUSE_MAX`] while it keeps failing.
    pub breaker_pause_ms: u64,
}

/// Longest time an endpoint that keeps failing is left alone.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(300);

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            concurrency: 256,
            endpoint_concurrency: 16,
            host_concurrency: 64,
            workspace_concurrency: 128,
            timeout_ms: 10_000,
            retry_schedule_ms: vec![30_000, 120_000, 600_000],
            allow_http: false,
            allow_networks: Vec::new(),
            breaker_failures: 10,
            breaker_pause_ms: 30_000,
        }
    }
}

impl PushSettings {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
