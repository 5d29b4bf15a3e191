//! What a browser sent for a form, read into the document that the form's schema is about.

use serde_json::{Map, Value};

use super::fields::{Field, FieldKind, Scalar};
use super::problems::{Place, Problem};

/// Names of the form's fields begin with this; then follows the pointer of the field.
const FIELD_PREFIX: &str = "data";
/// Nesting of a text of JSON.
const JSON_DEPTH_MAX: usize = baton_protocol::limits::JSON_DEPTH_MAX;

/// Names and values as a form was posted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Posted {
    pairs: Vec<(String, String)>,
}

impl Posted {
    /// From pairs in the order in which they came. Line ends become those of Unix.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let unix = |text: String| text.replace("\r\n", "\n");
        Self {
            pairs: pairs.into_iter().map(|(k, v)| (k, unix(v))).collect(),
        }
    }

    /// The value under a name; an empty one reads as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// What was sent for a field of the form.
    pub(crate) fn of_field(&self, field: &Field) -> Option<&str> {
        self.text(&field_name(field))
    }

    /// Everything that was sent for a field.
    pub(crate) fn all_of_field(&self, field: &Field) -> Vec<&str> {
        let name = field_name(field);
        let found = self.pairs.iter().filter(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_str()).collect()
    }
}

/// The name of a field's control.
pub(crate) fn field_name(field: &Field) -> String {
    format!("{FIELD_PREFIX}{}", field.pointer)
}

/// The document that was handed in, and what in it cannot even be read.
pub(crate) fn document(fields: &[Field], posted: &Posted) -> (Value, Vec<Problem>) {
    let mut problems = Vec::new();
    let document = match fields {
        [only] if only.pointer.is_empty() => {
            read(only, posted, &mut problems).unwrap_or_else(|| Value::Object(Map::new()))
        }
        fields => Value::Object(members(fields, posted, &mut problems)),
    };
    (document, problems)
}

fn members(fields: &[Field], posted: &Posted, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut members = Map::new();
    for field in fields {
        if let Some(value) = read(field, posted, problems) {
            members.insert(field.name.clone(), value);
        }
    }
    members
}

/// `None` for a field that was left empty. What does not fit stays text, for the schema to refuse.
fn read(field: &Field, posted: &Posted, problems: &mut Vec<Problem>) -> Option<Value> {
    let text = posted.of_field(field);
    let empty_list = || field.required.then(|| Value::Array(Vec::new()));
    match &field.kind {
        FieldKind::Text { .. } | FieldKind::LongText => text.map(Value::from),
        FieldKind::Whole | FieldKind::Number => text.map(str::trim).filter(|t| !t.is_empty()).map(number),
        FieldKind::YesNo => text.map(yes_or_no),
        FieldKind::Choice(values) => text.map(|text| chosen(values, text)),
        FieldKind::Choices(values) => {
            let texts = posted.all_of_field(field);
            let chosen: Vec<Value> = texts.iter().map(|text| chosen(values, text)).collect();
            if chosen.is_empty() {
                empty_list()
            } else {
                Some(chosen.into())
            }
        }
        FieldKind::Lines(scalar) => {
            let lines = text.unwrap_or_default().lines().map(str::trim);
            let items: Vec<Value> = lines
                .filter(|l| !l.is_empty())
                .map(|l| line(*scalar, l))
                .collect();
            if items.is_empty() {
                empty_list()
            } else {
                Some(items.into())
            }
        }
        FieldKind::Fixed(value) => Some(value.clone()),
        FieldKind::Tick(value) => text.map(|text| chosen(std::slice::from_ref(value), text)),
        FieldKind::Json => {
            let text = text.filter(|text| !text.trim().is_empty())?;
            match json(text) {
                Ok(value) => Some(value),
                Err(message) => {
                    problems.push(Problem {
                        place: Place::Field(field.pointer.clone()),
                        message,
                    });
                    None
                }
            }
        }
        FieldKind::Group(fields) => {
            // What is always there is no reason to be there: the group would never be left out.
            if !field.required && !has_input(fields, posted) {
                return None;
            }
            Some(Value::Object(members(fields, posted, problems)))
        }
    }
}

/// Whether anything was written or chosen in these fields.
fn has_input(fields: &[Field], posted: &Posted) -> bool {
    fields.iter().any(|field| {
        if let FieldKind::Group(inner) = &field.kind {
            return has_input(inner, posted);
        }
        let texts = posted.all_of_field(field);
        texts.iter().any(|text| !text.trim().is_empty())
    })
}

fn number(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_number() => value,
        _ => Value::from(text),
    }
}

fn yes_or_no(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        other => Value::from(other),
    }
}

/// Controls name choices by their position.
fn chosen(values: &[Value], text: &str) -> Value {
    let found = text.parse::<usize>().ok().and_then(|n| values.get(n));
    found.cloned().unwrap_or_else(|| Value::from(text))
}

fn line(scalar: Scalar, text: &str) -> Value {
    match scalar {
        Scalar::Text => Value::from(text),
        Scalar::Number => number(text),
        Scalar::YesNo => match text.to_ascii_lowercase().as_str() {
            "yes" | "true" => Value::Bool(true),
            "no" | "false" => Value::Bool(false),
            _ => Value::from(text),
        },
    }
}

fn json(text: &str) -> Result<Value, String> {
    if depth(text) > JSON_DEPTH_MAX {
        return Err(format!("This is nested deeper than {JSON_DEPTH_MAX} levels."));
    }
    serde_json::from_str(text).map_err(|error| {
        format!(
            "This is not valid JSON (line {}, column {}).",
            error.line(),
            error.column()
        )
    })
}

/// Most brackets that are open at one time, those in strings not counted.
fn depth(text: &str) -> usize {
    let (mut open, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !in_string => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::super::fields::fields;
    use super::*;
    use serde_json::json;

    fn read_form(schema: &Value, pairs: &[(&str, &str)]) -> (Value, Vec<Problem>) {
        let form = fields(schema.to_string().as_bytes());
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        document(&form, &Posted::new(pairs))
    }

    fn schema() -> Value {
        json!({"type": "object", "required": ["list", "place", "kind"], "properties": {
            "text": {"type": "string"}, "whole": {"type": "integer"}, "rate": {"type": "number"},
            "sure": {"type": "boolean"}, "size": {"enum": ["s", 3]},
            "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}},
            "list": {"type": "array", "items": {"type": "number"}}, "kind": {"const": "k"}, "free": {},
            "place": {"type": "object", "properties": {"city/town": {"type": "string"}}},
        }})
    }

    #[test]
    fn controls_become_values_of_the_declared_types() {
        let (document, problems) = read_form(
            &schema(),
            &[
                ("data/text", "a\r\nb"),
                ("data/whole", " 5 "),
                ("data/rate", "1e2"),
                ("data/sure", "false"),
                ("data/size", "1"),
                ("data/tags", "0"),
                ("data/tags", "2"),
                ("data/list", "1\r\n\r\n 2.5 \r\nthree"),
                ("data/free", " {\"x\": [1]} "),
                ("data/place/city~1town", "Rome"),
                ("data/unknown", "1"),
                ("outcome", "approved"),
            ],
        );
        assert_eq!(
            document,
            json!({
                "text": "a\nb", "whole": 5, "rate": 100.0, "sure": false, "size": 3, "tags": ["a", "c"],
                "list": [1, 2.5, "three"], "kind": "k", "free": {"x": [1]}, "place": {"city/town": "Rome"},
            })
        );
        assert_eq!(problems, []);
    }

    #[test]
    fn what_is_empty_is_absent_and_what_does_not_fit_stays_for_the_schema_to_refuse() {
        let (document, problems) = read_form(&schema(), &[("data/text", ""), ("data/whole", "  ")]);
        assert_eq!(document, json!({"list": [], "kind": "k", "place": {}}));
        assert_eq!(problems, []);
        let wrong = [
            ("data/whole", "five"),
            ("data/sure", "maybe"),
            ("data/size", "9"),
            ("data/rate", "[1]"),
        ];
        let (document, _) = read_form(&schema(), &wrong);
        assert_eq!(
            document,
            json!({"whole": "five", "sure": "maybe", "size": "9", "rate": "[1]", "list": [], "kind": "k", "place": {}})
        );
    }

    #[test]
    fn nothing_is_said_that_nobody_said() {
        let schema = json!({"properties": {
            "accept": {"const": true},
            "car": {"type": "object", "required": ["kind", "plates", "owner"], "properties": {
                "kind": {"const": "car"}, "plates": {"type": "array", "items": {"type": "string"}},
                "owner": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            }},
        }});
        let of = |pairs: &[(&str, &str)]| read_form(&schema, pairs).0;
        assert_eq!(of(&[("data/car/owner/name", "")]), json!({}));
        assert_eq!(of(&[("data/accept", "0")]), json!({"accept": true}));
        assert_eq!(
            of(&[("data/car/owner/name", "Ada")]),
            json!({"car": {"kind": "car", "plates": [], "owner": {"name": "Ada"}}})
        );
    }

    #[test]
    fn json_that_cannot_be_read_is_named() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        for (text, why) in [
            ("{", "not valid JSON"),
            ("{'a':1}", "line 1"),
            (&deep, "deeper than 64"),
        ] {
            let (_, problems) = read_form(&schema(), &[("data/free", text)]);
            assert_eq!(problems[0].place, Place::Field("/free".into()));
            assert!(problems[0].message.contains(why), "{}", problems[0].message);
        }
        let (whole, problems) = read_form(&json!({}), &[("data", "[1, \"[[\"]")]);
        assert_eq!((whole, problems.len()), (json!([1, "[["]), 0));
    }
}
