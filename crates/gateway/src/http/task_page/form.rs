//! The fields of a form as controls, filled with what was sent or with the defaults of the schema.

use maud::{Markup, html};
use serde_json::Value;

use super::view::Mistakes;
use crate::forms::{Field, FieldKind, Posted, field_name};

/// JSON up to this length is shown indented.
const INDENTED_BYTES_MAX: usize = 2 * 1024;

/// What the controls show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled<'f> {
    /// Absent when the form is shown for the first time.
    pub(super) posted: Option<&'f Posted>,
}

impl Filled<'_> {
    /// The text under a name that is no field of the schema.
    pub(super) fn named(&self, name: &str) -> &str {
        self.posted
            .and_then(|posted| posted.text(name))
            .unwrap_or_default()
    }

    fn text(&self, field: &Field) -> String {
        match self.posted {
            Some(posted) => posted.of_field(field).unwrap_or_default().to_owned(),
            None => match (&field.default, &field.kind) {
                (None | Some(Value::Null), _) => String::new(),
                (Some(Value::Array(items)), FieldKind::Lines(_)) => {
                    items.iter().map(shown).collect::<Vec<_>>().join("\n")
                }
                (Some(value), FieldKind::Json) => json(value),
                (Some(value), _) => shown(value),
            },
        }
    }

    /// Whether the choice at `position`, which stands for `value`, is taken.
    fn takes(&self, field: &Field, position: &str, value: &Value) -> bool {
        match self.posted {
            Some(posted) => posted.all_of_field(field).contains(&position),
            None => match &field.default {
                Some(Value::Array(items)) if matches!(field.kind, FieldKind::Choices(_)) => {
                    items.contains(value)
                }
                default => default.as_ref() == Some(value),
            },
        }
    }
}

/// A value without quotes where it needs none.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Indented where that costs little: what is shown comes back with the answer, whose size is bounded.
fn json(value: &Value) -> String {
    let short = value.to_string();
    if short.len() > INDENTED_BYTES_MAX {
        return short;
    }
    serde_json::to_string_pretty(value).unwrap_or(short)
}

pub(super) fn id(field: &Field) -> String {
    format!("f{}", field.number)
}

pub(super) fn fields(fields: &[Field], filled: Filled<'_>, mistakes: &Mistakes<'_>) -> Markup {
    html! { @for field in fields { (one(field, filled, mistakes)) } }
}

fn one(field: &Field, filled: Filled<'_>, mistakes: &Mistakes<'_>) -> Markup {
    let problem = mistakes.of_field(field);
    let class = if problem.is_some() { "field wrong" } else { "field" };
    let many = matches!(
        field.kind,
        FieldKind::YesNo | FieldKind::Choices(_) | FieldKind::Tick(_) | FieldKind::Group(_)
    );
    // Of one radio button nobody can say that it is wrong; of all of them together one can.
    let radios = matches!(field.kind, FieldKind::YesNo);
    let (invalid, required) = (radios && problem.is_some(), radios && field.required);
    let is_group = matches!(field.kind, FieldKind::Group(_));
    html! {
        div class=(class) {
            @if many {
                fieldset role=[radios.then_some("radiogroup")] aria-invalid=[invalid.then_some("true")]
                    aria-required=[required.then_some("true")] id=[set_id(field)] class=[is_group.then_some("group")]
                    aria-describedby=[described(field, problem.is_some())] {
                    legend { (label(field)) }
                    (notes(field, problem))
                    (control(field, filled, mistakes))
                }
            } @else {
                label for=(id(field)) { (label(field)) }
                (notes(field, problem))
                (control(field, filled, mistakes))
            }
        }
    }
}

/// A group is what a problem of it leads to; of choices that is the first one.
fn set_id(field: &Field) -> Option<String> {
    matches!(field.kind, FieldKind::Group(_)).then(|| id(field))
}

fn label(field: &Field) -> Markup {
    let asks = !matches!(field.kind, FieldKind::Fixed(_) | FieldKind::Group(_));
    html! { (field.label) @if asks && !field.required { span class="soft" { " (optional)" } } }
}

/// Ids of what is said about a field, for those who hear the page.
fn described(field: &Field, wrong: bool) -> Option<String> {
    let id = id(field);
    match (field.hints.is_empty(), wrong) {
        (true, false) => None,
        (false, false) => Some(format!("{id}-hint")),
        (true, true) => Some(format!("{id}-problem")),
        (false, true) => Some(format!("{id}-hint {id}-problem")),
    }
}

fn notes(field: &Field, problem: Option<&str>) -> Markup {
    let id = id(field);
    html! {
        @if !field.hints.is_empty() { p class="hint" id=(format!("{id}-hint")) { (field.hints.join(" ")) } }
        @if let Some(problem) = problem { p class="problem" id=(format!("{id}-problem")) { (problem) } }
    }
}

fn control(field: &Field, filled: Filled<'_>, mistakes: &Mistakes<'_>) -> Markup {
    let (id, name) = (id(field), field_name(field));
    let wrong = mistakes.of_field(field).is_some();
    let described = described(field, wrong);
    let invalid = wrong.then_some("true");
    let line = |input: &str, mode: Option<&str>| {
        html! {
            input class="line" type=(input) id=(id) name=(name) value=(filled.text(field)) inputmode=[mode]
                aria-describedby=[&described] aria-invalid=[invalid] aria-required=[field.required.then_some("true")];
        }
    };
    let area = |class: &str| {
        html! {
            textarea class=(class) id=(id) name=(name) rows="4" aria-describedby=[&described] aria-invalid=[invalid]
                aria-required=[field.required.then_some("true")] { "\n" (filled.text(field)) }
        }
    };
    match &field.kind {
        FieldKind::Text { input } => line(input, None),
        // Not type=number: what is no number would be lost before anyone could say so.
        FieldKind::Whole => line("text", Some("numeric")),
        FieldKind::Number => line("text", Some("decimal")),
        FieldKind::LongText | FieldKind::Lines(_) => area("line"),
        FieldKind::Json => area("line code"),
        FieldKind::Fixed(value) => html! { output id=(id) { (shown(value)) } },
        FieldKind::YesNo => {
            let choices = [("true", Value::Bool(true)), ("false", Value::Bool(false))];
            let choices = choices.map(|(key, value)| (key.to_owned(), value));
            options(field, filled, "radio", None, &choices)
        }
        FieldKind::Choices(values) => options(field, filled, "checkbox", invalid, &positions(values)),
        FieldKind::Tick(value) => {
            let choices = positions(std::slice::from_ref(value));
            options(field, filled, "checkbox", invalid, &choices)
        }
        FieldKind::Choice(values) => html! {
            select class="line" id=(id) name=(name) aria-describedby=[&described] aria-invalid=[invalid]
                aria-required=[field.required.then_some("true")] {
                option value="" { "Choose …" }
                @for (key, value) in positions(values) {
                    option value=(key) selected[filled.takes(field, &key, &value)] { (shown(&value)) }
                }
            }
        },
        FieldKind::Group(inner) => fields(inner, filled, mistakes),
    }
}

fn positions(values: &[Value]) -> Vec<(String, Value)> {
    let numbered = values.iter().enumerate();
    numbered
        .map(|(n, value)| (n.to_string(), value.clone()))
        .collect()
}

fn options(
    field: &Field,
    filled: Filled<'_>,
    input: &str,
    invalid: Option<&str>,
    choices: &[(String, Value)],
) -> Markup {
    let name = field_name(field);
    html! {
        @for (n, (key, value)) in choices.iter().enumerate() {
            @let id = if n == 0 { id(field) } else { format!("{}-{n}", id(field)) };
            label class="option" for=(id) {
                input type=(input) id=(id) name=(name) value=(key) aria-invalid=[invalid]
                    checked[filled.takes(field, key, value)];
                @match value {
                    Value::Bool(true) => "Yes",
                    Value::Bool(false) => "No",
                    other => (shown(other)),
                }
            }
        }
    }
}
