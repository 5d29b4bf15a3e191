//! Human tasks in requests: the task itself, and the answer to it.

use baton_protocol::limits::{
    ADDRESS_CHARS_MAX, FORM_SCHEMA_BYTES_MAX, TASK_DESCRIPTION_CHARS_MAX, TASK_LIST_ITEMS_MAX,
    TASK_OUTCOME_CHARS_MAX, TASK_TITLE_CHARS_MAX,
};
use baton_protocol::proto::internal::{HumanTask, TaskType};
use baton_protocol::{ErrorCode, ServiceError};

use super::json::{JsonObject, invalid};
use crate::forms::{HandedIn, check_schema};

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
    let title = match task.text("title", TASK_TITLE_CHARS_MAX)? {
        Some(title) => title,
        None => HumanTask::default_title(intent_type)
            .chars()
            .take(TASK_TITLE_CHARS_MAX)
            .collect(),
    };
    let form_schema = task.object_bytes("form_schema")?.unwrap_or_default();
    if form_schema.len() > FORM_SCHEMA_BYTES_MAX {
        let message = format!(
            "{} is larger than {FORM_SCHEMA_BYTES_MAX} bytes",
            task.field("form_schema")
        );
        return Err(ServiceError::new(ErrorCode::SchemaInvalid, message));
    }
    if !form_schema.is_empty() {
        check_schema(&form_schema, &task.field("form_schema"))?;
    }
    Ok(Some(HumanTask {
        title,
        description: task
            .text("description", TASK_DESCRIPTION_CHARS_MAX)?
            .unwrap_or_default(),
        task_type: task_type.into(),
        allowed_outcomes: texts(&task, "allowed_outcomes", TASK_OUTCOME_CHARS_MAX)?,
        required_comment: task.flag("required_comment")?.unwrap_or(false),
        assignees: texts(&task, "assignees", ADDRESS_CHARS_MAX)?,
        evidence_required: task.flag("evidence_required")?.unwrap_or(false),
        form_schema,
        notify_email: email(&task)?,
    }))
}

/// A list of 1 to 20 texts; an empty list reads as absent.
fn texts(task: &JsonObject, name: &str, chars_max: usize) -> Result<Vec<String>, ServiceError> {
    let Some(raw) = task.raw(name) else {
        return Ok(Vec::new());
    };
    let field = task.field(name);
    let texts: Vec<String> =
        serde_json::from_str(raw.get()).map_err(|_| invalid(format!("{field} must be a list of strings")))?;
    if texts.len() > TASK_LIST_ITEMS_MAX {
        return Err(invalid(format!(
            "{field} has more than {TASK_LIST_ITEMS_MAX} items"
        )));
    }
    let fits = |text: &String| (1..=chars_max).contains(&text.chars().count());
    if !texts.iter().all(fits) {
        return Err(invalid(format!(
            "{field} must hold strings of 1 to {chars_max} characters"
        )));
    }
    Ok(texts)
}

fn email(task: &JsonObject) -> Result<String, ServiceError> {
    let Some(email) = task.text("notify_email", EMAIL_CHARS_MAX)? else {
        return Ok(String::new());
    };
    let printable = email.chars().all(|c| !c.is_control() && !c.is_whitespace());
    let (local, domain) = email.rsplit_once('@').unwrap_or_default();
    if printable && !local.is_empty() && !domain.is_empty() {
        Ok(email)
    } else {
        let field = task.field("notify_email");
        Err(invalid(format!("{field} must be an e-mail address")))
    }
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
