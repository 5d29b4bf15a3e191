//! Human tasks (surface 2.7, 3.8).

use baton_protocol::human_task::due_at_ms;
use baton_protocol::proto::internal::{HumanTask, OpenTask};

use super::{Object, uuid_text};

/// Which fields of a task are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskForm {
    /// Everything.
    Full,
    /// The closed set of the task list.
    Listed,
    /// Without what may be long, for a frame it would not fit in.
    Brief,
}

pub(crate) fn human_task_json(task: &HumanTask, form: TaskForm) -> Vec<u8> {
    let mut out = Object::new();
    out.text("title", &task.title);
    out.text_if("description", &task.description);
    out.text("task_type", task.task_type().wire_name());
    if !task.allowed_outcomes.is_empty() {
        out.texts(
            "allowed_outcomes",
            task.allowed_outcomes.iter().map(String::as_str),
        );
    }
    out.flag("required_comment", task.required_comment);
    if !task.assignees.is_empty() {
        out.texts("assignees", task.assignees.iter().map(String::as_str));
    }
    out.flag("evidence_required", task.evidence_required);
    if !task.form_schema.is_empty() && form != TaskForm::Brief {
        out.raw("form_schema", &task.form_schema);
    }
    if form == TaskForm::Full {
        out.text_if("notify_email", &task.notify_email);
    }
    out.finish()
}

/// One item of the task list; its schema is closed.
pub(crate) fn open_task_json(open: &OpenTask) -> Vec<u8> {
    let (intent, gate) = (
        open.intent.clone().unwrap_or_default(),
        open.gate.clone().unwrap_or_default(),
    );
    let mut out = Object::new();
    out.text("intent_id", &uuid_text(&intent.intent_id));
    out.text("intent_type", &intent.intent_type);
    out.text("status", "WAITING");
    out.text("from_agent", &intent.from_agent);
    out.time("assigned_at", gate.assigned_at_ms);
    out.time_if("due_at", due_at_ms(&intent, &gate));
    let task = gate.task.unwrap_or_default();
    out.raw("human_task", &human_task_json(&task, TaskForm::Listed));
    out.finish()
}
