//! Intents: create, read, steer, end.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::limits::{
    ACTOR_CHARS_MAX, REASON_CHARS_MAX, REMIND_SECONDS_MAX, REMINDERS_MAX, WAITS_FOR_CHARS_MAX,
};
use baton_protocol::proto::internal::{IntentView, Reminders, Status, Transitioned};
use baton_protocol::{ErrorCode, IntentId, ServiceError};

use super::call::{Call, intent_id};
use super::error::ApiError;
use super::human_task::{decode_answer, decode_human_task};
use super::json::{JsonObject, invalid, json_payload};
use super::limits::decode_envelope;
use super::render::{
    Beside, EventForm, Object, completion_json, event_json, intent_json, uuid_text, view_json,
};
use super::{App, json};
use crate::service::{Change, Resolve, Resume, ResumeKind, Submit, Transition, is_intent_type};

const INTENT_TYPE_CHARS_MAX: usize = 255;
const ALIASES: [(&str, &str); 12] = [
    ("intentType", "intent_type"),
    ("toAgent", "to_agent"),
    ("fromAgent", "from_agent"),
    ("replyTo", "reply_to"),
    ("correlationId", "correlation_id"),
    ("deadlineAt", "deadline_at"),
    ("remindAfterSeconds", "remind_after_seconds"),
    ("remindIntervalSeconds", "remind_interval_seconds"),
    ("maxReminders", "max_reminders"),
    ("escalateTo", "escalate_to"),
    ("maxDeliveryAttempts", "max_delivery_attempts"),
    ("humanTask", "human_task"),
];
/// Keys that only steer a resume.
pub(super) const CONTROL_KEYS: [&str; 5] = [
    "actor",
    "reason",
    "expected_policy_generation",
    "next_handler",
    "internal_scheduler",
];

pub(super) async fn submit(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let submit = decode_submit(&call)?;
    let reply = app.service.submit(&call.caller, submit).await?;
    let mut out = Object::ok();
    out.text("intent_id", &uuid_text(&reply.submitted.intent_id));
    out.text("status", reply.submitted.status().wire_name());
    out.time("created_at", reply.submitted.created_at_ms);
    Ok(json(out.finish()))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let view = app
        .service
        .get_intent(&call.caller, intent_id(&id)?, true)
        .await?;
    Ok(json(view_json(&view, app.service.config.root_mirrors)))
}

pub(super) async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let since = call.query_number("since")?.unwrap_or(0);
    let since = u32::try_from(since).unwrap_or(u32::MAX);
    let page = app
        .service
        .list_events(&call.caller, intent_id(&id)?, since)
        .await?;
    let mut out = Object::ok();
    out.list(
        "events",
        page.events.iter().map(|e| event_json(e, EventForm::Full)),
    );
    Ok(json(out.finish()))
}

pub(super) async fn resolve(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let body = call.json()?;
    let (resolve, change) = (decode_resolve(&body)?, decode_change(&call, &body)?);
    let id = intent_id(&id)?;
    let done = app.service.resolve(&call.caller, id, resolve, change).await?;
    let done = app.service.describe(id, done).await?;
    let mut out = Object::ok();
    write_transition(&mut out, &done);
    Ok(json(out.finish()))
}

pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let body = call.json()?;
    let id = intent_id(&id)?;
    if let Some(view) = task_seen(&app, &call, &body, id).await? {
        let handed_in = decode_answer(&body, &CONTROL_KEYS)?;
        let change = decode_change(&call, &body)?;
        let service = &app.service;
        let done = service
            .answer_seen(&call.caller, id, &view, handed_in, change)
            .await?;
        return Ok(json(applied_json(&service.describe(id, done).await?)));
    }
    let resume = decode_resume(&call, &body)?;
    let change = match resume.kind {
        // In a result these keys are data of any type and length.
        ResumeKind::Result { .. } => Change {
            label: body.text("actor", ACTOR_CHARS_MAX).ok().flatten(),
            reason: body
                .text("reason", REASON_CHARS_MAX)
                .ok()
                .flatten()
                .unwrap_or_default(),
            expected_policy_generation: body.number("expected_policy_generation").ok().flatten(),
            ..decode_scope(&call)?
        },
        ResumeKind::Control { .. } | ResumeKind::ControlOrResult { .. } | ResumeKind::Wait { .. } => {
            decode_change(&call, &body)?
        }
    };
    let done = app.service.resume(&call.caller, id, resume, change).await?;
    let done = app.service.describe(id, done).await?;
    Ok(json(applied_json(&done)))
}

/// The intent, when the body answers its human task: by an object `task_result`, or by an outcome at the root of the body
/// for an intent that asks. An outcome that comes too late for the task is no result for what goes on behind it.
async fn task_seen(
    app: &App,
    call: &Call,
    body: &JsonObject,
    id: IntentId,
) -> Result<Option<IntentView>, ApiError> {
    let named = body.has("task_result");
    let outcome = body.raw("outcome").is_some_and(|raw| raw.get().starts_with('"'));
    if !named && (!outcome || body.has("approve_current_step")) {
        return Ok(None);
    }
    let view = app.service.get_intent(&call.caller, id, false).await?;
    let intent = view.intent.clone().unwrap_or_default();
    let late = intent.gate_generation != 0 && !body.has("action");
    Ok((named || intent.gate_open || late).then_some(view))
}

pub(super) async fn controls(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let body = call.json()?;
    let patch = body
        .members("controls_patch")?
        .ok_or_else(|| invalid("controls_patch is required"))?;
    let change = decode_change(&call, &body)?;
    let id = intent_id(&id)?;
    let done = app
        .service
        .update_controls(&call.caller, id, patch, change)
        .await?;
    let done = app.service.describe(id, done).await?;
    Ok(json(applied_json(&done)))
}

pub(super) async fn policy(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let body = call.json()?;
    let (grants, envelope) = (body.members("grants_patch")?, decode_envelope(&body)?);
    if grants.is_none() && envelope.is_none() {
        return Err(invalid("grants_patch or envelope_patch is required").into());
    }
    let (grants, envelope) = (grants.unwrap_or_default(), envelope.unwrap_or_default());
    let change = decode_change(&call, &body)?;
    let id = intent_id(&id)?;
    let done = app
        .service
        .update_policy(&call.caller, id, grants, envelope, change)
        .await?;
    let done = app.service.describe(id, done).await?;
    Ok(json(applied_json(&done)))
}

fn decode_submit(call: &Call) -> Result<Submit, ServiceError> {
    let mut body = call.json()?;
    body.alias(&ALIASES);
    let intent_type = body.required_text("intent_type", INTENT_TYPE_CHARS_MAX)?;
    if !is_intent_type(&intent_type, true) {
        return Err(ServiceError::new(
            ErrorCode::SchemaInvalid,
            "intent_type must look like order.created.v1: lower case segments and a version",
        ));
    }
    let mut submit = decode_lifecycle(&body)?;
    submit.intent_type = intent_type;
    submit.correlation_id = body.uuid("correlation_id")?;
    submit.from_agent = body.address("from_agent")?;
    submit.to_agent = body.address("to_agent")?;
    submit.payload = match body.object_bytes("payload")? {
        Some(bytes) => json_payload(&bytes),
        None => body.rest(&submit_keys()),
    };
    submit.human_task = decode_human_task(&body, "human_task", &submit.intent_type)?;
    submit.trace_parent = call.trace_parent();
    submit.idempotency = call.idempotency(None)?;
    Ok(submit)
}

fn submit_keys() -> Vec<&'static str> {
    let mut keys = vec!["payload"];
    keys.extend(ALIASES.iter().flat_map(|(camel, snake)| [*camel, *snake]));
    keys
}

/// The settings that a create body and a bundle's `intent` share.
pub(super) fn decode_lifecycle(body: &JsonObject) -> Result<Submit, ServiceError> {
    let reminders = decode_reminders(body)?;
    Ok(Submit {
        reply_to: body.address("reply_to")?,
        deadline_at_ms: body.time_ms("deadline_at")?.unwrap_or(0),
        reminders: (reminders != Reminders::default()).then_some(reminders),
        max_delivery_attempts: body.positive("max_delivery_attempts")?,
        ..Submit::default()
    })
}

/// The reminder settings of an intent or of a step.
pub(super) fn decode_reminders(body: &JsonObject) -> Result<Reminders, ServiceError> {
    let bounded = |name: &str, max: u32| match body.positive(name)? {
        Some(given) if given > max => Err(invalid(format!("{} is more than {max}", body.field(name)))),
        given => Ok(given.unwrap_or(0)),
    };
    Ok(Reminders {
        remind_after_seconds: bounded("remind_after_seconds", REMIND_SECONDS_MAX)?,
        remind_interval_seconds: bounded("remind_interval_seconds", REMIND_SECONDS_MAX)?,
        max_reminders: bounded("max_reminders", REMINDERS_MAX)?,
        escalate_to: body.address("escalate_to")?.unwrap_or_default(),
    })
}

fn decode_resolve(body: &JsonObject) -> Result<Resolve, ServiceError> {
    let text = body.required_text("status", 32)?;
    let status = Status::from_wire_name(&text);
    let allowed = [Status::Completed, Status::Failed, Status::Canceled];
    let status = status.filter(|s| allowed.contains(s));
    Ok(Resolve {
        status: status.ok_or_else(|| invalid("status must be COMPLETED, FAILED or CANCELED"))?,
        result: body.payload("result"),
        error: body.payload("error"),
    })
}

fn decode_resume(call: &Call, body: &JsonObject) -> Result<Resume, ServiceError> {
    let whole = || match call.body.trim_ascii() {
        b"" => json_payload(b"{}"),
        bytes => json_payload(bytes),
    };
    let kind = if body.has("approve_current_step") {
        ResumeKind::Control {
            approve: body.flag("approve_current_step")?.unwrap_or(true),
        }
    } else if body.is_empty() || body.keys().all(|key| CONTROL_KEYS.contains(&key)) {
        ResumeKind::ControlOrResult { body: whole() }
    } else {
        match body.raw("action").map(serde_json::value::RawValue::get) {
            Some("\"wait\"") => decode_wait(body)?,
            action => ResumeKind::Result {
                body: whole(),
                fail: action == Some("\"fail\""),
            },
        }
    };
    let steers = !matches!(kind, ResumeKind::Result { .. } | ResumeKind::Wait { .. });
    let next_handler = if steers {
        body.address("next_handler")?
    } else {
        None
    };
    Ok(Resume { kind, next_handler })
}

/// `{"action": "wait"}`: the handler has asked somebody outside and waits for the answer.
fn decode_wait(body: &JsonObject) -> Result<ResumeKind, ServiceError> {
    match body.text("waiting_reason", 32)?.as_deref() {
        None | Some("WAITING_FOR_TOOL") => Ok(ResumeKind::Wait {
            tool: body.text("tool", WAITS_FOR_CHARS_MAX)?.unwrap_or_default(),
        }),
        Some(_) => Err(invalid("waiting_reason must be WAITING_FOR_TOOL")),
    }
}

/// What every change to an existing intent carries beside its own fields.
fn decode_change(call: &Call, body: &JsonObject) -> Result<Change, ServiceError> {
    Ok(Change {
        label: body.text("actor", ACTOR_CHARS_MAX)?,
        reason: body.text("reason", REASON_CHARS_MAX)?.unwrap_or_default(),
        expected_policy_generation: body.number("expected_policy_generation")?,
        ..decode_scope(call)?
    })
}

fn decode_scope(call: &Call) -> Result<Change, ServiceError> {
    Ok(Change {
        owner: call.owner()?,
        idempotency: call.idempotency(None)?,
        ..Change::default()
    })
}

fn applied_json(done: &Transition) -> Vec<u8> {
    let mut out = Object::ok();
    out.flag("applied", done.reply.applied);
    out.number("policy_generation", done.reply.policy_generation);
    write_transition(&mut out, done);
    out.finish()
}

fn write_transition(out: &mut Object, done: &Transition) {
    let Transitioned { intent, event, .. } = &done.reply;
    let intent = intent.clone().unwrap_or_default();
    let terminal = intent.status().is_terminal();
    let beside = Beside {
        payload: Some(&done.payload),
        terminal_event: event.as_ref().filter(|e| e.status().is_terminal()),
        gate: done.gate.as_ref(),
        ..Beside::default()
    };
    out.raw("intent", &intent_json(&intent, beside));
    if let Some(event) = event {
        out.raw("event", &event_json(event, EventForm::Closed));
    }
    if terminal {
        out.raw("completion_delivery", &completion_json(&intent, &done.completion));
    }
}
