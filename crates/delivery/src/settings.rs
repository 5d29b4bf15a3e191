//! Durations and bounds of delivery.

use baton_protocol::limits;
use std::time::Duration;

/// Payloads up to this many bytes travel with a delivery; a listener fetches larger ones with the intent.
pub const PAYLOAD_BYTES_MAX: u32 = 48 * 1024;
/// Deliveries of one subscription that were sent and not yet taken by the listener.
pub const WINDOW_ITEMS_MAX: usize = 32;
/// Listeners of one node on the agents of one group.
pub const SUBSCRIPTIONS_PER_STREAM_MAX: usize = 16_384;
/// Expired deliveries reported to the log at the same time, per group.
pub const EXPIRIES_IN_FLIGHT_MAX: usize = 32;
/// Cross-group messages under way to one target at the same time.
pub const OUTBOX_IN_FLIGHT_MAX: usize = 16;
/// Requests waiting for one link of the hub.
pub const LINK_QUEUE_ITEMS_MAX: usize = 1_024;
/// Payloads up to this many encoded bytes travel with an item for a worker.
pub const WORK_PAYLOAD_BYTES_MAX: usize = 512 * 1024;
/// Workers of one node on the agents of one group.
pub const WORKERS_PER_STREAM_MAX: usize = 16_384;
/// Items or reports in one frame between a node with workers and a leader.
pub const WORK_FRAME_ITEMS_MAX: usize = 256;
/// Encoded bytes above which such a frame takes nothing more.
pub const WORK_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Frames to one node that wait for its stream.
pub const WORK_SESSION_FRAMES_MAX: usize = 8;
/// Items handed to one node before its stream has taken the previous ones.
pub const WORK_ROUND_ITEMS_MAX: usize = 1_024;
/// Open deliveries of one agent that are known without asking the tables.
pub const WORK_READY_ITEMS_MAX: usize = 8_192;
/// Open deliveries read from the tables in one go.
pub const WORK_READY_PAGE: usize = 512;
/// Ends and failures of attempts under way to the log at the same time, per group.
pub const WORK_PROPOSALS_IN_FLIGHT_MAX: usize = 2_048;
/// Those that wait for their turn, above which no more reports are read.
pub const WORK_PROPOSALS_WAITING_MAX: usize = 8_192;
/// Reports of one worker without a receipt that was taken.
pub const WORK_REPORTS_PENDING_MAX: usize = 8_192;
/// Items in one message to a worker.
pub const WORK_MESSAGE_ITEMS_MAX: usize = 512;
/// Encoded bytes above which such a message takes nothing more.
pub const WORK_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long delivery waits for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Time a written delivery may stay without pick-up before the attempt counts as failed.
    pub visibility_timeout_ms: u64,
    /// Time a picked-up delivery may stay unfinished before it is sent again.
    pub pickup_timeout_ms: u64,
    /// Time a listening node may go on handing out deliveries without hearing from the leader.
    pub lease_ms: u32,
    /// How often a listening node renews its lease.
    pub renew_interval_ms: u64,
    /// Time a new subscription may look for the group's leader.
    pub subscribe_deadline_ms: u64,
    /// Time after which an unused link to a leader is closed.
    pub link_idle_ms: u64,
    /// Time a new leader, or one that has lost a node's stream, waits for workers to say what they hold.
    pub work_grace_ms: u64,
    /// Time after which a worker that does not read is closed.
    pub work_write_timeout_ms: u64,
    /// Time after which a report without an answer is answered with "outcome unknown".
    pub work_report_timeout_ms: u64,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            visibility_timeout_ms: limits::VISIBILITY_TIMEOUT_MS,
            pickup_timeout_ms: limits::PICKUP_TIMEOUT_MS,
            lease_ms: 1_000,
            renew_interval_ms: 250,
            subscribe_deadline_ms: 5_000,
            link_idle_ms: 30_000,
            work_grace_ms: 1_000,
            work_write_timeout_ms: 10_000,
            work_report_timeout_ms: 15_000,
        }
    }
}

impl DeliverySettings {
    pub(crate) fn visibility_timeout(&self) -> Duration {
        Duration::from_millis(self.visibility_timeout_ms)
    }

    pub(crate) fn pickup_timeout(&self) -> Duration {
        Duration::from_millis(self.pickup_timeout_ms)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms))
    }

    pub(crate) fn renew_interval(&self) -> Duration {
        Duration::from_millis(self.renew_interval_ms)
    }

    pub(crate) fn subscribe_deadline(&self) -> Duration {
        Duration::from_millis(self.subscribe_deadline_ms)
    }

    pub(crate) fn link_idle(&self) -> Duration {
        Duration::from_millis(self.link_idle_ms)
    }

    pub(crate) fn work_grace(&self) -> Duration {
        Duration::from_millis(self.work_grace_ms)
    }

    pub(crate) fn work_write_timeout(&self) -> Duration {
        Duration::from_millis(self.work_write_timeout_ms)
    }

    pub(crate) fn work_report_timeout(&self) -> Duration {
        Duration::from_millis(self.work_report_timeout_ms)
    }
}
