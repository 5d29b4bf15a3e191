//! What is wrong with an answer, said to the person who gave it.

use baton_protocol::limits::TASK_COMMENT_CHARS_MAX;
use baton_protocol::proto::internal::HumanTask;
use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};

use super::answer::{HandedIn, comment, evidence, form_document, outcome};
use super::members::{is_yes_or_no, property};
use super::schema::{Form, clip};

/// Problems that are named at one time.
pub(super) const PROBLEMS_MAX: usize = 20;

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Outcome,
    Comment,
    Evidence,
    /// A JSON pointer into the document of the form.
    Field(String),
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// A sentence.
    pub(crate) message: String,
}

/// Everything that keeps the task from accepting this answer; nothing when it will.
pub(crate) fn problems(task: &HumanTask, handed_in: &HandedIn) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |place, message: String| problems.push(Problem { place, message });
    let data = handed_in.data();
    let outcome = outcome(task, handed_in, &data);
    if outcome.is_err() {
        add(Place::Outcome, "Choose one of the answers.".into());
    }
    if comment(task, handed_in).is_err() {
        let message = if handed_in.raw("comment").is_some() {
            format!("Write at most {TASK_COMMENT_CHARS_MAX} characters.")
        } else {
            "Write a comment.".into()
        };
        add(Place::Comment, message);
    }
    if evidence(task, handed_in, &data).is_err() {
        add(Place::Evidence, "Give the evidence for your answer.".into());
    }
    if !task.form_schema.is_empty() {
        let outcome = outcome.unwrap_or_default();
        match Form::read(&task.form_schema, "this task") {
            Ok(form) => {
                let document = form_document(&form, &outcome, handed_in, data);
                let found = form.problems(&document).into_iter();
                let found: Vec<Problem> = found
                    .map(|problem| Problem {
                        place: asked_at(&form, problem.place),
                        ..problem
                    })
                    .filter(|problem| !problems.iter().any(|said| said.place == problem.place))
                    .collect();
                problems.extend(found);
            }
            Err(error) => add(Place::Field(String::new()), error.message),
        }
    }
    problems
}

/// Where the page asks for a value of the document: some have no field, see [`super::fields`].
fn asked_at(form: &Form, place: Place) -> Place {
    let Place::Field(pointer) = &place else {
        return place;
    };
    match pointer.split('/').nth(1) {
        Some("outcome") => Place::Outcome,
        Some("comment") => Place::Comment,
        Some("evidence") => Place::Evidence,
        Some("approved") if property(&form.schema, "approved").is_some_and(is_yes_or_no) => Place::Outcome,
        _ => place,
    }
}

/// A violation as a problem of the field that has to change.
pub(super) fn of_violation(violation: &ValidationError<'_>) -> Problem {
    let mut pointer = violation.instance_path().to_string();
    if let ValidationErrorKind::Required { property } = violation.kind()
        && let Some(name) = property.as_str()
    {
        pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
    }
    Problem {
        place: Place::Field(pointer),
        message: message(violation),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what has no words of ours is said in the library's"
)]
fn message(violation: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match violation.kind() {
        Kind::Required { .. } | Kind::MinLength { limit: 1 } => "This is required.".into(),
        Kind::Type { kind } => type_message(kind),
        Kind::Minimum { limit } => format!("Must be at least {limit}."),
        Kind::Maximum { limit } => format!("Must be at most {limit}."),
        Kind::ExclusiveMinimum { limit } => format!("Must be more than {limit}."),
        Kind::ExclusiveMaximum { limit } => format!("Must be less than {limit}."),
        Kind::MultipleOf { multiple_of } => format!("Must be a multiple of {multiple_of}."),
        Kind::MinLength { limit } => format!("Write at least {limit} characters."),
        Kind::MaxLength { limit } => format!("Write at most {limit} characters."),
        Kind::MinItems { limit } => format!("At least {limit} entries are needed."),
        Kind::MaxItems { limit } => format!("At most {limit} entries are allowed."),
        Kind::UniqueItems => "No entry may come twice.".into(),
        Kind::Pattern { pattern } => format!("Does not match the pattern {pattern}"),
        Kind::Format { format } => format!("This is no {format}."),
        Kind::Enum { .. } => "Choose one of the values.".into(),
        Kind::Constant { expected_value } => format!("Must be {expected_value}."),
        _ => clip(&violation.to_string()),
    }
}

fn type_message(kind: &TypeKind) -> String {
    let name = match kind {
        TypeKind::Single(name) => name.to_string(),
        TypeKind::Multiple(names) => names
            .iter()
            .map(|name| name.to_string())
            .filter(|name| name != "null")
            .collect::<Vec<_>>()
            .join(" or "),
    };
    match name.as_str() {
        "integer" => "Enter a whole number.".into(),
        "number" => "Enter a number.".into(),
        "boolean" => "Choose yes or no.".into(),
        "array" => "Enter a list.".into(),
        "object" => "Enter a JSON object.".into(),
        "string" => "Enter a text.".into(),
        other => format!("Must be of type {other}."),
    }
}

/// A name that no schema gives a field: for what is wrong with the form as a whole.
pub(super) fn whole(message: &str) -> Problem {
    Problem {
        place: Place::Field(String::new()),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(task: &HumanTask, members: Value) -> Vec<(Place, String)> {
        let mut handed_in = HandedIn::default();
        for (name, value) in members.as_object().unwrap() {
            handed_in.set(name, value);
        }
        let found = problems(task, &handed_in).into_iter();
        found.map(|p| (p.place, p.message)).collect()
    }

    fn field(pointer: &str, message: &str) -> (Place, String) {
        (Place::Field(pointer.into()), message.into())
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let task = HumanTask {
            required_comment: true,
            evidence_required: true,
            form_schema: json!({"required": ["a/b"], "properties": {"a/b": {}}})
                .to_string()
                .into(),
            ..HumanTask::default()
        };
        assert_eq!(
            of(&task, json!({"outcome": "maybe"})),
            [
                (Place::Outcome, "Choose one of the answers.".into()),
                (Place::Comment, "Write a comment.".into()),
                (Place::Evidence, "Give the evidence for your answer.".into()),
                field("/a~1b", "This is required."),
            ]
        );
        let long = "x".repeat(TASK_COMMENT_CHARS_MAX + 1);
        let given = json!({"outcome": "approved", "comment": long, "evidence": "e", "data": {"a/b": 1}});
        assert_eq!(of(&task, given)[0].1, "Write at most 2000 characters.");
        let right = json!({"outcome": "approved", "comment": "c", "evidence": "e", "data": {"a/b": 1}});
        assert_eq!(of(&task, right), []);
    }

    #[test]
    fn what_the_page_asks_for_itself_is_said_where_it_asks() {
        let schema = json!({"$ref": "#/$defs/root", "$defs": {
            "yes": {"type": ["boolean", "null"], "enum": [true]},
            "root": {
                "required": ["comment", "evidence", "approved", "outcome"],
                "properties": {"approved": {"$ref": "#/$defs/yes"}, "evidence": {"type": "string", "minLength": 3}},
            },
        }});
        let task = HumanTask {
            form_schema: schema.to_string().into(),
            ..HumanTask::default()
        };
        let places = |members: Value| -> Vec<Place> { of(&task, members).into_iter().map(|p| p.0).collect() };
        let mut missing = places(json!({"outcome": "rejected"}));
        missing.sort_by_key(|place| format!("{place:?}"));
        assert_eq!(missing, [Place::Comment, Place::Evidence, Place::Outcome]);
        let short = json!({"outcome": "approved", "comment": "c", "evidence": "e"});
        assert_eq!(places(short), [Place::Evidence]);
        let right = json!({"outcome": "approved", "comment": "c", "evidence": "eee"});
        assert_eq!(places(right), []);
    }

    #[test]
    fn violations_are_said_in_plain_words_where_they_are() {
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "days": {"type": "integer", "minimum": 1, "maximum": 90},
            "name": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-z]*$"},
            "size": {"enum": ["s"]},
            "list": {"type": "array", "maxItems": 1, "uniqueItems": true, "items": {"type": "number"}},
            "in": {"type": "object", "properties": {"sure": {"type": ["boolean", "null"]}}},
        }});
        let task = HumanTask {
            form_schema: schema.to_string().into(),
            ..HumanTask::default()
        };
        for (data, expected) in [
            (
                json!({"days": "five"}),
                vec![field("/days", "Enter a whole number.")],
            ),
            (json!({"days": 365}), vec![field("/days", "Must be at most 90.")]),
            (
                json!({"name": "x"}),
                vec![field("/name", "Write at least 2 characters.")],
            ),
            (
                json!({"name": "XYZ"}),
                vec![field("/name", "Does not match the pattern ^[a-z]*$")],
            ),
            (
                json!({"size": "9"}),
                vec![field("/size", "Choose one of the values.")],
            ),
            (json!({"list": ["x"]}), vec![field("/list/0", "Enter a number.")]),
            (
                json!({"list": [1, 1]}),
                vec![
                    field("/list", "At most 1 entries are allowed."),
                    field("/list", "No entry may come twice."),
                ],
            ),
            (
                json!({"in": {"sure": "x"}}),
                vec![field("/in/sure", "Choose yes or no.")],
            ),
        ] {
            let mut found = of(&task, json!({"outcome": "approved", "data": data}));
            found.sort_by(|a, b| a.1.cmp(&b.1));
            assert_eq!(found, expected, "{data}");
        }
    }
}
