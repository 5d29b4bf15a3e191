//! Decisions by yes or no.

use baton_protocol::proto::internal::{IdempotencyClaim, IntentView, ReserveIdempotency, command, reply};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError};
use sha2::{Digest, Sha256};

use super::idempotency::record_slot;
use super::{Caller, Change, Failure, Service, unexpected};
use crate::forms::{HandedIn, is_positive_decision};

/// A decision.
#[derive(Debug, Clone)]
pub(crate) struct Approval {
    pub approval_id: uuid::Uuid,
    pub approve: bool,
    pub comment: String,
}

/// A decision that is recorded.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub comment: String,
    pub decided_at_ms: u64,
}

impl Service {
    /// Decides. An id of an intent with a human task answers that task; any other id is remembered with its decision.
    /// Deciding the same again is answered the same; deciding otherwise is a conflict.
    pub(crate) async fn decide(
        &self,
        caller: &Caller,
        approval: Approval,
        change: Change,
    ) -> Result<Decided, Failure> {
        let id = IntentId::from_slice(approval.approval_id.as_bytes());
        let view = match id {
            Some(id) => match self.get_intent(caller, id, false).await {
                Ok(view) => Some((id, view)),
                Err(error) if error.code == ErrorCode::NotFound => None,
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        match view {
            Some((id, view)) if view.gate.is_some() => {
                self.decide_task(caller, id, &view, approval, change).await
            }
            _ => self.remember(caller, approval).await,
        }
    }

    async fn decide_task(
        &self,
        caller: &Caller,
        id: IntentId,
        view: &IntentView,
        approval: Approval,
        change: Change,
    ) -> Result<Decided, Failure> {
        let gate = view.gate.clone().unwrap_or_default();
        if let Some(answer) = &gate.answer {
            return if is_positive_decision(&answer.outcome) == approval.approve {
                Ok(Decided {
                    comment: answer.comment.clone(),
                    decided_at_ms: answer.at_ms,
                })
            } else {
                Err(decided_otherwise().into())
            };
        }
        let task = gate.task.unwrap_or_default();
        let handed_in = HandedIn::decision(&task, approval.approve, &approval.comment)?;
        let done = self.answer_seen(caller, id, view, handed_in, change).await?;
        Ok(Decided {
            comment: approval.comment,
            decided_at_ms: done.reply.intent.map_or(0, |intent| intent.updated_at_ms),
        })
    }

    /// Nothing waits for this decision here; it is kept as long as an idempotency record, so that another one conflicts.
    async fn remember(&self, caller: &Caller, approval: Approval) -> Result<Decided, Failure> {
        let mut key = Sha256::new();
        key.update(b"approval of ");
        key.update(caller.scope.workspace_id.as_bytes());
        key.update(approval.approval_id.as_bytes());
        let claim = IdempotencyClaim {
            key_hash: key.finalize().to_vec().into(),
            request_hash: vec![u8::from(approval.approve)].into(),
            in_intent_slot: false,
        };
        let slot = record_slot(&claim);
        let reserve = command::Body::Reserve(ReserveIdempotency {
            claim: Some(claim),
            intent_id: IntentId::new(0, slot, 0).to_bytes(),
        });
        let reply = self.ports.proposer.propose(Route::Slot(slot), reserve).await?;
        match reply.outcome {
            Some(reply::Outcome::Reserved(reserved)) => Ok(Decided {
                comment: approval.comment,
                decided_at_ms: reserved.reserved_at_ms,
            }),
            Some(reply::Outcome::Rejected(rejection)) => {
                let error = ServiceError::from(rejection);
                if error.code == ErrorCode::IdempotencyConflict {
                    return Err(decided_otherwise().into());
                }
                Err(error.into())
            }
            _ => Err(unexpected("something else than a reservation").into()),
        }
    }
}

fn decided_otherwise() -> ServiceError {
    ServiceError::new(ErrorCode::Conflict, "this approval was decided otherwise before")
}
