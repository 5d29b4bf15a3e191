//! What happened to an intent.

use super::{Payload, Status, WaitingReason, text};
use baton_protocol::proto::v1;
use serde::Serialize;

/// One lifecycle event. Per intent `seq` is 1, 2, 3 … without gaps, and exactly one event is terminal, the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    pub intent_id: String,
    pub seq: u32,
    /// For example `intent.completed`.
    pub event_type: String,
    pub status: Status,
    pub waiting_reason: Option<WaitingReason>,
    /// Who was responsible from then on.
    pub handler: Option<String>,
    /// Who caused it.
    pub actor: Option<String>,
    /// Unix milliseconds, cluster time.
    pub at_ms: u64,
    /// Of a terminal event.
    pub outcome: Option<Outcome>,
    pub step_id: Option<String>,
    /// Which attempt at delivery it speaks of; 0 = none.
    pub delivery_attempt: u32,
}

impl Event {
    pub(crate) fn from_wire(event: v1::Event) -> Self {
        Self {
            intent_id: event.intent_id,
            seq: event.seq,
            event_type: event.event_type,
            status: Status::from_wire(event.status),
            waiting_reason: WaitingReason::from_wire(event.waiting_reason),
            handler: text(event.handler),
            actor: text(event.actor),
            at_ms: event.at_ms,
            outcome: event.outcome.map(Outcome::from_wire),
            step_id: text(event.step_id),
            delivery_attempt: event.delivery_attempt,
        }
    }
}

/// How an intent ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    pub result: Option<Payload>,
    pub error: Option<Payload>,
    pub reason: Option<String>,
}

impl Outcome {
    pub(crate) fn from_wire(outcome: v1::Outcome) -> Self {
        Self {
            result: Payload::from_wire(outcome.result),
            error: Payload::from_wire(outcome.error),
            reason: text(outcome.reason),
        }
    }
}
