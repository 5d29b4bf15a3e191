//! Deliveries by HTTP push.

use super::{number, text};
use crate::Error;
use baton_protocol::proto::v1;
use serde::Serialize;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up with attempts left: the intent ended, or went to another agent.
    Failed,
    /// Attempts exhausted.
    DeadLettered,
}

impl DeliveryState {
    fn from_wire(number: i32) -> Self {
        match v1::DeliveryState::try_from(number).unwrap_or_default() {
            v1::DeliveryState::Delivered => Self::Delivered,
            v1::DeliveryState::Failed => Self::Failed,
            v1::DeliveryState::DeadLettered => Self::DeadLettered,
            v1::DeliveryState::Pending | v1::DeliveryState::Unspecified => Self::Pending,
        }
    }

    fn to_wire(self) -> i32 {
        match self {
            Self::Pending => v1::DeliveryState::Pending,
            Self::Delivered => v1::DeliveryState::Delivered,
            Self::Failed => v1::DeliveryState::Failed,
            Self::DeadLettered => v1::DeliveryState::DeadLettered,
        }
        .into()
    }
}

/// One delivery. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Delivery {
    pub delivery_id: String,
    pub replay_of_delivery_id: Option<String>,
    pub intent_id: String,
    pub intent_type: String,
    pub correlation_id: Option<String>,
    /// Address of the agent.
    pub agent: String,
    pub agent_id: Option<String>,
    pub callback_url: Option<String>,
    pub state: DeliveryState,
    pub attempts: u32,
    pub max_attempts: u32,
    /// HTTP status of the last attempt; absent when no answer came.
    pub last_status: Option<u64>,
    pub last_error: Option<String>,
    pub next_attempt_at_ms: Option<u64>,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    pub replays: u32,
}

impl Delivery {
    pub(crate) fn from_wire(delivery: v1::Delivery) -> Self {
        Self {
            delivery_id: delivery.delivery_id,
            replay_of_delivery_id: text(delivery.replay_of_delivery_id),
            intent_id: delivery.intent_id,
            intent_type: delivery.intent_type,
            correlation_id: text(delivery.correlation_id),
            agent: delivery.agent,
            agent_id: text(delivery.agent_id),
            callback_url: text(delivery.callback_url),
            state: DeliveryState::from_wire(delivery.state),
            attempts: delivery.attempts,
            max_attempts: delivery.max_attempts,
            last_status: number(delivery.last_status.into()),
            last_error: text(delivery.last_error),
            next_attempt_at_ms: number(delivery.next_attempt_at_ms),
            created_at_ms: delivery.created_at_ms,
            updated_at_ms: delivery.updated_at_ms,
            replays: delivery.replays,
        }
    }
}

/// Which deliveries. Everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Absent = the whole workspace of the key.
    pub agent: Option<String>,
    /// Any of these; empty = all, or for a replay the dead letters.
    pub states: Vec<DeliveryState>,
}

impl DeliveryFilter {
    pub(crate) fn into_wire(self) -> v1::DeliveryFilter {
        v1::DeliveryFilter {
            agent: self.agent.unwrap_or_default(),
            states: self.states.into_iter().map(DeliveryState::to_wire).collect(),
        }
    }
}

/// Some deliveries, newest intent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeliveryPage {
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins; absent after the last one.
    pub next: Option<String>,
}

/// What a bulk replay did, or would do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BulkReplay {
    pub results: Vec<Replay>,
    /// Where to go on; absent when nothing more matches.
    pub next: Option<String>,
}

/// One delivery of a bulk replay.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Replay {
    pub delivery_id: String,
    /// The new one; absent in a dry run.
    pub replay: Option<Delivery>,
    /// Why this one was not replayed.
    pub error: Option<Error>,
}
