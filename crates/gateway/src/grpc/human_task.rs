//! Human tasks and reminders in messages, both ways.

use baton_protocol::ServiceError;
use baton_protocol::human_task::due_at_ms;
use baton_protocol::limits::{REMIND_SECONDS_MAX, REMINDERS_MAX};
use baton_protocol::proto::internal::{Gate, HumanTask, Intent, Reminders, TaskType};
use baton_protocol::proto::v1;

use super::{convert, decode};
use crate::forms::check_task;

/// The task of a new intent, checked.
pub(super) fn decode_task(task: v1::HumanTask, intent_type: &str) -> Result<HumanTask, ServiceError> {
    let task_type = TaskType::try_from(task.task_type)
        .map_err(|_| decode::invalid("human_task.task_type", "names no type of task"))?;
    let described = HumanTask {
        title: task.title,
        description: task.description,
        task_type: task_type.into(),
        allowed_outcomes: task.allowed_outcomes,
        required_comment: task.required_comment,
        assignees: task.assignees,
        evidence_required: task.evidence_required,
        form_schema: task.form_schema_json,
        notify_email: task.notify_email,
    };
    check_task(described, "human_task.", intent_type).map_err(|error| error.in_field("human_task"))
}

/// The reminders of a new intent; absent when nothing is set.
pub(super) fn decode_reminders(given: v1::Reminders) -> Result<Option<Reminders>, ServiceError> {
    let bounded = |value: u32, field: &'static str, max: u32| {
        if value > max {
            return Err(decode::invalid(field, format!("is more than {max}")));
        }
        Ok(value)
    };
    let reminders = Reminders {
        remind_after_seconds: bounded(
            given.remind_after_seconds,
            "reminders.remind_after_seconds",
            REMIND_SECONDS_MAX,
        )?,
        remind_interval_seconds: bounded(
            given.remind_interval_seconds,
            "reminders.remind_interval_seconds",
            REMIND_SECONDS_MAX,
        )?,
        max_reminders: bounded(given.max_reminders, "reminders.max_reminders", REMINDERS_MAX)?,
        escalate_to: decode::address(given.escalate_to, "reminders.escalate_to")?.unwrap_or_default(),
    };
    Ok((reminders != Reminders::default()).then_some(reminders))
}

/// The task of an intent.
pub(super) fn task(intent: &Intent, gate: Gate) -> v1::Task {
    let due_at_ms = due_at_ms(intent, &gate);
    let asked = gate.task.unwrap_or_default();
    v1::Task {
        intent_id: convert::id(&intent.intent_id),
        generation: gate.generation,
        intent_type: intent.intent_type.clone(),
        from_agent: intent.from_agent.clone(),
        assigned_at_ms: gate.assigned_at_ms,
        due_at_ms,
        outcomes: asked.outcomes().into_iter().map(str::to_owned).collect(),
        human_task: Some(human_task(asked)),
        step_id: gate.step_id,
        open: intent.gate_open,
        answer: gate.answer.map(|answer| v1::TaskAnswer {
            outcome: answer.outcome,
            comment: answer.comment,
            evidence_json: answer.evidence,
            answered_by: answer.answered_by,
            at_ms: answer.at_ms,
            by_link: answer.by_link,
        }),
    }
}

fn human_task(task: HumanTask) -> v1::HumanTask {
    v1::HumanTask {
        title: task.title,
        description: task.description,
        task_type: task.task_type,
        allowed_outcomes: task.allowed_outcomes,
        required_comment: task.required_comment,
        assignees: task.assignees,
        evidence_required: task.evidence_required,
        form_schema_json: task.form_schema,
        notify_email: task.notify_email,
    }
}
