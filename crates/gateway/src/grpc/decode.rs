//! Requests as the service's types, checked field by field.

use baton_protocol::limits::{
    ADDRESS_CHARS_MAX, BODY_BYTES_MAX, IDEMPOTENCY_KEY_CHARS_MAX, REASON_CHARS_MAX, WAITS_FOR_CHARS_MAX,
};
use baton_protocol::proto::internal::{Payload, Status};
use baton_protocol::proto::v1;
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use sha2::{Digest as _, Sha256};

use super::human_task::{decode_reminders, decode_task};
use super::method::SUBMIT;
use crate::forms::HandedIn;
use crate::http::parse_members;
use crate::service::{
    Change, IdempotencyRequest, IntentFilter, Resolve, Resume, ResumeKind, Submit, is_intent_type,
};

/// `intent_type` and `content_type`.
const TYPE_CHARS_MAX: usize = 255;

pub(super) fn invalid(field: &'static str, message: impl std::fmt::Display) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgument, format!("{field} {message}")).in_field(field)
}

/// What a client left out.
pub(super) fn missing(field: &'static str) -> ServiceError {
    invalid(field, "is required")
}

/// A text within its length; empty reads as absent.
pub(super) fn text(
    value: String,
    field: &'static str,
    chars_max: usize,
) -> Result<Option<String>, ServiceError> {
    // Most texts have fewer bytes than they may have characters.
    if value.len() > chars_max && value.chars().count() > chars_max {
        return Err(invalid(field, format!("is longer than {chars_max} characters")));
    }
    Ok(Some(value).filter(|v| !v.is_empty()))
}

/// An agent address, resolved later.
pub(super) fn address(value: String, field: &'static str) -> Result<Option<String>, ServiceError> {
    text(value, field, ADDRESS_CHARS_MAX)
}

/// An id. What is no UUID cannot exist.
pub(super) fn intent_id(text: &str) -> Result<IntentId, ServiceError> {
    if text.is_empty() {
        return Err(missing("intent_id"));
    }
    IntentId::parse(text).ok_or_else(|| {
        let clipped: String = text.chars().take(64).collect();
        ServiceError::new(
            ErrorCode::NotFound,
            format!("{clipped} is not an id of this server"),
        )
    })
}

pub(super) fn payload(given: v1::Payload, field: &'static str) -> Result<Payload, ServiceError> {
    if given.data.len() > BODY_BYTES_MAX {
        let message = format!("{field} is larger than {BODY_BYTES_MAX} bytes");
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, message).in_field(field));
    }
    Ok(Payload {
        data: given.data,
        content_type: text(given.content_type, field, TYPE_CHARS_MAX)?.unwrap_or_default(),
    })
}

/// A new intent. `trace_parent` is the call's own, for intents that bring none.
pub(super) fn submit(spec: Option<v1::IntentSpec>, trace_parent: &str) -> Result<Submit, ServiceError> {
    let spec = spec.ok_or_else(|| missing("intent"))?;
    let idempotency = if spec.idempotency_key.is_empty() {
        None
    } else {
        Some(submit_key(&spec)?)
    };
    let key_per_recipient = spec.idempotency_scope() == v1::IdempotencyScope::Recipient;
    let intent_type = text(spec.intent_type, "intent_type", TYPE_CHARS_MAX)?;
    let intent_type = intent_type.ok_or_else(|| missing("intent_type"))?;
    if !is_intent_type(&intent_type, true) {
        let message = "intent_type must look like order.created.v1: lower case segments and a version";
        return Err(ServiceError::new(ErrorCode::SchemaInvalid, message).in_field("intent_type"));
    }
    let correlation_id = text(spec.correlation_id, "correlation_id", TYPE_CHARS_MAX)?;
    if correlation_id
        .as_ref()
        .is_some_and(|c| uuid::Uuid::try_parse(c).is_err())
    {
        return Err(invalid("correlation_id", "must be a UUID"));
    }
    let human_task = spec.human_task.map(|task| decode_task(task, &intent_type));
    let human_task = human_task.transpose()?;
    let reminders = decode_reminders(spec.reminders.unwrap_or_default())?;
    let trace_parent = match spec.traceparent.as_str() {
        "" => trace_parent.to_owned(),
        given if baton_protocol::trace::parse(given).is_some() => spec.traceparent,
        _ => return Err(invalid("traceparent", "is no W3C traceparent")),
    };
    Ok(Submit {
        intent_type,
        correlation_id,
        from_agent: address(spec.from_agent, "from_agent")?,
        to_agent: address(spec.to_agent, "to_agent")?,
        reply_to: address(spec.reply_to, "reply_to")?,
        payload: payload(spec.payload.unwrap_or_default(), "payload")?,
        deadline_at_ms: spec.deadline_at_ms,
        reminders,
        human_task,
        max_delivery_attempts: Some(spec.max_delivery_attempts).filter(|n| *n != 0),
        trace_parent,
        idempotency,
        key_per_recipient,
        end_notice: None,
    })
}

fn submit_key(spec: &v1::IntentSpec) -> Result<IdempotencyRequest, ServiceError> {
    let payload = spec.payload.as_ref();
    let hash = Fingerprint::default()
        .text(&spec.intent_type)
        .text(&spec.to_agent)
        .payload(payload)
        .text(&spec.correlation_id)
        .text(&spec.from_agent)
        .text(&spec.reply_to)
        .number(spec.deadline_at_ms)
        .number(spec.max_delivery_attempts.into())
        .added(1, spec.human_task.as_ref())
        .added(2, spec.reminders.as_ref());
    key(spec.idempotency_key.clone(), SUBMIT.to_owned(), hash)
}

/// The key of a call, when it brings one.
pub(super) fn optional_key(
    text: String,
    endpoint: String,
    hash: Fingerprint,
) -> Result<Option<IdempotencyRequest>, ServiceError> {
    if text.is_empty() {
        return Ok(None);
    }
    key(text, endpoint, hash).map(Some)
}

fn key(key: String, endpoint: String, hash: Fingerprint) -> Result<IdempotencyRequest, ServiceError> {
    let field = "idempotency_key";
    let key = text(key, field, IDEMPOTENCY_KEY_CHARS_MAX)?.ok_or_else(|| missing(field))?;
    Ok(IdempotencyRequest {
        key,
        endpoint,
        request_hash: hash.0.finalize().into(),
    })
}

/// Which request a key stands for: the hash of its fields, each with its length.
#[derive(Default)]
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn optional(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    /// A part that older requests do not know: without it they keep the hash they had. `part` tells it from others,
    /// whose bytes may be the same.
    fn added(self, part: u64, message: Option<&impl prost::Message>) -> Self {
        match message {
            Some(message) => self.number(part).bytes(&message.encode_to_vec()),
            None => self,
        }
    }

    fn payload(self, payload: Option<&v1::Payload>) -> Self {
        match payload {
            Some(payload) => self.number(1).bytes(&payload.data).text(&payload.content_type),
            None => self.number(0),
        }
    }
}

/// What every change of an intent carries beside its own fields.
struct Common {
    intent_id: String,
    reason: String,
    idempotency_key: String,
    expected_policy_generation: Option<u64>,
}

fn change(method: &str, common: Common, hash: Fingerprint) -> Result<(IntentId, Change), ServiceError> {
    let id = intent_id(&common.intent_id)?;
    let generation = common
        .expected_policy_generation
        .map_or(0, |g| g.saturating_add(1));
    let hash = hash.text(&common.reason).number(generation);
    let endpoint = format!("baton.v1.IntentService/{method} {id}");
    let idempotency = optional_key(common.idempotency_key, endpoint, hash)?;
    let change = Change {
        reason: text(common.reason, "reason", REASON_CHARS_MAX)?.unwrap_or_default(),
        expected_policy_generation: common.expected_policy_generation,
        idempotency,
        ..Change::default()
    };
    Ok((id, change))
}

pub(super) fn resolve(request: v1::ResolveRequest) -> Result<(IntentId, Resolve, Change), ServiceError> {
    let status = match request.status() {
        v1::Status::Completed => Status::Completed,
        v1::Status::Failed => Status::Failed,
        v1::Status::Canceled => Status::Canceled,
        v1::Status::Unspecified
        | v1::Status::Created
        | v1::Status::Submitted
        | v1::Status::Delivered
        | v1::Status::Acknowledged
        | v1::Status::InProgress
        | v1::Status::Waiting
        | v1::Status::TimedOut => return Err(invalid("status", "must be COMPLETED, FAILED or CANCELED")),
    };
    let hash = Fingerprint::default()
        .text(status.wire_name())
        .payload(request.result.as_ref())
        .payload(request.error.as_ref());
    let common = Common {
        intent_id: request.intent_id,
        reason: request.reason,
        idempotency_key: request.idempotency_key,
        expected_policy_generation: request.expected_policy_generation,
    };
    let (id, change) = change("Resolve", common, hash)?;
    let resolve = Resolve {
        status,
        result: request.result.map(|p| payload(p, "result")).transpose()?,
        error: request.error.map(|p| payload(p, "error")).transpose()?,
    };
    Ok((id, resolve, change))
}

/// What a resume asks for.
pub(super) enum Continue {
    Resume(Resume),
    Answer(HandedIn),
}

pub(super) fn resume(request: v1::ResumeRequest) -> Result<(IntentId, Continue, Change), ServiceError> {
    use v1::resume_request::Action;
    let action = request.action.ok_or_else(|| missing("action"))?;
    let hash = match &action {
        Action::Result(result) => Fingerprint::default().text("result").payload(Some(result)),
        Action::Error(error) => Fingerprint::default().text("error").payload(Some(error)),
        Action::Approve(approve) => Fingerprint::default().text("approve").number((*approve).into()),
        Action::NextHandler(next) => Fingerprint::default().text("next_handler").text(next),
        Action::WaitForTool(tool) => Fingerprint::default().text("wait_for_tool").text(tool),
        Action::TaskResult(answer) => Fingerprint::default().text("task_result").payload(Some(answer)),
    };
    let common = Common {
        intent_id: request.intent_id,
        reason: request.reason,
        idempotency_key: request.idempotency_key,
        expected_policy_generation: request.expected_policy_generation,
    };
    let (id, change) = change("Resume", common, hash)?;
    let (kind, next_handler) = match action {
        Action::Result(body) => (result_of(body, "result", false)?, None),
        Action::Error(body) => (result_of(body, "error", true)?, None),
        Action::Approve(approve) => (ResumeKind::Control { approve }, None),
        Action::NextHandler(next) => {
            let next = address(next, "next_handler")?.ok_or_else(|| missing("next_handler"))?;
            (ResumeKind::Control { approve: true }, Some(next))
        }
        Action::WaitForTool(tool) => {
            let tool = text(tool, "wait_for_tool", WAITS_FOR_CHARS_MAX)?.unwrap_or_default();
            (ResumeKind::Wait { tool }, None)
        }
        Action::TaskResult(answer) => {
            let members = parse_members(&payload(answer, "task_result")?.data)?;
            return Ok((id, Continue::Answer(HandedIn { members }), change));
        }
    };
    Ok((id, Continue::Resume(Resume { kind, next_handler }), change))
}

fn result_of(body: v1::Payload, field: &'static str, fail: bool) -> Result<ResumeKind, ServiceError> {
    Ok(ResumeKind::Result {
        body: payload(body, field)?,
        fail,
    })
}

pub(super) fn cancel(request: v1::CancelRequest) -> Result<(IntentId, Resolve, Change), ServiceError> {
    let common = Common {
        intent_id: request.intent_id,
        reason: request.reason,
        idempotency_key: request.idempotency_key,
        expected_policy_generation: None,
    };
    let (id, change) = change("Cancel", common, Fingerprint::default())?;
    Ok((id, Resolve::canceled(), change))
}

/// How an agent wants its deliveries; empty = the default.
pub(super) fn delivery_mode(mode: String) -> Result<String, ServiceError> {
    const MODES: [&str; 6] = ["", "stream", "poll", "http", "inbox", "internal"];
    if MODES.contains(&mode.as_str()) {
        Ok(mode)
    } else {
        Err(invalid(
            "delivery_mode",
            "must be stream, poll, http, inbox or internal",
        ))
    }
}

/// The key of a scenario; the bundle counts as its bytes.
pub(super) fn scenario_key(text: String, bundle: &[u8]) -> Result<Option<IdempotencyRequest>, ServiceError> {
    let endpoint = "baton.v1.ScenarioService/ApplyScenario".to_owned();
    optional_key(text, endpoint, Fingerprint::default().bytes(bundle))
}

/// The keys of a registration's two steps, the account and its API key. Each step has a record of its own.
pub(super) fn registration_keys(
    request: &v1::RegisterAgentRequest,
) -> Result<Option<(IdempotencyRequest, IdempotencyRequest)>, ServiceError> {
    if request.idempotency_key.is_empty() {
        return Ok(None);
    }
    let hash = Fingerprint::default()
        .text(&request.name)
        .text(&request.display_name)
        .text(&request.delivery_mode)
        .number(request.create_key.into());
    let hash = if request.callback_url.is_empty() && request.callback_secret.is_empty() {
        hash
    } else {
        hash.text(&request.callback_url).text(&request.callback_secret)
    };
    let endpoint = "baton.v1.AgentService/RegisterAgent".to_owned();
    let account = key(request.idempotency_key.clone(), endpoint, hash)?;
    let api_key = IdempotencyRequest {
        endpoint: format!("{} api_key", account.endpoint),
        ..account.clone()
    };
    Ok(Some((account, api_key)))
}

/// Which intents a list or a bulk change is about.
pub(super) fn filter(filter: v1::IntentFilter) -> Result<IntentFilter, ServiceError> {
    let mut statuses = Vec::with_capacity(filter.statuses.len());
    for number in filter.statuses {
        match Status::try_from(number) {
            Ok(Status::Unspecified) | Err(_) => {
                return Err(invalid("filter.statuses", "names no lifecycle status"));
            }
            Ok(status) if statuses.contains(&status) => {}
            Ok(status) => statuses.push(status),
        }
    }
    Ok(IntentFilter {
        to_agent: address(filter.to_agent, "filter.to_agent")?,
        statuses,
        intent_type: text(filter.intent_type, "filter.intent_type", TYPE_CHARS_MAX)?.unwrap_or_default(),
        correlation_id: text(filter.correlation_id, "filter.correlation_id", TYPE_CHARS_MAX)?
            .unwrap_or_default(),
        created_from_ms: filter.created_from_ms,
        created_until_ms: filter.created_until_ms,
    })
}

/// Where a page begins.
pub(super) fn page_token(token: &str) -> Result<Option<IntentId>, ServiceError> {
    if token.is_empty() {
        return Ok(None);
    }
    let id = IntentId::parse(token);
    id.map(Some).ok_or_else(|| {
        invalid(
            "page_token",
            "is none of this server; take it from the page before",
        )
    })
}
