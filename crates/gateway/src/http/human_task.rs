//! Human tasks in requests: the task itself, and the answer to it.

use baton_protocol::ServiceError;
use baton_protocol::limits::{TASK_DESCRIPTION_CHARS_MAX, TASK_TITLE_CHARS_MAX};
use baton_protocol::proto::internal::{HumanTask, TaskType};

use super::json::{JsonObject, invalid};
use crate::forms::{HandedIn, check_task};

const EMAIL_CHARS_MAX: usize = 320;
const TASK_TYPE_CHARS_MAX: usize = 64;

/// Reads and checks the task under `name`; absent when there is none.
///
/// # Errors
/// `InvalidArgument` and `SchemaInvalid`, naming the field.
pub(super) fn decode_human_task(
    body: &JsonObject,
    name: &str,
    intent_type: &str,
) -> Result<Option<HumanTask>, ServiceError> {
    let Some(task) = body.object(name)? else {
        return Ok(None);
    };
    let task_type = match task.text("task_type", TASK_TYPE_CHARS_MAX)? {
        None => TaskType::Approval,
        Some(text) => TaskType::from_wire_name(&text).ok_or_else(|| {
            let known = TaskType::ALL.map(TaskType::wire_name).join(", ");
            invalid(format!("{} must be one of: {known}", task.field("task_type")))
        })?,
    };
    let text = |name, chars_max| Ok::<_, ServiceError>(task.text(name, chars_max)?.unwrap_or_default());
    let described = HumanTask {
        title: text("title", TASK_TITLE_CHARS_MAX)?,
        description: text("description", TASK_DESCRIPTION_CHARS_MAX)?,
        task_type: task_type.into(),
        allowed_outcomes: task.texts("allowed_outcomes")?.unwrap_or_default(),
        required_comment: task.flag("required_comment")?.unwrap_or(false),
        assignees: task.texts("assignees")?.unwrap_or_default(),
        evidence_required: task.flag("evidence_required")?.unwrap_or(false),
        form_schema: task.object_bytes("form_schema")?.unwrap_or_default(),
        notify_email: text("notify_email", EMAIL_CHARS_MAX)?,
    };
    check_task(described, &task.field(""), intent_type).map(Some)
}

/// The answer in a resume body: `task_result`, or the members at the root of a body that has none.
///
/// # Errors
/// `InvalidArgument` when `task_result` is no object.
pub(super) fn decode_answer(body: &JsonObject, control_keys: &[&str]) -> Result<HandedIn, ServiceError> {
    let members = match body.object("task_result")? {
        Some(task_result) => task_result.into_members(),
        None => {
            let mut members = body.clone().into_members();
            members.retain(|(key, _)| !control_keys.contains(&key.as_str()));
            members
        }
    };
    Ok(HandedIn { members })
}
