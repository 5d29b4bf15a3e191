//! Submitting intents: one, many, or a stream of them.

mod batch;
mod driver;
mod pending;
mod pipeline;

pub use pipeline::{Ended, Ending, IN_FLIGHT_MAX, Submitter, SubmitterBuilder, Ticket};

use crate::client::{Safety, unary};
use crate::types::{HumanTask, Payload, Receipt, Reminders};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an idempotency key is unique within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyScope {
    /// The caller and the recipient: always one commit.
    #[default]
    Recipient,
    /// The caller, as on the HTTP surface: the same key with another recipient is a conflict. May take two commits
    /// more.
    Caller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    None,
    AtMs(u64),
    After(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// Drawn when it is submitted, and kept over all tries.
    Drawn,
    Given(String),
    /// Not deduplicated, so not repeated when the outcome of a try is unknown.
    None,
}

/// A new intent.
///
/// ```
/// use baton_client::Submit;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), baton_client::Error> {
/// let submit = Submit::new("agent://acme/prod/payment", "intent.payment.process.v1")
///     .json(&serde_json::json!({"order_id": "ORD-8842"}))?
///     .key("ORD-8842")
///     .deadline_in(Duration::from_secs(300));
/// # drop(submit); Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is not sent before it is submitted"]
pub struct Submit {
    spec: v1::IntentSpec,
    deadline: Deadline,
    key: Key,
}

impl Submit {
    /// An intent of this type for this agent, with an empty JSON object as payload.
    pub fn new(to_agent: impl Into<String>, intent_type: impl Into<String>) -> Self {
        Self {
            spec: v1::IntentSpec {
                to_agent: to_agent.into(),
                intent_type: intent_type.into(),
                payload: Some(Payload::from(()).into_wire()),
                idempotency_scope: v1::IdempotencyScope::Recipient.into(),
                ..v1::IntentSpec::default()
            },
            deadline: Deadline::None,
            key: Key::Drawn,
        }
    }

    /// The payload, as JSON.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn json(self, value: &impl Serialize) -> Result<Self, Error> {
        let payload = Payload::json(value)
            .map_err(|error| Error::Invalid(format!("the payload has no JSON form: {error}")))?;
        Ok(self.payload(payload))
    }

    /// The payload.
    pub fn payload(mut self, payload: impl Into<Payload>) -> Self {
        self.spec.payload = Some(payload.into().into_wire());
        self
    }

    /// The idempotency key: however often it is submitted with it, there is one intent. Without a call of this, a
    /// key is drawn, which covers the repetitions of one submit.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Key::Given(key.into());
        self
    }

    /// No deduplication. A try with an unknown outcome is then not repeated.
    pub fn without_key(mut self) -> Self {
        self.key = Key::None;
        self
    }

    /// What the key is unique within.
    pub fn key_scope(mut self, scope: KeyScope) -> Self {
        let scope = match scope {
            KeyScope::Recipient => v1::IdempotencyScope::Recipient,
            KeyScope::Caller => v1::IdempotencyScope::Caller,
        };
        self.spec.idempotency_scope = scope.into();
        self
    }

    /// TIMED_OUT unless it has ended by then. Counted from the submit, with this machine's clock.
    pub fn deadline_in(mut self, time: Duration) -> Self {
        self.deadline = Deadline::After(time);
        self
    }

    /// TIMED_OUT unless it has ended by then, unix milliseconds.
    pub fn deadline_at_ms(mut self, at_ms: u64) -> Self {
        self.deadline = Deadline::AtMs(at_ms);
        self
    }

    /// A UUID that ties intents together; drawn by the server when absent.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.spec.correlation_id = id.into();
        self
    }

    /// The sender's address; the key's own when absent.
    pub fn from_agent(mut self, address: impl Into<String>) -> Self {
        self.spec.from_agent = address.into();
        self
    }

    /// Who is told the result, by an intent of its own.
    pub fn reply_to(mut self, address: impl Into<String>) -> Self {
        self.spec.reply_to = address.into();
        self
    }

    /// Attempts at delivery before it is FAILED.
    pub fn max_delivery_attempts(mut self, attempts: u32) -> Self {
        self.spec.max_delivery_attempts = attempts;
        self
    }

    /// The W3C traceparent that the receiver gets; that of the client's source when absent.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.spec.traceparent = traceparent.into();
        self
    }

    /// Asks a person: the intent waits for the answer. The recipient may then be empty.
    ///
    /// # Errors
    /// A type of task that does not exist.
    pub fn human_task(mut self, task: HumanTask) -> Result<Self, Error> {
        let named = task.task_type.clone().unwrap_or_default();
        let wire = task.into_wire();
        self.spec.human_task =
            Some(wire.ok_or_else(|| Error::Invalid(format!("{named} is no type of task")))?);
        Ok(self)
    }

    /// Reminders while it waits, and whom to call in at last.
    pub fn reminders(mut self, reminders: Reminders) -> Self {
        self.spec.reminders = Some(reminders.into_wire());
        self
    }

    /// The message, with a key and the deadline fixed: it stays the same over all tries.
    fn into_spec(self, client: &Client) -> v1::IntentSpec {
        let mut spec = self.spec;
        spec.idempotency_key = match self.key {
            Key::Drawn => draw_key(),
            Key::Given(key) => key,
            Key::None => String::new(),
        };
        spec.deadline_at_ms = match self.deadline {
            Deadline::None => 0,
            Deadline::AtMs(at_ms) => at_ms,
            Deadline::After(time) => unix_ms(SystemTime::now()).saturating_add(as_ms(time)),
        };
        if spec.traceparent.is_empty() {
            spec.traceparent = client.current_trace().unwrap_or_default();
        }
        spec
    }
}

/// A key for one write and its repetitions.
pub(crate) fn draw_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn safety(spec: &v1::IntentSpec) -> Safety {
    if spec.idempotency_key.is_empty() {
        Safety::Once
    } else {
        Safety::Repeatable
    }
}

fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms(time: SystemTime) -> u64 {
    as_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Client {
    /// Submits one intent. When it returns, a majority of the nodes has it on disk. For many, use
    /// [`submitter`](Self::submitter).
    ///
    /// # Errors
    /// Refusals, and what remains after the repetitions.
    pub async fn submit(&self, submit: Submit) -> Result<Receipt, Error> {
        let spec = submit.into_spec(self);
        let safety = safety(&spec);
        let agent = spec.to_agent.clone();
        let agent = (!agent.is_empty()).then_some(agent.as_str());
        let request = v1::SubmitRequest { intent: Some(spec) };
        let answer = unary!(self, safety, agent, IntentServiceClient.submit(request))?;
        answer
            .receipt
            .map(Receipt::from_wire)
            .ok_or_else(|| Error::Unexpected("the receipt is missing".into()))
    }
}
