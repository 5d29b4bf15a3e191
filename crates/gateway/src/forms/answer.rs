//! What a person hands in for a human task, checked against the task (surface 2.7).

use baton_protocol::ServiceError;
use baton_protocol::human_task::is_positive;
use baton_protocol::limits::TASK_COMMENT_CHARS_MAX;
use baton_protocol::proto::internal::HumanTask;
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::coerce::coerce;
use super::members::{is_yes_or_no, names, property};
use super::schema::Form;
use super::wrong;

/// Members of `task_result` that are about the answer itself. They count as form fields only in a form that knows them.
pub(super) const OWN_MEMBERS: [&str; 3] = ["outcome", "comment", "evidence"];

/// `task_result` as it came: its members, each value as the client wrote it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandedIn {
    pub(crate) members: Vec<(String, Box<RawValue>)>,
}

/// An answer that the task accepts.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) outcome: String,
    pub(crate) comment: String,
    /// JSON; empty = none.
    pub(crate) evidence: Bytes,
    /// JSON object: what was handed in, with the outcome, and with form fields in their declared types under `data`.
    pub(crate) task_result: Bytes,
}

impl HandedIn {
    /// A bare yes or no.
    ///
    /// # Errors
    /// `TaskResultInvalid` when the task is not answered with one.
    pub(crate) fn decision(task: &HumanTask, approve: bool, comment: &str) -> Result<Self, ServiceError> {
        let outcome = task.plain_outcome(approve).ok_or_else(|| {
            wrong(format!(
                "this task is answered with one of: {}",
                task.outcomes().join(", ")
            ))
        })?;
        let mut handed_in = Self::default();
        handed_in.set("outcome", &Value::from(outcome));
        if !comment.is_empty() {
            handed_in.set("comment", &Value::from(comment));
        }
        Ok(handed_in)
    }

    /// Adds a member, or replaces it.
    pub(crate) fn set(&mut self, name: &str, value: &Value) {
        // A value that exists in memory can be written.
        if let Ok(raw) = serde_json::value::to_raw_value(value) {
            self.members.retain(|(key, _)| key != name);
            self.members.push((name.to_owned(), raw));
        }
    }

    pub(super) fn raw(&self, name: &str) -> Option<&RawValue> {
        let found = self.members.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, raw)| &**raw).filter(|raw| raw.get() != "null")
    }

    fn value(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    pub(super) fn data(&self) -> Map<String, Value> {
        match self.value("data") {
            Some(Value::Object(data)) => data,
            _ => Map::new(),
        }
    }
}

impl Checked {
    /// Nothing: for a task that is closed already.
    pub(crate) fn empty() -> Self {
        Self {
            outcome: String::new(),
            comment: String::new(),
            evidence: Bytes::new(),
            task_result: Bytes::new(),
        }
    }
}

/// Whether this is an answer that means yes.
pub(crate) fn is_positive_decision(outcome: &str) -> bool {
    is_positive(outcome)
}

/// Checks an answer against its task.
///
/// # Errors
/// `TaskResultInvalid`, saying what is missing or wrong.
pub(crate) fn check_answer(task: &HumanTask, handed_in: &HandedIn) -> Result<Checked, ServiceError> {
    let data = handed_in.data();
    let outcome = outcome(task, handed_in, &data)?;
    let comment = comment(task, handed_in)?;
    let evidence = evidence(task, handed_in, &data)?;
    let task_result = if task.form_schema.is_empty() {
        as_handed_in(&outcome, handed_in)
    } else {
        let document = form(task, &outcome, handed_in, data)?;
        let mut result = json!({"outcome": outcome, "data": document});
        for name in ["comment", "evidence"] {
            if let Some(value) = handed_in.value(name) {
                result[name] = value;
            }
        }
        result.to_string().into_bytes()
    };
    Ok(Checked {
        outcome,
        comment,
        evidence,
        task_result: task_result.into(),
    })
}

pub(super) fn outcome(
    task: &HumanTask,
    handed_in: &HandedIn,
    data: &Map<String, Value>,
) -> Result<String, ServiceError> {
    let known = || task.outcomes().join(", ");
    let outcome = match handed_in.value("outcome") {
        Some(Value::String(outcome)) if !outcome.is_empty() => outcome,
        Some(Value::String(_)) | None => {
            let approved = handed_in
                .value("approved")
                .or_else(|| data.get("approved").cloned());
            let plain = approved.and_then(|a| a.as_bool());
            let plain = plain.and_then(|yes| task.plain_outcome(yes)).map(str::to_owned);
            plain.ok_or_else(|| {
                wrong(format!(
                    "task_result.outcome is required; it is one of: {}",
                    known()
                ))
            })?
        }
        Some(_) => return Err(wrong("task_result.outcome must be a string")),
    };
    if !task.accepts(&outcome) {
        return Err(wrong(format!("task_result.outcome must be one of: {}", known())));
    }
    Ok(outcome)
}

pub(super) fn comment(task: &HumanTask, handed_in: &HandedIn) -> Result<String, ServiceError> {
    let comment = match handed_in.value("comment") {
        Some(Value::String(comment)) => comment,
        None => String::new(),
        Some(_) => return Err(wrong("task_result.comment must be a string")),
    };
    if comment.chars().count() > TASK_COMMENT_CHARS_MAX {
        return Err(wrong(format!(
            "task_result.comment is longer than {TASK_COMMENT_CHARS_MAX} characters"
        )));
    }
    if task.needs_comment() && comment.trim().is_empty() {
        return Err(wrong("this task needs a comment; send task_result.comment"));
    }
    Ok(comment)
}

pub(super) fn evidence(
    task: &HumanTask,
    handed_in: &HandedIn,
    data: &Map<String, Value>,
) -> Result<Bytes, ServiceError> {
    let given = handed_in
        .value("evidence")
        .or_else(|| data.get("evidence").cloned());
    let given = given.filter(|value| !is_blank(value));
    match given {
        Some(evidence) => Ok(evidence.to_string().into()),
        None if task.evidence_required => Err(wrong(
            "this task needs evidence; send task_result.evidence or task_result.data.evidence",
        )),
        None => Ok(Bytes::new()),
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The document that the form is about, which it accepts.
fn form(
    task: &HumanTask,
    outcome: &str,
    handed_in: &HandedIn,
    data: Map<String, Value>,
) -> Result<Value, ServiceError> {
    let form = Form::read(&task.form_schema, "this task")?;
    let document = form_document(&form, outcome, handed_in, data);
    form.check(&document)?;
    Ok(document)
}

/// The document that a form is about: `data` under all other members, in the types of the form.
pub(super) fn form_document(
    form: &Form,
    outcome: &str,
    handed_in: &HandedIn,
    mut document: Map<String, Value>,
) -> Value {
    for (name, _) in &handed_in.members {
        if name != "data"
            && let Some(value) = handed_in.value(name)
        {
            document.insert(name.clone(), value);
        }
    }
    document.insert("outcome".into(), outcome.into());
    let known = names(&form.schema);
    for name in OWN_MEMBERS {
        if !known.contains(name) {
            document.remove(name);
        }
    }
    let yes_or_no = property(&form.schema, "approved").is_some_and(is_yes_or_no);
    if yes_or_no && !document.contains_key("approved") {
        document.insert("approved".into(), is_positive(outcome).into());
    }
    coerce(&form.schema, &mut document);
    Value::Object(document)
}

/// The object as it came, with its outcome.
fn as_handed_in(outcome: &str, handed_in: &HandedIn) -> Vec<u8> {
    let mut out = format!("{{\"outcome\":{}", Value::from(outcome)).into_bytes();
    for (name, raw) in handed_in.members.iter().filter(|(name, _)| name != "outcome") {
        out.extend_from_slice(format!(",{}:", Value::from(name.as_str())).as_bytes());
        out.extend_from_slice(raw.get().as_bytes());
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::TaskType;

    fn handed_in(task_result: Value) -> HandedIn {
        let Value::Object(members) = task_result else {
            panic!("not an object")
        };
        let mut handed_in = HandedIn::default();
        for (name, value) in &members {
            handed_in.set(name, value);
        }
        handed_in
    }

    fn check(task: &HumanTask, task_result: Value) -> Result<Value, String> {
        match check_answer(task, &handed_in(task_result)) {
            Ok(checked) => Ok(serde_json::from_slice(&checked.task_result).unwrap()),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::TaskResultInvalid);
                Err(error.message)
            }
        }
    }

    fn task(task_type: TaskType) -> HumanTask {
        HumanTask {
            task_type: task_type.into(),
            ..HumanTask::default()
        }
    }

    #[test]
    fn the_outcome_is_required_known_and_derived() {
        let approval = task(TaskType::Approval);
        assert!(
            check(&approval, json!({}))
                .unwrap_err()
                .contains("approved, rejected")
        );
        assert!(
            check(&approval, json!({"outcome": "maybe"}))
                .unwrap_err()
                .contains("one of")
        );
        assert!(
            check(&approval, json!({"outcome": 1}))
                .unwrap_err()
                .contains("string")
        );
        assert_eq!(
            check(&approval, json!({"approved": false})).unwrap()["outcome"],
            "rejected"
        );
        assert_eq!(
            check(&approval, json!({"data": {"approved": true}})).unwrap()["outcome"],
            "approved"
        );
        let assignment = task(TaskType::Assignment);
        assert_eq!(
            check(&assignment, json!({"approved": true})).unwrap()["outcome"],
            "assigned"
        );
    }

    #[test]
    fn comment_and_evidence_must_say_something() {
        let clarification = task(TaskType::Clarification);
        let provided =
            |comment: Value| check(&clarification, json!({"outcome": "provided", "comment": comment}));
        assert!(provided(json!("  ")).unwrap_err().contains("comment"));
        assert!(provided(json!("x".repeat(2_001))).unwrap_err().contains("2000"));
        assert_eq!(provided(json!("here")).unwrap()["comment"], "here");
        let proof = HumanTask {
            evidence_required: true,
            ..HumanTask::default()
        };
        for blank in [json!(null), json!(""), json!([]), json!({})] {
            let answer = json!({"outcome": "approved", "evidence": blank});
            assert!(check(&proof, answer).unwrap_err().contains("evidence"));
        }
        assert!(
            check(
                &proof,
                json!({"outcome": "approved", "data": {"evidence": ["url"]}})
            )
            .is_ok()
        );
    }

    /// What the command line sends: texts beside the outcome.
    #[test]
    fn a_form_is_checked_as_one_document_in_its_own_types() {
        let form = HumanTask {
            form_schema: json!({
                "type": "object", "required": ["approved", "days"], "additionalProperties": false,
                "properties": {"approved": {"type": "boolean"},
                               "days": {"type": "integer", "minimum": 1, "maximum": 90}},
            })
            .to_string()
            .into(),
            ..HumanTask::default()
        };
        let wrong = check(&form, json!({"outcome": "approved", "days": "365"})).unwrap_err();
        assert!(
            wrong.contains("days: 365 is greater than the maximum of 90"),
            "{wrong}"
        );
        assert!(
            check(&form, json!({"outcome": "approved"}))
                .unwrap_err()
                .contains("days")
        );
        assert!(
            check(&form, json!({"outcome": "approved", "days": "x"}))
                .unwrap_err()
                .contains("days")
        );
        let good = check(
            &form,
            json!({"outcome": "rejected", "comment": "no", "data": {"days": "1"}, "days": "30"}),
        );
        assert_eq!(
            good.unwrap(),
            json!({"outcome": "rejected", "comment": "no", "data": {"approved": false, "days": 30}})
        );
        let named = HumanTask {
            form_schema: json!({"required": ["outcome"], "properties": {"outcome": {"const": "approved"}}})
                .to_string()
                .into(),
            ..HumanTask::default()
        };
        assert!(check(&named, json!({"outcome": "approved"})).is_ok());
        assert!(check(&named, json!({"outcome": "rejected"})).is_err());
    }

    #[test]
    fn without_a_form_everything_stays_as_it_was_written() {
        let handed_in = HandedIn {
            members: vec![
                (
                    "amount".to_owned(),
                    RawValue::from_string("1.50".to_owned()).unwrap(),
                ),
                (
                    "approved".to_owned(),
                    RawValue::from_string("true".to_owned()).unwrap(),
                ),
            ],
        };
        let checked = check_answer(&HumanTask::default(), &handed_in).unwrap();
        assert_eq!(
            &checked.task_result[..],
            br#"{"outcome":"approved","amount":1.50,"approved":true}"#
        );
    }
}
