//! What a form's schema asks of a value, in words.

use serde_json::Value;

use super::fields::{FieldKind, text};
use super::ordered::Ordered;

pub(super) fn hints(part: &Ordered, kind: &FieldKind) -> Vec<String> {
    let number = |key: &str| {
        part.get(key)
            .map(Ordered::to_value)
            .filter(Value::is_number)
            .map(|n| n.to_string())
    };
    let mut hints = Vec::new();
    match (number("minimum"), number("maximum")) {
        (Some(min), Some(max)) => hints.push(format!("From {min} to {max}.")),
        (Some(min), None) => hints.push(format!("At least {min}.")),
        (None, Some(max)) => hints.push(format!("At most {max}.")),
        (None, None) => {}
    }
    hints.extend(number("exclusiveMinimum").map(|min| format!("More than {min}.")));
    hints.extend(number("exclusiveMaximum").map(|max| format!("Less than {max}.")));
    hints.extend(number("multipleOf").map(|step| format!("A multiple of {step}.")));
    match (number("minLength"), number("maxLength")) {
        (Some(min), Some(max)) => hints.push(format!("{min} to {max} characters.")),
        (Some(min), None) if min != "1" => hints.push(format!("At least {min} characters.")),
        (None, Some(max)) => hints.push(format!("At most {max} characters.")),
        _ => {}
    }
    hints.extend(text(part, "pattern").map(|pattern| format!("Pattern: {pattern}")));
    match text(part, "format") {
        Some("date-time") => hints.push("Date and time, as in 2026-05-01T10:00:00Z.".to_owned()),
        Some("time") => hints.push("Time, as in 10:00:00Z.".to_owned()),
        Some("date" | "email" | "uri") | None => {}
        Some(format) => hints.push(format!("Format: {format}.")),
    }
    match (number("minItems"), number("maxItems")) {
        (Some(min), Some(max)) => hints.push(format!("{min} to {max} entries.")),
        (Some(min), None) => hints.push(format!("At least {min} entries.")),
        (None, Some(max)) => hints.push(format!("At most {max} entries.")),
        (None, None) => {}
    }
    if matches!(kind, FieldKind::Lines(_)) {
        hints.push("One entry a line.".to_owned());
    } else if *kind == FieldKind::Json {
        hints.push("Written as JSON.".to_owned());
    }
    hints
}
