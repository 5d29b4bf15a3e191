//! Intents and what calls about them answer.

use super::{Event, Outcome, Payload, Status, WaitingReason, number, text};
use crate::Error;
use baton_protocol::proto::v1;
use serde::Serialize;

/// One intent as of now. Times are unix milliseconds, cluster time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Intent {
    pub intent_id: String,
    pub intent_type: String,
    pub status: Status,
    pub waiting_reason: Option<WaitingReason>,
    pub to_agent: String,
    pub from_agent: Option<String>,
    pub reply_to: Option<String>,
    /// Who is responsible now.
    pub handler: Option<String>,
    pub correlation_id: Option<String>,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    pub deadline_at_ms: Option<u64>,
    /// `seq` of the newest event.
    pub last_seq: u32,
    pub failed_attempts: u32,
    pub max_delivery_attempts: u32,
    pub policy_generation: u64,
    pub org_id: Option<String>,
    pub workspace_id: Option<String>,
    /// W3C traceparent of whoever submitted.
    pub traceparent: Option<String>,
    /// Absent where a call leaves it out or it is too large for the message.
    pub payload: Option<Payload>,
    /// How it ended; present when the status is terminal.
    pub outcome: Option<Outcome>,
}

impl Intent {
    pub(crate) fn from_wire(intent: v1::Intent) -> Self {
        Self {
            intent_id: intent.intent_id,
            intent_type: intent.intent_type,
            status: Status::from_wire(intent.status),
            waiting_reason: WaitingReason::from_wire(intent.waiting_reason),
            to_agent: intent.to_agent,
            from_agent: text(intent.from_agent),
            reply_to: text(intent.reply_to),
            handler: text(intent.handler),
            correlation_id: text(intent.correlation_id),
            created_at_ms: intent.created_at_ms,
            updated_at_ms: intent.updated_at_ms,
            deadline_at_ms: number(intent.deadline_at_ms),
            last_seq: intent.last_seq,
            failed_attempts: intent.failed_attempts,
            max_delivery_attempts: intent.max_delivery_attempts,
            policy_generation: intent.policy_generation,
            org_id: text(intent.org_id),
            workspace_id: text(intent.workspace_id),
            traceparent: text(intent.traceparent),
            payload: Payload::from_wire(intent.payload),
            outcome: intent.outcome.map(Outcome::from_wire),
        }
    }

    pub(crate) fn required(intent: Option<v1::Intent>) -> Result<Self, Error> {
        intent
            .map(Self::from_wire)
            .ok_or_else(|| Error::Unexpected("the intent is missing".into()))
    }
}

/// A committed intent: a majority of the nodes has it on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Receipt {
    pub intent_id: String,
    pub status: Status,
    /// Unix milliseconds, cluster time.
    pub created_at_ms: u64,
    /// This is the answer of an earlier submit with the same idempotency key.
    pub replayed: bool,
}

impl Receipt {
    pub(crate) fn from_wire(receipt: v1::SubmitReceipt) -> Self {
        Self {
            intent_id: receipt.intent_id,
            status: Status::from_wire(receipt.status),
            created_at_ms: receipt.created_at_ms,
            replayed: receipt.replayed,
        }
    }
}

/// What a resolve, resume or cancel changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    pub intent: Intent,
    /// The last event that the call appended.
    pub event: Option<Event>,
    /// This is the answer of an earlier call with the same idempotency key.
    pub replayed: bool,
}

impl Change {
    pub(crate) fn new(
        intent: Option<v1::Intent>,
        event: Option<v1::Event>,
        replayed: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            intent: Intent::required(intent)?,
            event: event.map(Event::from_wire),
            replayed,
        })
    }
}

/// How to end an intent from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    Completed(Payload),
    Failed(Payload),
    Canceled,
}

/// Which intents. Everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IntentFilter {
    /// Intents sent to this agent; absent = the whole workspace of the key.
    pub to_agent: Option<String>,
    /// Any of these; empty = all.
    pub statuses: Vec<Status>,
    pub intent_type: Option<String>,
    pub correlation_id: Option<String>,
    /// Unix milliseconds, inclusive.
    pub created_from_ms: Option<u64>,
    /// Unix milliseconds, inclusive.
    pub created_until_ms: Option<u64>,
}

impl IntentFilter {
    pub(crate) fn into_wire(self) -> v1::IntentFilter {
        v1::IntentFilter {
            to_agent: self.to_agent.unwrap_or_default(),
            statuses: self.statuses.into_iter().map(Status::to_wire).collect(),
            intent_type: self.intent_type.unwrap_or_default(),
            correlation_id: self.correlation_id.unwrap_or_default(),
            created_from_ms: self.created_from_ms.unwrap_or_default(),
            created_until_ms: self.created_until_ms.unwrap_or_default(),
        }
    }
}

/// What a bulk cancel did, or would do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BulkCancel {
    pub results: Vec<Canceled>,
    /// The limit was reached; there may be more.
    pub more: bool,
}

/// One intent of a bulk cancel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Canceled {
    pub intent_id: String,
    /// Why this one was not canceled.
    pub error: Option<Error>,
}

/// A scenario that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Scenario {
    /// The parent; watch it to follow the scenario.
    pub intent: Intent,
    pub compile_id: String,
    /// This is the answer of an earlier call with the same idempotency key.
    pub replayed: bool,
}

/// Everything that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Validation {
    pub valid: bool,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
}
