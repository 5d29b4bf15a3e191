//! Creating one intent.

use baton_protocol::limits::{DELIVERY_ATTEMPTS_DEFAULT, DELIVERY_ATTEMPTS_MAX};
use baton_protocol::proto::internal::{
    AgentRef, IdempotencyClaim, KeyKind, Payload, Reminders, SubmitIntent, Submitted, command, reply,
};
use baton_protocol::{ErrorCode, ServiceError, trace};
use tracing::field::display;

use super::idempotency::{Claimed, claim, record_slot};
use super::{Caller, Failure, IdempotencyRequest, Service, invalid, unexpected};
use crate::metrics::SUBMIT_DURATION;

/// A checked request for a new intent; addresses are still text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Submit {
    pub intent_type: String,
    /// A UUID; generated when absent.
    pub correlation_id: Option<String>,
    pub from_agent: Option<String>,
    pub to_agent: Option<String>,
    pub reply_to: Option<String>,
    pub payload: Payload,
    /// Unix milliseconds; 0 = none.
    pub deadline_at_ms: u64,
    pub reminders: Option<Reminders>,
    pub max_delivery_attempts: Option<u32>,
    /// The caller's W3C traceparent, empty when none.
    pub trace_parent: String,
    pub idempotency: Option<IdempotencyRequest>,
}

/// The committed answer.
#[derive(Debug, Clone)]
pub(crate) struct SubmitReply {
    pub submitted: Submitted,
    pub replayed: bool,
}

impl Service {
    /// Commits a new intent.
    #[tracing::instrument(name = "intent.submit", skip_all, fields(intent_id, agent))]
    pub(crate) async fn submit(&self, caller: &Caller, submit: Submit) -> Result<SubmitReply, Failure> {
        let started = std::time::Instant::now();
        let to_agent = self.recipient(caller, &submit).await?;
        let request = submit.idempotency.clone();
        let claim = request.map(|r| claim(caller, &r));
        let intent_id = self.mint_intent_id(&to_agent, claim.as_ref().map(record_slot));
        let span = tracing::Span::current();
        span.record("intent_id", display(intent_id));
        span.record("agent", to_agent.address.as_str());
        let command = self.submit_command(caller, submit, to_agent).await?;
        let reply = self
            .create_once(intent_id, claim, |claimed| {
                command::Body::Submit(claimed.fill(command.clone()))
            })
            .await?;
        metrics::histogram!(SUBMIT_DURATION).record(started.elapsed().as_secs_f64());
        match reply.outcome {
            Some(reply::Outcome::Submitted(submitted)) => Ok(SubmitReply {
                submitted,
                replayed: reply.replayed,
            }),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a submitted intent").into()),
        }
    }

    /// The agent that gets the intent: named, or by the configured route of its type.
    async fn recipient(&self, caller: &Caller, submit: &Submit) -> Result<AgentRef, ServiceError> {
        let named = submit.to_agent.as_deref().or_else(|| {
            self.config
                .default_routes
                .get(&submit.intent_type)
                .map(String::as_str)
        });
        let Some(text) = named else {
            return Err(ServiceError::new(
                ErrorCode::InvalidAgentAddress,
                "to_agent is missing; name an agent address",
            ));
        };
        let agent = self.resolve_address(caller, text).await?;
        self.check_registered(&agent).await?;
        Ok(agent)
    }

    /// The command without an id and claim.
    pub(super) async fn submit_command(
        &self,
        caller: &Caller,
        submit: Submit,
        to_agent: AgentRef,
    ) -> Result<SubmitIntent, ServiceError> {
        let attempts = submit.max_delivery_attempts.unwrap_or(DELIVERY_ATTEMPTS_DEFAULT);
        if !(1..=DELIVERY_ATTEMPTS_MAX).contains(&attempts) {
            return Err(invalid(format!(
                "max_delivery_attempts must be 1 to {DELIVERY_ATTEMPTS_MAX}"
            )));
        }
        let reply_to = self.acting_for(caller, submit.reply_to.as_deref()).await?;
        let own = caller.account.address.clone();
        let from_agent = match caller.kind() {
            KeyKind::Agent | KeyKind::Unspecified => own,
            KeyKind::Workspace | KeyKind::Operator => submit.from_agent.unwrap_or(own),
        };
        let correlation_id = match submit.correlation_id {
            Some(given) => given,
            None => self.random_uuid().to_string(),
        };
        Ok(SubmitIntent {
            actor: Some(caller.actor(None, None)),
            intent_id: bytes::Bytes::new(),
            intent_type: submit.intent_type,
            correlation_id,
            from_agent,
            to_agent: Some(to_agent),
            reply_to,
            payload: Some(submit.payload),
            deadline_at_ms: submit.deadline_at_ms,
            reminders: submit.reminders,
            max_delivery_attempts: attempts,
            // What follows from the commit belongs below this call; below the caller when nothing is exported here.
            trace_parent: trace::current().unwrap_or(submit.trace_parent),
            idempotency: None::<IdempotencyClaim>,
            reserved_at_ms: 0,
        })
    }
}

impl Claimed {
    /// Completes a submit command with what the claim decided.
    pub(super) fn fill(self, command: SubmitIntent) -> SubmitIntent {
        SubmitIntent {
            intent_id: self.intent_id.to_bytes(),
            idempotency: self.claim,
            reserved_at_ms: self.reserved_at_ms,
            ..command
        }
    }
}
