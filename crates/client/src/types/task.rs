//! Human tasks: questions to people, and their answers.

use super::{Payload, number, text};
use baton_protocol::human_task;
use baton_protocol::proto::internal::TaskType;
use baton_protocol::proto::v1;
use serde::Serialize;

/// A question to a person. Only what is set is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HumanTask {
    /// Named after the intent type when absent.
    pub title: Option<String>,
    pub description: Option<String>,
    /// For example `approval` (the default), `review` or `form`.
    pub task_type: Option<String>,
    /// Absent = those of the task type.
    pub allowed_outcomes: Vec<String>,
    pub required_comment: bool,
    /// Addresses, contacts or roles.
    pub assignees: Vec<String>,
    pub evidence_required: bool,
    /// JSON Schema of the answer.
    pub form_schema: Option<Payload>,
    pub notify_email: Option<String>,
}

impl HumanTask {
    fn from_wire(task: v1::HumanTask) -> Self {
        let kind = TaskType::try_from(task.task_type).unwrap_or_default();
        let schema = task.form_schema_json;
        Self {
            title: text(task.title),
            description: text(task.description),
            task_type: Some(kind.wire_name().to_owned()),
            allowed_outcomes: task.allowed_outcomes,
            required_comment: task.required_comment,
            assignees: task.assignees,
            evidence_required: task.evidence_required,
            form_schema: (!schema.is_empty()).then(|| Payload::bytes(schema, String::new())),
            notify_email: text(task.notify_email),
        }
    }

    /// `None` when the type is none that exists.
    pub(crate) fn into_wire(self) -> Option<v1::HumanTask> {
        let kind = match self.task_type.as_deref() {
            None => TaskType::Unspecified,
            Some(name) => TaskType::from_wire_name(name)?,
        };
        Some(v1::HumanTask {
            title: self.title.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            task_type: kind.into(),
            allowed_outcomes: self.allowed_outcomes,
            required_comment: self.required_comment,
            assignees: self.assignees,
            evidence_required: self.evidence_required,
            form_schema_json: self.form_schema.map(|s| s.into_wire().data).unwrap_or_default(),
            notify_email: self.notify_email.unwrap_or_default(),
        })
    }
}

/// When to remind of an intent that waits, and whom to call in at last. 0 = not set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reminders {
    pub after_seconds: u32,
    /// As long as the first time when 0.
    pub interval_seconds: u32,
    pub max: u32,
    pub escalate_to: Option<String>,
}

impl Reminders {
    pub(crate) fn into_wire(self) -> v1::Reminders {
        v1::Reminders {
            remind_after_seconds: self.after_seconds,
            remind_interval_seconds: self.interval_seconds,
            max_reminders: self.max,
            escalate_to: self.escalate_to.unwrap_or_default(),
        }
    }
}

/// The latest human task of an intent. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Task {
    pub intent_id: String,
    /// 1, 2, 3 … per intent; with the intent id it names the task.
    pub generation: u64,
    pub intent_type: String,
    pub from_agent: Option<String>,
    pub assigned_at_ms: u64,
    pub due_at_ms: Option<u64>,
    pub human_task: HumanTask,
    /// What answers it.
    pub outcomes: Vec<String>,
    /// The step of a scenario that asks.
    pub step_id: Option<String>,
    pub open: bool,
    pub answer: Option<TaskAnswer>,
}

impl Task {
    pub(crate) fn from_wire(task: v1::Task) -> Self {
        Self {
            intent_id: task.intent_id,
            generation: task.generation,
            intent_type: task.intent_type,
            from_agent: text(task.from_agent),
            assigned_at_ms: task.assigned_at_ms,
            due_at_ms: number(task.due_at_ms),
            human_task: HumanTask::from_wire(task.human_task.unwrap_or_default()),
            outcomes: task.outcomes,
            step_id: text(task.step_id),
            open: task.open,
            answer: task.answer.map(TaskAnswer::from_wire),
        }
    }

    /// The outcome that says plainly yes (`true`) or no; `None` when none of them does.
    #[must_use]
    pub fn plain_outcome(&self, positive: bool) -> Option<&str> {
        human_task::plain_outcome(&self.outcomes, positive)
    }
}

/// What a person answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TaskAnswer {
    pub outcome: String,
    pub comment: Option<String>,
    pub evidence: Option<Payload>,
    pub answered_by: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Whoever held a link to the task answered; `answered_by` is whom the link was sent to.
    pub by_link: bool,
}

impl TaskAnswer {
    fn from_wire(answer: v1::TaskAnswer) -> Self {
        let evidence = answer.evidence_json;
        Self {
            outcome: answer.outcome,
            comment: text(answer.comment),
            evidence: (!evidence.is_empty()).then(|| Payload::bytes(evidence, String::new())),
            answered_by: answer.answered_by,
            at_ms: answer.at_ms,
            by_link: answer.by_link,
        }
    }
}

/// Which tasks. Everything that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskFilter {
    pub assignee: Option<String>,
    pub intent_type: Option<String>,
}

/// Some open tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TaskPage {
    pub tasks: Vec<Task>,
    /// Where the next page begins; absent after the last one.
    pub next: Option<String>,
}
