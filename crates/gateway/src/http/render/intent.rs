//! The intent projection (surface 2.4) and the answers around it.

use baton_protocol::human_task::due_at_ms;
use baton_protocol::proto::internal::{
    Event, Gate, Intent, IntentView, MemberList, Payload, Scenario, Status, step_state,
};
use prost::Message;
use sha2::{Digest, Sha256};

use super::event::pending_json;
use super::task::{TaskForm, human_task_json};
use super::{Object, payload_json, uuid_text};
use crate::service::CompletionDelivery;

/// What belongs to an intent beside its header.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside<'a> {
    pub payload: Option<&'a Payload>,
    pub terminal_event: Option<&'a Event>,
    pub scenario: Option<&'a Scenario>,
    pub gate: Option<&'a Gate>,
}

pub(crate) fn intent_json(intent: &Intent, beside: Beside<'_>) -> Vec<u8> {
    let mut out = Object::new();
    let status = intent.status();
    out.text("intent_id", &uuid_text(&intent.intent_id));
    out.text("status", status.wire_name());
    out.text("lifecycle_status", status.wire_name());
    out.text_or_null(
        "lifecycle_waiting_reason",
        intent.waiting_reason().wire_name().unwrap_or_default(),
    );
    out.text("legacy_status", status.legacy_name());
    out.time("created_at", intent.created_at_ms);
    out.time("updated_at", intent.updated_at_ms);
    out.text("intent_type", &intent.intent_type);
    out.text("correlation_id", &intent.correlation_id);
    out.text("from_agent", &intent.from_agent);
    out.text("to_agent", address(intent.to_agent.as_ref()));
    out.text_if("reply_to", address(intent.reply_to.as_ref()));
    if let Some(payload) = beside.payload {
        out.raw("payload", &payload_json(payload));
    }
    out.time_if("deadline_at", intent.deadline_at_ms);
    human_task(intent, beside.gate, &mut out);
    settings(intent, beside.gate, &mut out);
    if let Some(pending) = intent.pending() {
        out.raw("pending_with", &pending_json(&pending));
    }
    out.text_or_null("handler", address(intent.holder()));
    if let Some(event) = beside.terminal_event {
        outcome(event, &mut out);
    }
    out.number("policy_generation", intent.policy_generation);
    for (name, encoded) in [
        ("controls", &intent.controls),
        ("grants", &intent.grants),
        ("envelope", &intent.envelope),
    ] {
        if !encoded.is_empty() {
            out.raw(name, &members_json(encoded));
        }
    }
    scenario(intent, beside.scenario, &mut out);
    out.finish()
}

fn address(agent: Option<&baton_protocol::proto::internal::AgentRef>) -> &str {
    agent.map_or("", |a| a.address.as_str())
}

/// The task that waits. Once answered, that of a scenario's step is history; a direct intent keeps showing its own.
fn human_task(intent: &Intent, gate: Option<&Gate>, out: &mut Object) {
    let Some(gate) = gate.filter(|_| intent.gate_open || !intent.scenario_parent) else {
        return;
    };
    if intent.gate_open {
        out.time_if("due_at", due_at_ms(intent, gate));
    }
    if let Some(task) = &gate.task {
        out.raw("human_task", &human_task_json(task, TaskForm::Full));
    }
}

fn settings(intent: &Intent, gate: Option<&Gate>, out: &mut Object) {
    let gate = gate.filter(|gate| gate.reminders.is_some());
    let (reminders, progress) = match gate {
        Some(gate) => (&gate.reminders, &gate.reminded),
        None => (&intent.reminders, &intent.reminded),
    };
    if let Some(reminders) = reminders {
        out.number_if("remind_after_seconds", reminders.remind_after_seconds.into());
        out.number_if(
            "remind_interval_seconds",
            reminders.remind_interval_seconds.into(),
        );
        out.number_if("max_reminders", reminders.max_reminders.into());
        let sent = progress.as_ref().map_or(0, |progress| progress.sent);
        out.number("remind_count", sent.into());
        out.text_if("escalate_to", &reminders.escalate_to);
    }
    out.number(
        "max_delivery_attempts",
        intent.max_delivery_attempts.max(1).into(),
    );
    out.number("delivery_attempt", intent.failed_attempts.into());
}

fn outcome(event: &Event, out: &mut Object) {
    let Some(details) = &event.details else {
        return;
    };
    match &details.result {
        Some(result) => out.raw("result", &payload_json(result)),
        None if event.status() == Status::Completed => out.raw("result", b"{}"),
        None => {}
    }
    if let Some(error) = &details.error {
        out.raw("error", &payload_json(error));
    }
    out.text_if("reason", &details.reason);
}

fn members_json(encoded: &[u8]) -> Vec<u8> {
    let list = MemberList::decode(encoded).unwrap_or_default();
    let mut out = Object::new();
    for member in &list.members {
        out.raw(&member.key, &member.value);
    }
    out.finish()
}

fn scenario(intent: &Intent, scenario: Option<&Scenario>, out: &mut Object) {
    out.text_if("scenario_id", &intent.scenario_id);
    out.text_if("compile_id", &intent.compile_id);
    if let Some(step) = &intent.step {
        out.text("parent_intent_id", &uuid_text(&step.parent_intent_id));
        out.text("step_id", &step.step_id);
        if intent.scenario_id.is_empty() {
            out.text_if("scenario_id", &step.scenario_id);
        }
    }
    let Some(scenario) = scenario else {
        return;
    };
    let compiled = scenario.compiled.as_ref();
    let name = |index: usize| {
        compiled
            .and_then(|c| c.steps.get(index))
            .map_or("", |s| &s.step_id)
    };
    if !intent.status().is_terminal() {
        out.text_if("current_step", name(scenario.current as usize));
    }
    let steps = scenario.steps.iter().enumerate().map(|(index, state)| {
        let mut step = Object::new();
        step.text("step_id", name(index));
        match uuid_text(&state.step_intent_id) {
            id if id.is_empty() => step.raw("intent_id", b"null"),
            id => step.text("intent_id", &id),
        }
        step.text("status", step_status(state.phase(), state.status()));
        step.finish()
    });
    out.list("steps", steps);
}

fn step_status(phase: step_state::Phase, status: Status) -> &'static str {
    match (phase, status) {
        // Declared with the scenario and not submitted yet; clients know no other word for it.
        (step_state::Phase::Pending, _) => Status::Created.wire_name(),
        (step_state::Phase::Running | step_state::Phase::RetryWait, Status::Unspecified) => "IN_PROGRESS",
        (step_state::Phase::Approval, Status::Unspecified) => "WAITING",
        (step_state::Phase::Succeeded, Status::Unspecified) => "COMPLETED",
        (step_state::Phase::Failed, Status::Unspecified) => "FAILED",
        (_, status) => status.wire_name(),
    }
}

/// `GET /v1/intents/{id}`; `mirrors` repeats what several clients read at the root.
pub(crate) fn view_json(view: &IntentView, mirrors: bool) -> Vec<u8> {
    let empty = Payload::default();
    let intent = view.intent.clone().unwrap_or_default();
    let payload = view.payload.as_ref().unwrap_or(&empty);
    let beside = Beside {
        payload: Some(payload),
        terminal_event: view.terminal_event.as_ref(),
        scenario: view.scenario.as_ref(),
        gate: view.gate.as_ref(),
    };
    let mut out = Object::ok();
    out.raw("intent", &intent_json(&intent, beside));
    if mirrors {
        out.text("intent_id", &uuid_text(&intent.intent_id));
        out.text("status", intent.status().wire_name());
        out.text("lifecycle_status", intent.status().wire_name());
        out.raw("payload", &payload_json(payload));
        let details = view.terminal_event.as_ref().and_then(|e| e.details.as_ref());
        match details.and_then(|d| d.result.as_ref()) {
            Some(result) => out.raw("result", &payload_json(result)),
            None if intent.status() == Status::Completed => out.raw("result", b"{}"),
            None => {}
        }
    }
    out.finish()
}

/// `completion_delivery` of an answer that ended the intent.
pub(crate) fn completion_json(intent: &Intent, completion: &CompletionDelivery) -> Vec<u8> {
    let mut out = Object::new();
    let (delivered, reply_to) = match completion {
        CompletionDelivery::NotSet => {
            out.flag("delivered", false);
            out.text("reason", "reply_to_not_set");
            return out.finish();
        }
        CompletionDelivery::Delivered { reply_to } => (true, reply_to),
        CompletionDelivery::Pending { reply_to } => (false, reply_to),
    };
    out.flag("delivered", delivered);
    out.text(
        "reason",
        if delivered {
            "delivered"
        } else {
            "delivery_pending"
        },
    );
    out.text("reply_to", reply_to);
    let id = uuid_text(&intent.intent_id);
    out.text("thread_id", &id);
    out.text("message_id", &message_id(&intent.intent_id));
    let mut inner = Object::new();
    inner.text("type", "intent_completion");
    inner.text("intent_id", &id);
    inner.text("status", intent.status().wire_name());
    out.raw("completion", &inner.finish());
    out.finish()
}

/// The completion message has no row of its own; its id follows from the intent's.
fn message_id(intent_id: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"completion message of ");
    hash.update(intent_id);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::internal::{
        AgentRef, CompiledScenario, CompiledStep, EventDetails, EventType, Member, StepState,
    };

    fn agent(address: &str) -> Option<AgentRef> {
        Some(AgentRef {
            address: address.into(),
            key: address.into(),
            ..AgentRef::default()
        })
    }

    fn intent() -> Intent {
        Intent {
            intent_id: vec![7; 16].into(),
            intent_type: "notify.message.v1".into(),
            correlation_id: "c".into(),
            from_agent: "agent://o/w/a".into(),
            to_agent: agent("agent://o/w/b"),
            handler: agent("agent://o/w/b"),
            status: Status::Delivered.into(),
            created_at_ms: 1_777_629_600_123,
            updated_at_ms: 1_777_629_600_124,
            max_delivery_attempts: 3,
            ..Intent::default()
        }
    }

    fn payload(json: &'static str) -> Payload {
        Payload {
            data: json.into(),
            ..Payload::default()
        }
    }

    #[test]
    fn a_fresh_intent_is_golden() {
        let payload = payload(r#"{"text": "hi"}"#);
        let beside = Beside {
            payload: Some(&payload),
            ..Beside::default()
        };
        assert_eq!(
            String::from_utf8(intent_json(&intent(), beside)).unwrap(),
            r#"{"intent_id":"07070707-0707-0707-0707-070707070707","status":"DELIVERED","lifecycle_status":"DELIVERED","lifecycle_waiting_reason":null,"legacy_status":"accepted","created_at":"2026-05-01T10:00:00.123Z","updated_at":"2026-05-01T10:00:00.124Z","intent_type":"notify.message.v1","correlation_id":"c","from_agent":"agent://o/w/a","to_agent":"agent://o/w/b","payload":{"text": "hi"},"max_delivery_attempts":3,"delivery_attempt":0,"pending_with":{"type":"agent","ref":"agent://o/w/b","name":"agent://o/w/b"},"handler":"agent://o/w/b","policy_generation":0}"#
        );
    }

    #[test]
    fn a_finished_intent_shows_its_result_inside_and_at_the_root() {
        let mut done = intent();
        done.status = Status::Completed.into();
        done.controls = MemberList {
            members: vec![Member {
                key: "timeout_seconds".into(),
                value: "30".into(),
            }],
        }
        .encode_to_vec()
        .into();
        let view = IntentView {
            intent: Some(done),
            payload: Some(payload("{}")),
            terminal_event: Some(Event {
                r#type: EventType::Completed.into(),
                status: Status::Completed.into(),
                details: Some(EventDetails {
                    result: Some(payload(r#"{"x":1}"#)),
                    ..EventDetails::default()
                }),
                ..Event::default()
            }),
            ..IntentView::default()
        };
        let root: serde_json::Value = serde_json::from_slice(&view_json(&view, true)).unwrap();
        assert_eq!(root["intent"]["result"]["x"], 1);
        assert_eq!(root["result"]["x"], 1);
        assert_eq!(root["status"], "COMPLETED");
        assert_eq!(root["intent"]["controls"]["timeout_seconds"], 30);
        let bare: serde_json::Value = serde_json::from_slice(&view_json(&view, false)).unwrap();
        assert_eq!(bare.as_object().unwrap().len(), 2);
    }

    #[test]
    fn a_scenario_parent_lists_its_steps() {
        let scenario = Scenario {
            compiled: Some(CompiledScenario {
                steps: ["a", "b"]
                    .map(|id| CompiledStep {
                        step_id: id.into(),
                        ..CompiledStep::default()
                    })
                    .to_vec(),
                ..CompiledScenario::default()
            }),
            steps: vec![
                StepState {
                    phase: step_state::Phase::Running.into(),
                    step_intent_id: vec![9; 16].into(),
                    ..StepState::default()
                },
                StepState::default(),
            ],
            ..Scenario::default()
        };
        let beside = Beside {
            scenario: Some(&scenario),
            ..Beside::default()
        };
        let json: serde_json::Value = serde_json::from_slice(&intent_json(&intent(), beside)).unwrap();
        assert_eq!(json["current_step"], "a");
        assert_eq!(
            json["steps"][0]["intent_id"],
            "09090909-0909-0909-0909-090909090909"
        );
        assert_eq!(json["steps"][0]["status"], "IN_PROGRESS");
        assert_eq!(json["steps"][1]["status"], "CREATED");
    }
}
