//! A human task as a client describes it, checked.

use baton_protocol::limits::{
    ADDRESS_CHARS_MAX, FORM_SCHEMA_BYTES_MAX, TASK_DESCRIPTION_CHARS_MAX, TASK_LIST_ITEMS_MAX,
    TASK_OUTCOME_CHARS_MAX, TASK_TITLE_CHARS_MAX,
};
use baton_protocol::proto::internal::HumanTask;
use baton_protocol::{ErrorCode, ServiceError};

use super::schema::check_schema;

const EMAIL_CHARS_MAX: usize = 320;

/// The task, with a title when it has none. `path` is where it stands in the request, for messages: empty, or
/// `human_task.` and so on.
///
/// # Errors
/// `InvalidArgument` and `SchemaInvalid`, naming the field.
pub(crate) fn check_task(
    mut task: HumanTask,
    path: &str,
    intent_type: &str,
) -> Result<HumanTask, ServiceError> {
    if task.title.is_empty() {
        let title = HumanTask::default_title(intent_type);
        task.title = title.chars().take(TASK_TITLE_CHARS_MAX).collect();
    }
    short(&task.title, path, "title", TASK_TITLE_CHARS_MAX)?;
    short(&task.description, path, "description", TASK_DESCRIPTION_CHARS_MAX)?;
    items(
        &task.allowed_outcomes,
        path,
        "allowed_outcomes",
        TASK_OUTCOME_CHARS_MAX,
    )?;
    items(&task.assignees, path, "assignees", ADDRESS_CHARS_MAX)?;
    email(&task.notify_email, path)?;
    form(&task.form_schema, path)?;
    Ok(task)
}

fn invalid(path: &str, name: &str, what: &str) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgument, format!("{path}{name} {what}"))
}

fn short(text: &str, path: &str, name: &str, chars_max: usize) -> Result<(), ServiceError> {
    if text.chars().count() > chars_max {
        let what = format!("is longer than {chars_max} characters");
        return Err(invalid(path, name, &what));
    }
    Ok(())
}

/// A list of up to 20 texts.
fn items(texts: &[String], path: &str, name: &str, chars_max: usize) -> Result<(), ServiceError> {
    if texts.len() > TASK_LIST_ITEMS_MAX {
        let what = format!("has more than {TASK_LIST_ITEMS_MAX} items");
        return Err(invalid(path, name, &what));
    }
    let fits = |text: &String| (1..=chars_max).contains(&text.chars().count());
    if !texts.iter().all(fits) {
        let what = format!("must hold strings of 1 to {chars_max} characters");
        return Err(invalid(path, name, &what));
    }
    Ok(())
}

fn email(email: &str, path: &str) -> Result<(), ServiceError> {
    if email.is_empty() {
        return Ok(());
    }
    short(email, path, "notify_email", EMAIL_CHARS_MAX)?;
    let printable = email.chars().all(|c| !c.is_control() && !c.is_whitespace());
    let (local, domain) = email.rsplit_once('@').unwrap_or_default();
    if printable && !local.is_empty() && !domain.is_empty() {
        Ok(())
    } else {
        Err(invalid(path, "notify_email", "must be an e-mail address"))
    }
}

fn form(schema: &[u8], path: &str) -> Result<(), ServiceError> {
    if schema.is_empty() {
        return Ok(());
    }
    let field = format!("{path}form_schema");
    if schema.len() > FORM_SCHEMA_BYTES_MAX {
        let message = format!("{field} is larger than {FORM_SCHEMA_BYTES_MAX} bytes");
        return Err(ServiceError::new(ErrorCode::SchemaInvalid, message));
    }
    check_schema(schema, &field)
}
