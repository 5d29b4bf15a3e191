//! Scenario bundles (surface 5).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::limits::{
    ADDRESS_CHARS_MAX, IDEMPOTENCY_KEY_CHARS_MAX, NOTIFICATION_BODY_CHARS_MAX, NOTIFICATION_CHANNELS_MAX,
};
use baton_protocol::proto::internal::{Notification, Reminders};
use baton_protocol::{ErrorCode, ServiceError};

use super::accounts::{callback_url, delivery_mode};
use super::call::Call;
use super::error::{ApiError, not_found};
use super::human_task::decode_human_task;
use super::intents::{decode_lifecycle, decode_reminders};
use super::json::{JsonObject, invalid, json_payload};
use super::render::{Object, scenario_json};
use super::{App, json};
use crate::service::scenario::{Bundle, BundleAgent, BundleHuman, Findings, Step, StepConfig};
use crate::service::{Submit, is_intent_type};

const ROLE_CHARS_MAX: usize = 100;
const TEXT_CHARS_MAX: usize = 255;
const TITLE_CHARS_MAX: usize = 1_000;
const RETRY_DELAY_SECONDS_DEFAULT: u32 = 30;

pub(super) async fn apply(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let body = call.json()?;
    let (mut bundle, findings) = decode_bundle(&body);
    if let Some(error) = findings.errors.first() {
        return Err(ServiceError::new(ErrorCode::SchemaInvalid, error.clone()).into());
    }
    let in_body = body.text("idempotency_key", IDEMPOTENCY_KEY_CHARS_MAX)?;
    bundle.intent.idempotency = call.idempotency(in_body)?;
    bundle.intent.trace_parent = call.trace_parent();
    let applied = app.service.apply_scenario(&call.caller, bundle).await?;
    Ok(json(scenario_json(&applied)))
}

pub(super) async fn validate(_: State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let (bundle, mut findings) = decode_bundle(&call.json()?);
    // What could not be read is not judged any further: that would only repeat the first finding in other words.
    if findings.errors.is_empty() {
        findings = bundle.check();
    }
    let mut out = Object::ok();
    out.flag("valid", findings.errors.is_empty());
    out.texts("errors", findings.errors.iter().map(String::as_str));
    out.texts("warnings", findings.warnings.iter().map(String::as_str));
    Ok(json(out.finish()))
}

pub(super) async fn macros(_: State<Arc<App>>, _: Call) -> Response {
    let mut out = Object::ok();
    out.list("macros", []);
    json(out.finish())
}

pub(super) async fn unknown_macro(_: State<Arc<App>>, Path(id): Path<String>, _: Call) -> ApiError {
    not_found(format!("macro {id} does not exist"))
}

/// Reads a bundle from its JSON text, and collects what could not be read.
///
/// # Errors
/// When the text is no JSON object.
pub(crate) fn read_bundle(text: &[u8]) -> Result<(Bundle, Findings), ServiceError> {
    Ok(decode_bundle(&JsonObject::parse(text)?))
}

/// Reads as much of a bundle as can be read, and collects what could not.
fn decode_bundle(body: &JsonObject) -> (Bundle, Findings) {
    let mut errors = Errors::default();
    let workflow = errors.take(body.object("workflow")).flatten().unwrap_or_default();
    let scenario_id = errors.take(decode_scenario_id(body)).unwrap_or_default();
    let intent = errors.take(decode_intent(body)).unwrap_or_default();
    let intent_type = intent.intent_type.as_str();
    let bundle = Bundle {
        scenario_id,
        agents: errors.each(body.objects("agents"), decode_agent),
        humans: errors.each(body.objects("humans"), decode_human),
        macro_id: errors.take(workflow.text("macro_id", TEXT_CHARS_MAX)).flatten(),
        entry_step: errors.take(workflow.text("entry_step", ROLE_CHARS_MAX)).flatten(),
        steps: errors.each(workflow.objects("steps"), |step| decode_step(step, intent_type)),
        intent: intent.clone(),
    };
    for field in ["title", "description"] {
        errors.take(body.text(field, TITLE_CHARS_MAX));
    }
    errors.take(body.text("idempotency_key", IDEMPOTENCY_KEY_CHARS_MAX));
    (
        bundle,
        Findings {
            errors: errors.0,
            warnings: Vec::new(),
        },
    )
}

/// Collects messages instead of stopping at the first.
#[derive(Default)]
struct Errors(Vec<String>);

impl Errors {
    fn take<T>(&mut self, result: Result<T, ServiceError>) -> Option<T> {
        result.map_err(|error| self.0.push(error.message)).ok()
    }

    fn each<T: Default>(
        &mut self,
        list: Result<Vec<JsonObject>, ServiceError>,
        decode: impl Fn(&JsonObject) -> Result<T, ServiceError>,
    ) -> Vec<T> {
        let list = self.take(list).unwrap_or_default();
        list.iter()
            .map(|item| self.take(decode(item)).unwrap_or_default())
            .collect()
    }
}

fn decode_scenario_id(body: &JsonObject) -> Result<String, ServiceError> {
    let id = body.required_text("scenario_id", TEXT_CHARS_MAX)?;
    if id.len() < 3 || !is_intent_type(&id, false) {
        return Err(invalid(
            "scenario_id must be 3 to 255 of a-z, 0-9, '_' and '-' in segments parted by '.'",
        ));
    }
    Ok(id)
}

fn decode_agent(agent: &JsonObject) -> Result<BundleAgent, ServiceError> {
    Ok(BundleAgent {
        role: agent.text("role", ROLE_CHARS_MAX)?,
        address: agent.required_text("address", ADDRESS_CHARS_MAX)?,
        create_if_missing: agent.flag("create_if_missing")?.unwrap_or(false),
        display_name: agent.text("display_name", TEXT_CHARS_MAX)?,
        delivery_mode: delivery_mode(agent)?,
        callback_url: callback_url(agent)?,
    })
}

fn decode_human(human: &JsonObject) -> Result<BundleHuman, ServiceError> {
    Ok(BundleHuman {
        role: human.text("role", ROLE_CHARS_MAX)?,
        contact: human.text("contact", TEXT_CHARS_MAX)?,
        display_name: human.text("display_name", TEXT_CHARS_MAX)?,
    })
}

fn decode_step(step: &JsonObject, intent_type: &str) -> Result<Step, ServiceError> {
    let retry = step.object("retry")?.unwrap_or_default();
    Ok(Step {
        step_id: step.required_text("step_id", ROLE_CHARS_MAX)?,
        tool_id: step.text("tool_id", TEXT_CHARS_MAX)?,
        runtime_type: step.text("runtime_type", ROLE_CHARS_MAX)?,
        assigned_to: step.text("assigned_to", ADDRESS_CHARS_MAX)?,
        requires_approval: step.flag("requires_approval")?.unwrap_or(false),
        human_task: decode_human_task(step, "human_task", intent_type)?,
        step_deadline_seconds: step.positive("step_deadline_seconds")?.unwrap_or(0),
        max_retries: retry.number("max_retries")?.map_or(0, clamp),
        retry_delay_seconds: retry
            .positive("retry_delay_seconds")?
            .unwrap_or(RETRY_DELAY_SECONDS_DEFAULT),
        input: step.object_bytes("input")?.unwrap_or_default(),
        on_success: step.text("on_success", ROLE_CHARS_MAX)?,
        on_failure: step.text("on_failure", ROLE_CHARS_MAX)?,
        reminders: set_reminders(step)?,
        config: decode_config(step)?,
    })
}

fn set_reminders(step: &JsonObject) -> Result<Option<Reminders>, ServiceError> {
    let reminders = decode_reminders(step)?;
    Ok((reminders != Reminders::default()).then_some(reminders))
}

/// What an internal step is told, wherever it is told it.
fn decode_config(step: &JsonObject) -> Result<StepConfig, ServiceError> {
    let mut config = StepConfig::default();
    for field in ["runtime_config", "config", "input"] {
        let Some(given) = step.object(field)? else {
            continue;
        };
        // An agent's input is its own affair: a field that does not fit is not ours.
        let lenient = field == "input" && !is_internal(step);
        match decode_settings(&given) {
            Ok(found) => config.fill(found),
            Err(_) if lenient => {}
            Err(error) => return Err(error),
        }
    }
    Ok(config)
}

fn decode_channels(given: &JsonObject) -> Result<Vec<String>, ServiceError> {
    let Some(raw) = given.raw("channels") else {
        return Ok(Vec::new());
    };
    let channels: Option<Vec<String>> = serde_json::from_str(raw.get()).ok();
    let fits = |c: &String| (1..=TEXT_CHARS_MAX).contains(&c.chars().count());
    channels
        .filter(|list| list.len() <= NOTIFICATION_CHANNELS_MAX && list.iter().all(fits))
        .ok_or_else(|| {
            invalid(format!(
                "{} must be a list of at most {NOTIFICATION_CHANNELS_MAX} strings of 1 to {TEXT_CHARS_MAX} characters",
                given.field("channels")
            ))
        })
}

fn is_internal(step: &JsonObject) -> bool {
    let tool = step.text("tool_id", TEXT_CHARS_MAX).ok().flatten();
    step.has("runtime_type") || tool.is_some_and(|tool| tool.starts_with("tool.internal."))
}

fn decode_settings(given: &JsonObject) -> Result<StepConfig, ServiceError> {
    let first = |names: &[&str]| -> Result<Option<u32>, ServiceError> {
        for name in names {
            if let Some(found) = given.positive(name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    };
    let mut channels = decode_channels(given)?;
    channels.extend(given.text("channel", TEXT_CHARS_MAX)?);
    let target = given.text("escalate_to", ADDRESS_CHARS_MAX)?;
    Ok(StepConfig {
        seconds: first(&[
            "seconds",
            "delay_seconds",
            "timeout_seconds",
            "remind_after_seconds",
        ])?,
        escalate_to: target.or(given.text("target", ADDRESS_CHARS_MAX)?),
        notification: Notification {
            channels,
            subject: given.text("subject", TITLE_CHARS_MAX)?.unwrap_or_default(),
            body: given
                .text("body", NOTIFICATION_BODY_CHARS_MAX)?
                .unwrap_or_default(),
        },
    })
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn decode_intent(body: &JsonObject) -> Result<Submit, ServiceError> {
    let intent = body
        .object("intent")?
        .ok_or_else(|| invalid("intent is required"))?;
    let intent_type = intent.required_text("type", TEXT_CHARS_MAX)?;
    if intent_type.len() < 3 || !is_intent_type(&intent_type, false) {
        return Err(invalid(
            "intent.type must be 3 to 255 of a-z, 0-9, '_' and '-' in segments parted by '.'",
        ));
    }
    let mut submit = decode_lifecycle(&intent)?;
    submit.human_task = decode_human_task(&intent, "human_task", &intent_type)?;
    submit.intent_type = intent_type;
    submit.payload = json_payload(&intent.object_bytes("payload")?.unwrap_or_else(|| "{}".into()));
    Ok(submit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(body: &str) -> (Bundle, Findings) {
        decode_bundle(&JsonObject::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn the_command_lines_empty_strings_read_as_absent() {
        let (bundle, findings) = decoded(
            r#"{"scenario_id": "replacing-webhooks.demo.v1", "unknown": 1,
                "agents": [{"role": "", "address": "payment-service-demo", "create_if_missing": true}],
                "humans": [{"role": "boss", "contact": ""}],
                "workflow": {"steps": [{"step_id": "s", "tool_id": "", "assigned_to": "payment-service-demo"}]},
                "intent": {"type": "payment.process.v1", "payload": {"a": 1.50}}}"#,
        );
        assert_eq!(findings, Findings::default());
        assert_eq!(bundle.agents[0].role, None);
        assert_eq!(bundle.steps[0].tool_id, None);
        assert_eq!(bundle.steps[0].retry_delay_seconds, 30);
        assert_eq!(&bundle.intent.payload.data[..], br#"{"a": 1.50}"#);
        assert_eq!(bundle.check(), Findings::default());
    }

    #[test]
    fn every_unreadable_field_is_named() {
        let (_, findings) = decoded(
            r#"{"scenario_id": "X y", "agents": [{"role": "r"}, {"address": 5}],
                "workflow": {"steps": [{"step_id": "s", "step_deadline_seconds": 0}]},
                "intent": {"type": "a.v1", "human_task": {"task_type": "guess"}}}"#,
        );
        for part in [
            "scenario_id must be",
            "agents[0].address is required",
            "agents[1].address must be a string",
            "workflow.steps[0].step_deadline_seconds must be",
            "intent.human_task.task_type must be one of",
        ] {
            assert!(
                findings.errors.iter().any(|e| e.contains(part)),
                "{part} in {findings:?}"
            );
        }
        let (_, empty) = decoded("{}");
        assert_eq!(empty.errors, ["scenario_id is required", "intent is required"]);
    }
}
