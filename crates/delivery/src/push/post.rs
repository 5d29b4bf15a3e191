//! One attempt: the post, and the command that says what it came to.

use super::Push;
use super::client::Outcome;
use super::directory::Endpoint;
use super::ladder::delay_ms;
use super::shares::Share;
use super::sign;
use crate::backoff::Backoff;
use crate::metrics;
use crate::ports::{LedGroup, Network};
use baton_protocol::proto::internal::{
    AcknowledgeAttempt, DisableCallback, FailAttempt, Intent, Payload, PushReport, RecordReplay, command,
    reply,
};
use baton_protocol::{DeliveryId, ErrorCode, FeedItem, Route, ServiceError, trace};
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, warn};

/// First and longest pause before the log is told again.
const REPORT_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// One delivery to post.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: DeliveryId,
    /// Fence of an intent's own delivery.
    pub(super) cursor: u64,
    pub(super) intent: Intent,
    pub(super) payload: Option<Payload>,
    /// 1 for the first.
    pub(super) attempt: u32,
}

/// What an attempt says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Bad {
        retry_after: Option<Duration>,
    },
    /// Nothing was posted.
    Unknown,
}

/// One attempt under way.
pub(super) struct Attempt {
    pub(super) push: Arc<Push>,
    pub(super) led: Arc<dyn LedGroup>,
    pub(super) network: Arc<dyn Network>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) job: Job,
}

impl Attempt {
    /// Posts, lets go of `slot`, and returns when the log knows.
    pub(super) async fn run(self, slot: (OwnedSemaphorePermit, Share)) -> Health {
        let span = debug_span!(
            "attempt.push",
            group_id = self.led.group_id().0,
            intent_id = %self.job.id.intent_id,
            agent = self.endpoint.agent.address,
            attempt = self.job.attempt
        );
        trace::caused_by(&span, [self.job.intent.trace_parent.as_str()]);
        self.post_and_report(slot).instrument(span).await
    }

    async fn post_and_report(self, slot: (OwnedSemaphorePermit, Share)) -> Health {
        if !self.led.is_leader() {
            return Health::Unknown;
        }
        let begun = Instant::now();
        let outcome = {
            let _in_flight = metrics::push_begins();
            let (headers, body) = self.message();
            let now_ms = self.led.now_ms();
            self.push
                .client
                .post(&self.endpoint.url, headers, body, now_ms)
                .await
        };
        drop(slot);
        metrics::pushed(label(&outcome), begun.elapsed());
        debug!(?outcome, "delivery was posted");
        if self.report(&outcome).await
            && matches!(&outcome, Outcome::Answered { status, .. } if *status == StatusCode::GONE.as_u16())
        {
            self.disable().await;
        }
        match outcome {
            Outcome::Answered { status, .. } if is_success(status) => Health::Good,
            Outcome::Answered { retry_after, .. } => Health::Bad { retry_after },
            Outcome::Failed(_) => Health::Bad { retry_after: None },
        }
    }

    fn message(&self) -> (HeaderMap, bytes::Bytes) {
        let job = &self.job;
        let item = FeedItem {
            cursor: job.cursor,
            intent: Box::new(job.intent.clone()),
            payload: job.payload.clone(),
            attempt: job.attempt,
        };
        let id = job.id.to_string();
        let body = self.push.body.render(&item, &id, job.id.replay > 0);
        let now_ms = self.led.now_ms();
        let signed_at = (now_ms / 1_000).to_string();
        let message_id = message_id(&job.intent, job.id);
        let mut headers = sign::headers(&self.endpoint.keys, &message_id, now_ms, &body);
        sign::put(&mut headers, "x-axme-delivery-id", &id);
        sign::put(&mut headers, "x-axme-timestamp", &signed_at);
        if !job.intent.trace_parent.is_empty() {
            sign::put(&mut headers, "traceparent", &job.intent.trace_parent);
        }
        (headers, body)
    }

    /// Tells the log, however long that takes, as long as this node leads. Whether it knows.
    async fn report(&self, outcome: &Outcome) -> bool {
        let body = self.command(outcome);
        let mut backoff = Backoff::new(REPORT_RETRY.0, REPORT_RETRY.1);
        while self.led.is_leader() {
            match self.led.propose(body.clone()).await.map(|reply| reply.outcome) {
                Ok(Some(reply::Outcome::Rejected(rejection))) => {
                    let error = ServiceError::from(rejection);
                    if is_final(error.code) {
                        debug!(%error, "the delivery is another one by now");
                        return true;
                    }
                    debug!(%error, "the log did not take what a push came to");
                }
                Ok(_) => return true,
                Err(error) => debug!(%error, "the log cannot be told what a push came to"),
            }
            tokio::time::sleep(backoff.step()).await;
        }
        false
    }

    fn command(&self, outcome: &Outcome) -> command::Body {
        let job = &self.job;
        let (status, error, retry_after) = match outcome {
            Outcome::Answered { status, retry_after } if is_success(*status) => {
                (*status, String::new(), *retry_after)
            }
            Outcome::Answered { status, retry_after } => {
                (*status, format!("the endpoint answered {status}"), *retry_after)
            }
            Outcome::Failed(failure) => (0, failure.text(), None),
        };
        let limits = job.intent.limits.unwrap_or_default();
        let own = limits.retry_schedule_ms();
        let schedule_ms = own
            .as_ref()
            .map_or(&self.push.settings.retry_schedule_ms[..], |own| own);
        let push = Some(PushReport {
            agent: Some(self.endpoint.agent.clone()),
            service_account_id: self.endpoint.service_account_id.clone(),
            url: self.endpoint.url_text.clone(),
            status: u32::from(status),
            error,
            delay_ms: delay_ms(schedule_ms, job.id.intent_id, job.attempt, retry_after),
        });
        let taken = is_success(status);
        let intent_id = job.id.intent_id.to_bytes();
        let cursor = job.cursor;
        if job.id.replay > 0 {
            command::Body::RecordReplay(RecordReplay {
                delivery: Some(job.id.to_key()),
                attempt: job.attempt,
                delivered: taken,
                push,
            })
        } else if taken {
            command::Body::AcknowledgeAttempt(AcknowledgeAttempt {
                intent_id,
                cursor,
                push,
            })
        } else {
            command::Body::FailAttempt(FailAttempt {
                intent_id,
                cursor,
                push,
            })
        }
    }

    /// The endpoint is gone for good: its account says so, and nothing is posted any more.
    async fn disable(&self) {
        let body = command::Body::DisableCallback(DisableCallback {
            service_account_id: self.endpoint.service_account_id.clone(),
            callback_url: self.endpoint.url_text.clone(),
            reason: "the endpoint answered 410 Gone".into(),
        });
        // The next 410 tries again.
        if let Err(error) = self.network.propose(Route::Meta, body).await {
            warn!(%error, agent = self.endpoint.agent.address, "an endpoint that is gone could not be disabled");
        }
    }
}

/// What receivers recognise repeats by. An intent that comes back to an agent after a transfer is news, though its record is
/// the one it had there before.
fn message_id(intent: &Intent, id: DeliveryId) -> String {
    if id.replay > 0 || intent.handler_generation == 0 {
        return id.to_string();
    }
    format!("{id}-{}", intent.handler_generation)
}

/// Whether a refusal stays one: the delivery is over or another one, or nobody knows the command. Anything else may go
/// through when it is said again.
fn is_final(code: ErrorCode) -> bool {
    !code.retryable() && !matches!(code, ErrorCode::CommandExpired | ErrorCode::Internal)
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered {
            status: 200..=299, ..
        } => "delivered",
        Outcome::Answered {
            status: 300..=399, ..
        } => "redirect",
        Outcome::Answered { status: 429, .. } => "throttled",
        Outcome::Answered {
            status: 400..=499, ..
        } => "refused",
        Outcome::Answered { .. } => "server_error",
        Outcome::Failed(failure) => failure.label(),
    }
}

/// Every label of an attempt's outcome.
pub(crate) const OUTCOMES: [&str; 11] = [
    "delivered",
    "redirect",
    "throttled",
    "refused",
    "server_error",
    "blocked",
    "resolve",
    "connect",
    "tls",
    "timeout",
    "broken",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_that_comes_back_is_news() {
        let intent_id = baton_protocol::IntentId::new(1, baton_protocol::Slot::from_bits(3), 7);
        let id = DeliveryId::new(intent_id, "agent");
        let at = |handler_generation| Intent {
            handler_generation,
            ..Intent::default()
        };
        assert_eq!(message_id(&at(0), id), id.to_string());
        assert_ne!(message_id(&at(2), id), message_id(&at(0), id));
        assert_eq!(message_id(&at(2), id.replayed(1)), id.replayed(1).to_string());
    }

    #[test]
    fn what_may_go_through_later_is_said_again() {
        for code in [
            ErrorCode::StaleAttempt,
            ErrorCode::NotFound,
            ErrorCode::IntentTerminal,
        ] {
            assert!(is_final(code), "{code:?}");
        }
        for code in [
            ErrorCode::BacklogFull,
            ErrorCode::CommandExpired,
            ErrorCode::Unavailable,
            ErrorCode::Internal,
        ] {
            assert!(!is_final(code), "{code:?}");
        }
    }
}
