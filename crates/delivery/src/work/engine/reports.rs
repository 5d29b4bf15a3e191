//! What workers report, and what the log says to it.

use super::output::Cause;
use super::worker::{Held, Stage, Start, WorkerKey};
use super::{Engine, Proposal, is_open_at};
use crate::metrics;
use baton_protocol::limits::WORK_DELAY_MAX_MS;
use baton_protocol::proto::internal::{
    AttemptFence, AttemptReport, AttemptVerdict, FinishAttempt, Status, command,
};
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pause before the log is told again about a failed attempt.
const FAIL_RETRY: Duration = Duration::from_millis(500);

impl Engine {
    /// A worker reports on an item.
    pub(in crate::work) fn report(&mut self, session: u64, report: AttemptReport, now: Instant) {
        let key = WorkerKey {
            session,
            worker: report.worker,
        };
        let receipt = (session, report.nonce);
        let (Some(id), Some(fence)) = (IntentId::from_slice(&report.intent_id), report.fence) else {
            self.out
                .receipt(receipt, Err(invalid("intent_id or fence is missing")));
            return;
        };
        let current = self.held.get(&id).filter(|held| {
            held.fence == fence
                && held.worker == key
                && !matches!(held.stage, Stage::Failing | Stage::FailAgain)
        });
        let Some(stage) = current.map(|held| held.stage) else {
            let answer = self.past(key, id, fence);
            self.out.receipt(receipt, answer);
            return;
        };
        match report.verdict() {
            AttemptVerdict::Unspecified => {
                self.out.receipt(receipt, Err(invalid("report says nothing")));
            }
            AttemptVerdict::Progress => {
                self.renew(key, id, now);
                self.out.receipt(receipt, Ok(()));
            }
            // An end that is on its way may still fail: the worker keeps the item until it is known.
            AttemptVerdict::Nak if matches!(stage, Stage::Finishing(_)) => {
                let error = ServiceError::new(
                    ErrorCode::Conflict,
                    "an earlier report that ends this item is under way; wait for its receipt",
                );
                self.out.receipt(receipt, Err(error));
            }
            AttemptVerdict::Nak => {
                let delay = Duration::from_millis(report.delay_ms.min(WORK_DELAY_MAX_MS).into());
                if let Some(held) = self.held.get(&id).filter(|_| !delay.is_zero()) {
                    self.delays.insert((Arc::clone(&held.agent), id), now + delay);
                }
                self.fail(id, Some(receipt));
            }
            AttemptVerdict::Complete | AttemptVerdict::Fail | AttemptVerdict::Terminate => {
                self.finish(key, id, report, now);
            }
        }
    }

    fn renew(&mut self, key: WorkerKey, id: IntentId, now: Instant) {
        let lease = self.workers.get(&key).map(|w| w.lease).unwrap_or_default();
        if let Some(held) = self.held.get_mut(&id) {
            held.due = now + lease;
            if held.stage == Stage::Sent {
                held.stage = Stage::Written;
            }
        }
    }

    fn finish(&mut self, key: WorkerKey, id: IntentId, report: AttemptReport, now: Instant) {
        self.renew(key, id, now);
        let generation = self.held.get(&id).map(|held| self.generation_elsewhere(id, held));
        let (Some(held), Some(worker)) = (self.held.get_mut(&id), self.workers.get(&key)) else {
            return;
        };
        let handler_generation = match generation {
            Some(Ok(Some(generation))) => generation,
            // Its withdrawal is about to come.
            Some(Ok(None)) | None => {
                let fence = held.fence;
                let answer = match self.past(key, id, fence) {
                    Err(error) if error.code == ErrorCode::NotFound => Err(stale()),
                    answer => answer,
                };
                return self.out.receipt((key.session, report.nonce), answer);
            }
            Some(Err(error)) => return self.out.receipt((key.session, report.nonce), Err(error)),
        };
        held.stage = match held.stage {
            Stage::Finishing(n) => Stage::Finishing(n + 1),
            Stage::Sent | Stage::Written | Stage::Failing | Stage::FailAgain => Stage::Finishing(1),
        };
        let completes = report.verdict() == AttemptVerdict::Complete;
        let status = if completes {
            Status::Completed
        } else {
            Status::Failed
        };
        let body = command::Body::FinishAttempt(FinishAttempt {
            actor: Some(worker.actor.clone()),
            intent_id: report.intent_id,
            cursor: held.cursor,
            fence: Some(held.fence),
            status: status.into(),
            body: report.body,
            reason: report.reason,
            handler_generation,
            agent_key: worker.agent.to_string(),
        });
        let cause = Cause::Finish {
            session: key.session,
            nonce: report.nonce,
            fence: held.fence,
        };
        self.out.proposals.push(Proposal {
            intent_id: id,
            cause,
            body,
        });
    }

    /// What fences the end of an intent that lives in another group; 0 for one of this group. `None` when the tables have
    /// closed the delivery that the worker was given, or opened another one for the intent.
    fn generation_elsewhere(&self, id: IntentId, held: &Held) -> Result<Option<u64>, ServiceError> {
        if self.led.owns(id.slot()) {
            return Ok(Some(0));
        }
        let reference = self
            .header(id)?
            .filter(|reference| is_open_at(reference, &held.agent, held.cursor));
        Ok(reference.map(|reference| reference.handler_generation))
    }

    /// A report about an item that the worker does not hold (any more).
    fn past(&self, key: WorkerKey, id: IntentId, fence: AttemptFence) -> Result<(), ServiceError> {
        let unknown = || {
            ServiceError::new(
                ErrorCode::NotFound,
                format!("intent {id} does not exist or was not given to this worker"),
            )
        };
        let worker = self.workers.get(&key).ok_or_else(unknown)?;
        let intent = self.header(id)?.ok_or_else(unknown)?;
        let agents = [intent.handler.as_ref(), intent.to_agent.as_ref()];
        if !agents.iter().flatten().any(|a| a.key == worker.agent.as_ref()) {
            return Err(unknown());
        }
        // Fences of two groups may look alike; only one of them delivered to whoever held it last.
        let held_last = intent
            .holder()
            .is_some_and(|holder| holder.key == worker.agent.as_ref());
        if held_last && intent.finished_by == Some(fence) {
            return Ok(());
        }
        if intent.status().is_terminal() {
            return Err(ServiceError::new(
                ErrorCode::IntentTerminal,
                format!("intent is already {}", intent.status().wire_name()),
            ));
        }
        Err(stale())
    }

    /// The log has answered. `false` when this leadership cannot go on with anybody's reports.
    pub(in crate::work) fn proposed(
        &mut self,
        id: IntentId,
        cause: Cause,
        result: Result<(), ServiceError>,
        now: Instant,
    ) -> bool {
        // Said again to the next leader: the nodes keep reports until they have a receipt.
        if result.as_ref().is_err_and(|e| e.code == ErrorCode::NotLeader) {
            return false;
        }
        match cause {
            Cause::Finish {
                session,
                nonce,
                fence,
            } => {
                self.finished(id, fence, result.is_ok(), now);
                self.out.receipt((session, nonce), result);
            }
            Cause::Fail { cursor, receipt } => self.failed((id, cursor), receipt, result, now),
            // Whatever went wrong, the delivery has another cursor or is open to the next worker.
            Cause::Redeliver => {}
            Cause::Start => {
                let again = result.is_err_and(|error| error.code.retryable());
                if let Some(held) = self.held.get_mut(&id).filter(|_| again) {
                    held.start = Start::Wanted;
                }
            }
        }
        true
    }

    fn finished(&mut self, id: IntentId, fence: AttemptFence, done: bool, now: Instant) {
        let Some(held) = self.held.get_mut(&id).filter(|held| held.fence == fence) else {
            return;
        };
        if done {
            // Its withdrawal may come a moment later. From another group it takes a message: until then nobody else is
            // given what is over.
            if self.led.owns(id.slot()) {
                self.forget(id);
            } else if let Some(worker) = self.workers.get_mut(&held.worker) {
                worker.items.remove(&id);
            }
            return;
        }
        if let Stage::Finishing(n) = held.stage {
            held.stage = if n > 1 {
                Stage::Finishing(n - 1)
            } else {
                Stage::Written
            };
            let key = held.worker;
            self.renew(key, id, now);
        }
    }

    fn failed(
        &mut self,
        (id, cursor): (IntentId, u64),
        receipt: Option<(u64, u64)>,
        result: Result<(), ServiceError>,
        now: Instant,
    ) {
        let again = result
            .as_ref()
            .is_err_and(|e| e.code.retryable() || e.code == ErrorCode::Internal);
        if again {
            if let Some(held) = self.held.get_mut(&id).filter(|held| held.cursor == cursor) {
                (held.stage, held.due) = (Stage::FailAgain, now + FAIL_RETRY);
            }
        } else {
            if result.is_ok() {
                metrics::attempt("failed");
            }
            // Recorded, or refused because the delivery is another one by now.
            if self
                .held
                .get(&id)
                .is_some_and(|held| held.cursor == cursor && held.stage == Stage::Failing)
            {
                self.forget(id);
            }
        }
        if let Some(receipt) = receipt {
            // Handed back is handed back; the log is told again.
            self.out.receipt(receipt, Ok(()));
        }
    }
}

fn stale() -> ServiceError {
    ServiceError::new(
        ErrorCode::StaleAttempt,
        "this attempt is over and the item was or will be given out again; drop it",
    )
}

fn invalid(message: &str) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgument, message)
}
