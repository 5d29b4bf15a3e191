//! A form's schema as fields that a person can fill in without a script.
//!
//! What has no field of its own is written as JSON, so every schema that is accepted can be answered; whether an answer
//! fits is decided by the schema, never here.

use serde_json::Value;

use super::ordered::Ordered;

/// Fields of one form; a schema with more is one text of JSON.
const FIELDS_MAX: usize = 200;
/// Fieldsets in fieldsets; what lies deeper is a text of JSON.
const GROUPS_DEPTH_MAX: usize = 4;
/// Choices of one field; with more of them it is a text of JSON.
const CHOICES_MAX: usize = 100;
/// References that lead to references.
const REFERENCES_MAX: usize = 24;
/// From this length on a text gets several lines.
const LINE_CHARS_MAX: u64 = 200;
/// Members of the answer that the page asks for by itself.
const OWN_MEMBERS: [&str; 3] = ["outcome", "comment", "evidence"];

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// 1, 2, 3 … in the form.
    pub(crate) number: usize,
    /// Where its value goes, as a JSON pointer into the document.
    pub(crate) pointer: String,
    /// Its last part, as the document has it.
    pub(crate) name: String,
    pub(crate) label: String,
    /// What the schema says about it, and what it asks for.
    pub(crate) hints: Vec<String>,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
    pub(crate) kind: FieldKind,
}

/// What a field takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldKind {
    /// One line; `input` is the type of the HTML control.
    Text {
        input: &'static str,
    },
    LongText,
    /// JSON numbers without a fraction.
    Whole,
    Number,
    YesNo,
    /// One of these values.
    Choice(Vec<Value>),
    /// Any of these values.
    Choices(Vec<Value>),
    /// One value a line.
    Lines(Scalar),
    /// A value that nobody can change.
    Fixed(Value),
    /// Anything, written as JSON.
    Json,
    Group(Vec<Field>),
}

/// What a line of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text,
    Number,
    YesNo,
}

/// The fields of a form's schema, in the order in which it was written; none of one that is no JSON.
pub(crate) fn fields(schema: &[u8]) -> Vec<Field> {
    let Ok(schema) = serde_json::from_slice::<Ordered>(schema) else {
        return Vec::new();
    };
    let mut reader = Reader {
        root: &schema,
        left: FIELDS_MAX,
    };
    let root = reader.resolve(&schema);
    let plain = matches!(kind_name(root), None | Some("object")) && root.get("properties").is_some();
    if plain && let Some(fields) = reader.group(root, "", 0) {
        return fields;
    }
    vec![Field {
        number: 1,
        pointer: String::new(),
        name: String::new(),
        label: text(root, "title").unwrap_or("Answer").to_owned(),
        hints: hints(root, &FieldKind::Json),
        required: true,
        default: root.get("default").map(Ordered::to_value),
        kind: FieldKind::Json,
    }]
}

struct Reader<'s> {
    root: &'s Ordered,
    left: usize,
}

impl<'s> Reader<'s> {
    /// Follows references into the same schema; the schema was checked to have no others, and none in circles.
    fn resolve(&self, mut part: &'s Ordered) -> &'s Ordered {
        for _ in 0..REFERENCES_MAX {
            let target = part.get("$ref").and_then(Ordered::as_str);
            let found = target
                .and_then(|t| t.strip_prefix('#'))
                .and_then(|pointer| self.root.pointer(pointer));
            match found {
                Some(found) => part = found,
                None => break,
            }
        }
        part
    }

    /// `None` when there are more fields than a page should have.
    fn group(&mut self, part: &'s Ordered, pointer: &str, depth: usize) -> Option<Vec<Field>> {
        let properties = part.get("properties")?.members();
        let required = required(part);
        let mut fields = Vec::new();
        for (name, property) in properties {
            if depth == 0 && is_own(name, self.resolve(property)) {
                continue;
            }
            self.left = self.left.checked_sub(1)?;
            let number = FIELDS_MAX - self.left;
            let pointer = format!("{pointer}/{}", escaped(name));
            let is_required = required.contains(&name.as_str());
            let field = self.field(name, property, pointer, depth)?;
            fields.push(Field {
                number,
                required: is_required,
                ..field
            });
        }
        Some(fields)
    }

    fn field(&mut self, name: &str, property: &'s Ordered, pointer: String, depth: usize) -> Option<Field> {
        let part = self.resolve(property);
        let kind = self.kind(part, &pointer, depth)?;
        // What stands beside a reference describes this use of it.
        let said = |key: &str| text(property, key).or_else(|| text(part, key));
        let mut hints = hints(part, &kind);
        if let Some(description) = said("description") {
            hints.insert(0, description.to_owned());
        }
        Some(Field {
            name: name.to_owned(),
            label: said("title").map_or_else(|| spaced(name), str::to_owned),
            hints,
            number: 0,
            required: false,
            default: property
                .get("default")
                .or_else(|| part.get("default"))
                .map(Ordered::to_value),
            kind,
            pointer,
        })
    }

    fn kind(&mut self, part: &'s Ordered, pointer: &str, depth: usize) -> Option<FieldKind> {
        if let Some(value) = part.get("const") {
            return Some(FieldKind::Fixed(value.to_value()));
        }
        if let Some(values) = choices(part) {
            return Some(FieldKind::Choice(values));
        }
        Some(match kind_name(part) {
            Some("string") => string(part),
            Some("integer") => FieldKind::Whole,
            Some("number") => FieldKind::Number,
            Some("boolean") => FieldKind::YesNo,
            Some("array") => self.array(part),
            Some("object") if depth < GROUPS_DEPTH_MAX && part.get("properties").is_some() => {
                FieldKind::Group(self.group(part, pointer, depth + 1)?)
            }
            _ => FieldKind::Json,
        })
    }

    fn array(&self, part: &'s Ordered) -> FieldKind {
        let Some(items) = part.get("items").map(|items| self.resolve(items)) else {
            return FieldKind::Json;
        };
        if let Some(values) = choices(items) {
            return FieldKind::Choices(values);
        }
        match kind_name(items) {
            Some("string") => FieldKind::Lines(Scalar::Text),
            Some("integer" | "number") => FieldKind::Lines(Scalar::Number),
            Some("boolean") => FieldKind::Lines(Scalar::YesNo),
            _ => FieldKind::Json,
        }
    }
}

/// Asked for by the page itself: the outcome, what goes with it, and a yes or no that follows from it.
fn is_own(name: &str, part: &Ordered) -> bool {
    OWN_MEMBERS.contains(&name) || (name == "approved" && kind_name(part) == Some("boolean"))
}

/// The only type there is beside `null`.
fn kind_name(part: &Ordered) -> Option<&str> {
    let named = part.get("type")?;
    if let Some(name) = named.as_str() {
        return Some(name);
    }
    let names = named.items().iter().filter_map(Ordered::as_str);
    let mut names = names.filter(|name| *name != "null");
    names.next().filter(|_| names.next().is_none())
}

fn choices(part: &Ordered) -> Option<Vec<Value>> {
    let values = part.get("enum")?.items();
    let plain = values.iter().all(|v| matches!(v, Ordered::Plain(_)));
    (plain && (1..=CHOICES_MAX).contains(&values.len()))
        .then(|| values.iter().map(Ordered::to_value).collect())
}

fn string(part: &Ordered) -> FieldKind {
    let longest = part.get("maxLength").and_then(|max| max.to_value().as_u64());
    let input = match text(part, "format") {
        Some("date") => "date",
        Some("time" | "date-time") => "text",
        Some("email") => "email",
        Some("uri") => "url",
        Some(_) => "text",
        None if part.get("pattern").is_some() || longest.is_some_and(|max| max <= LINE_CHARS_MAX) => "text",
        None if longest.is_none() => "text",
        None => return FieldKind::LongText,
    };
    FieldKind::Text { input }
}

fn hints(part: &Ordered, kind: &FieldKind) -> Vec<String> {
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

fn required(part: &Ordered) -> Vec<&str> {
    let names = part.get("required").map_or(&[][..], Ordered::items);
    names.iter().filter_map(Ordered::as_str).collect()
}

fn text<'v>(part: &'v Ordered, key: &str) -> Option<&'v str> {
    part.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// `grant_duration_days` as people write it.
fn spaced(name: &str) -> String {
    let text = name.replace(['_', '-'], " ");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => "(no name)".to_owned(),
    }
}

/// A name as part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(schema: &str) -> Vec<Field> {
        fields(schema.as_bytes())
    }

    #[test]
    fn every_kind_of_property_gets_its_field_in_the_written_order() {
        let form = of(r##"{"type":"object","required":["note","days"],"properties":{
                "zip":{"type":"string","pattern":"^[0-9]{5}$"},
                "note":{"type":"string","maxLength":1000,"description":"Why?"},
                "days":{"$ref":"#/$defs/days","title":"For how long"},
                "rate":{"type":["number","null"],"exclusiveMinimum":0},
                "sure":{"type":"boolean"},
                "on":{"type":"string","format":"date"},
                "size":{"enum":["s","m",3,null]},
                "tags":{"type":"array","items":{"enum":["a","b"]}},
                "names":{"type":"array","items":{"type":"string"},"maxItems":3},
                "kind":{"const":"x"},
                "free":{},
                "either":{"type":["string","integer"]},
                "where/to":{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}},
                "outcome":{"type":"string"},"approved":{"type":"boolean"},"comment":{"type":"string"}
            },"$defs":{"days":{"type":"integer","minimum":1,"maximum":90,"default":7}}}"##);
        let shape: Vec<_> = form.iter().map(|f| (f.pointer.as_str(), &f.kind)).collect();
        let city = Field {
            number: 14,
            pointer: "/where~1to/city".into(),
            name: "city".into(),
            label: "City".into(),
            hints: vec![],
            required: true,
            default: None,
            kind: FieldKind::Text { input: "text" },
        };
        assert_eq!(
            shape,
            [
                ("/zip", &FieldKind::Text { input: "text" }),
                ("/note", &FieldKind::LongText),
                ("/days", &FieldKind::Whole),
                ("/rate", &FieldKind::Number),
                ("/sure", &FieldKind::YesNo),
                ("/on", &FieldKind::Text { input: "date" }),
                (
                    "/size",
                    &FieldKind::Choice(vec![json!("s"), json!("m"), json!(3), json!(null)])
                ),
                ("/tags", &FieldKind::Choices(vec![json!("a"), json!("b")])),
                ("/names", &FieldKind::Lines(Scalar::Text)),
                ("/kind", &FieldKind::Fixed(json!("x"))),
                ("/free", &FieldKind::Json),
                ("/either", &FieldKind::Json),
                ("/where~1to", &FieldKind::Group(vec![city])),
            ]
        );
        let days = &form[2];
        assert_eq!((days.label.as_str(), days.required), ("For how long", true));
        assert_eq!(days.hints, ["From 1 to 90."]);
        assert_eq!(days.default, Some(json!(7)));
        assert_eq!(form[1].hints, ["Why?", "At most 1000 characters."]);
    }

    #[test]
    fn what_has_no_fields_is_one_text_of_json() {
        let many: String = (0..=FIELDS_MAX).map(|n| format!("\"f{n}\":{{}},")).collect();
        let many = format!("{{\"properties\":{{{many}\"last\":{{}}}}}}");
        for schema in [
            "{}",
            r#"{"oneOf":[{"type":"object"},{"type":"array"}]}"#,
            r#"{"type":"array","items":{"type":"string"}}"#,
            &many,
        ] {
            let form = of(schema);
            assert_eq!((form.len(), &form[0].kind), (1, &FieldKind::Json), "{schema}");
            assert_eq!(form[0].pointer, "");
        }
        assert!(of("no json").is_empty());
    }

    #[test]
    fn groups_end_at_a_depth() {
        let deep = (0..10).fold(
            json!({"type": "string"}),
            |inner, _| json!({"type": "object", "properties": {"in": inner}}),
        );
        let mut form = of(&deep.to_string());
        let mut depth = 0;
        while let FieldKind::Group(inner) = form.remove(0).kind {
            form = inner;
            depth += 1;
        }
        assert_eq!(depth, GROUPS_DEPTH_MAX);
    }
}
