//! What passes between a worker's stream and the delivery of its agent: in batches, and encoded where nobody in
//! between reads it.

use crate::ServiceError;
use crate::limits::{WORK_LEASE_DEFAULT_MS, WORK_LEASE_MAX_MS, WORK_LEASE_MIN_MS};
use crate::proto::internal::{Actor, AgentRef, AttemptFence, AttemptReport};
use bytes::Bytes;

/// A worker that competes for the deliveries of an agent.
#[derive(Debug, Clone)]
pub struct WorkOpen {
    pub agent: AgentRef,
    /// Whose permissions the reports are checked with.
    pub actor: Actor,
    /// How long an item may go without a report, as the worker wishes; 0 = no wish. See [`granted_lease_ms`].
    pub lease_ms: u32,
}

/// The lease that a worker gets for its wish.
#[must_use]
pub fn granted_lease_ms(wish_ms: u32) -> u32 {
    if wish_ms == 0 {
        WORK_LEASE_DEFAULT_MS
    } else {
        wish_ms.clamp(WORK_LEASE_MIN_MS, WORK_LEASE_MAX_MS)
    }
}

/// What a worker says, all at once.
#[derive(Debug, Clone, Default)]
pub struct WorkInput {
    /// Adds to the worker's credits.
    pub credits: u32,
    /// At most [`crate::limits::WORK_MESSAGE_REPORTS_MAX`]. Worker and nonce are filled in on the way.
    pub reports: Vec<AttemptReport>,
    /// No more items: the stream ends when all that were handed over are finished.
    pub drain: bool,
    /// The worker has said all: the stream ends when everything is answered.
    pub last: bool,
}

/// One attempt at one intent.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkItem {
    pub fence: AttemptFence,
    pub intent_id: Bytes,
    /// An encoded `baton.internal.v1.Intent`.
    pub intent: Bytes,
    /// An encoded `baton.internal.v1.Payload`; empty when there is none or it is too large to travel along.
    pub payload: Bytes,
}

/// What became of a report.
#[derive(Debug, Clone)]
pub struct WorkReceipt {
    pub intent_id: Bytes,
    pub fence: AttemptFence,
    /// Absent when the report took effect.
    pub error: Option<ServiceError>,
}

/// What waits for a worker. Items count as written to it once it has taken them.
#[derive(Debug, Clone, Default)]
pub struct WorkBatch {
    pub items: Vec<WorkItem>,
    pub receipts: Vec<WorkReceipt>,
}
