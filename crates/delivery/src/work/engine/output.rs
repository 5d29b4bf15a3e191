//! What the engine wants done.

use super::WorkerKey;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{
    AttemptFence, AttemptLost, AttemptReceipt, FailAttempt, RedeliverIntent, StartAttempt, WorkerClosed,
    command,
};

/// An item to hand out.
#[derive(Debug, Clone, Copy)]
pub(in crate::work) struct Grant {
    pub(in crate::work) key: WorkerKey,
    pub(in crate::work) counter: u64,
    pub(in crate::work) cursor: u64,
    pub(in crate::work) intent_id: IntentId,
}

/// Why something is proposed.
#[derive(Debug, Clone, Copy)]
pub(in crate::work) enum Cause {
    /// A report that waits for its receipt.
    Finish {
        session: u64,
        nonce: u64,
        fence: AttemptFence,
    },
    /// A failed attempt; a report waits for its receipt when the worker said so itself.
    Fail {
        cursor: u64,
        receipt: Option<(u64, u64)>,
    },
    /// A fresh cursor for listeners.
    Redeliver,
    /// The time of an attempt runs.
    Start,
}

/// A command to propose as leader.
#[derive(Debug)]
pub(in crate::work) struct Proposal {
    pub(in crate::work) intent_id: IntentId,
    pub(in crate::work) cause: Cause,
    pub(in crate::work) body: command::Body,
}

impl Proposal {
    pub(super) fn fail(intent_id: IntentId, cursor: u64, receipt: Option<(u64, u64)>) -> Self {
        let body = command::Body::FailAttempt(FailAttempt {
            intent_id: intent_id.to_bytes(),
            cursor,
            push: None,
        });
        Self {
            intent_id,
            cause: Cause::Fail { cursor, receipt },
            body,
        }
    }

    pub(super) fn start(intent_id: IntentId, cursor: u64) -> Self {
        let body = command::Body::StartAttempt(StartAttempt {
            intent_id: intent_id.to_bytes(),
            cursor,
        });
        Self {
            intent_id,
            cause: Cause::Start,
            body,
        }
    }

    pub(super) fn redeliver(intent_id: IntentId, cursor: u64) -> Self {
        let body = command::Body::Redeliver(RedeliverIntent {
            intent_id: intent_id.to_bytes(),
            cursor,
        });
        Self {
            intent_id,
            cause: Cause::Redeliver,
            body,
        }
    }
}

/// Everything at once, each with the stream it goes to.
#[derive(Debug, Default)]
pub(in crate::work) struct Output {
    pub(in crate::work) grants: Vec<Grant>,
    pub(in crate::work) receipts: Vec<(u64, AttemptReceipt)>,
    pub(in crate::work) lost: Vec<(u64, AttemptLost)>,
    pub(in crate::work) closed: Vec<(u64, WorkerClosed)>,
    pub(in crate::work) proposals: Vec<Proposal>,
}

impl Output {
    pub(super) fn receipt(
        &mut self,
        (session, nonce): (u64, u64),
        result: Result<(), baton_protocol::ServiceError>,
    ) {
        let receipt = match result {
            Ok(()) => AttemptReceipt {
                nonce,
                ..AttemptReceipt::default()
            },
            Err(error) => AttemptReceipt {
                nonce,
                code: error.code.number(),
                message: error.message,
            },
        };
        self.receipts.push((session, receipt));
    }
}
