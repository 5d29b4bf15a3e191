//! Creating one intent.

use baton_protocol::address::AGENT_CORE;
use baton_protocol::limits::{DELIVERY_ATTEMPTS_DEFAULT, DELIVERY_ATTEMPTS_MAX};
use baton_protocol::proto::internal::{
    AgentRef, HumanTask, IdempotencyClaim, KeyKind, Payload, Reminders, SubmitIntent, Submitted, command,
    reply,
};
use baton_protocol::{ErrorCode, ServiceError, trace};
use tracing::field::display;

use super::end_notice::{AskedForEnd, EndNotice};
use super::idempotency::{Claimed, claim, recipient_claim, record_slot};
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
    /// The intent waits for this person's answer.
    pub human_task: Option<HumanTask>,
    /// The caller's W3C traceparent, empty when none.
    pub trace_parent: String,
    pub idempotency: Option<IdempotencyRequest>,
    /// The idempotency key is one per recipient: always one commit.
    pub key_per_recipient: bool,
    /// Where to say that the intent has ended.
    pub end_notice: Option<EndNotice>,
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
        let claim = submit.idempotency.as_ref().map(|request| {
            if submit.key_per_recipient {
                recipient_claim(caller, request, &to_agent)
            } else {
                claim(caller, request)
            }
        });
        let intent_id = self.mint_intent_id(&to_agent, claim.as_ref().map(record_slot));
        let span = tracing::Span::current();
        span.record("intent_id", display(intent_id));
        span.record("agent", to_agent.address.as_str());
        let end_notice = submit.end_notice.clone();
        let command = self.submit_command(caller, submit, to_agent).await?;
        // Asked for before the intent exists, so that no end is missed.
        let notice = end_notice.map(|notice| AskedForEnd::ask(self, intent_id, notice));
        let reply = self
            .create_once(intent_id, claim, |claimed| {
                command::Body::Submit(claimed.fill(command.clone()))
            })
            .await?;
        metrics::histogram!(SUBMIT_DURATION).record(started.elapsed().as_secs_f64());
        if let (Some(notice), Some(reply::Outcome::Submitted(submitted))) = (notice, &reply.outcome) {
            notice.settle(caller, &submitted.intent_id, reply.replayed).await;
        }
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
        let asks = submit.human_task.as_ref().map(|_| AGENT_CORE);
        let Some(text) = named.or(asks) else {
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
        self.check_payload(caller, &submit.intent_type, &submit.payload)
            .await?;
        let reply_to = self.acting_for(caller, submit.reply_to.as_deref()).await?;
        let escalate_to = submit.reminders.as_ref().map_or("", |r| &r.escalate_to);
        let escalate_agent = self.escalation_agent(caller, escalate_to).await?;
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
            human_task: submit.human_task,
            escalate_agent,
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

/// Dotted lower-case segments; `versioned` demands a last one such as `v1`.
pub(crate) fn is_intent_type(text: &str, versioned: bool) -> bool {
    let word = |s: &str| {
        !s.is_empty()
            && s.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    let version = |s: &str| {
        s.strip_prefix('v')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    text.split('.').all(word) && (!versioned || text.rsplit_once('.').is_some_and(|(_, last)| version(last)))
}

#[cfg(test)]
mod tests {
    use super::is_intent_type;

    #[test]
    fn intent_types_have_segments_and_a_version() {
        for good in ["notify.message.v1", "task.v1", "a_b.c1.v12"] {
            assert!(is_intent_type(good, true), "{good}");
        }
        for bad in ["", "task", "v1", "Task.v1", "a..v1", "a.v", "a b.v1", "a.v1.x"] {
            assert!(!is_intent_type(bad, true), "{bad}");
        }
        assert!(is_intent_type("deploy.change", false));
        assert!(!is_intent_type("deploy change", false));
    }
}
