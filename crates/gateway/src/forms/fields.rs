//! A form's schema as fields that a person can fill in without a script.
//!
//! What has no field of its own is written as JSON, so every schema that is accepted can be answered; whether an answer
//! fits is decided by the schema, never here.

use serde_json::Value;

use super::answer::OWN_MEMBERS;
use super::hints::hints;
use super::members::{self, REFERENCES_MAX, is_yes_or_no};
use super::ordered::Ordered;

/// Fields of one form; a schema with more is one text of JSON.
const FIELDS_MAX: usize = 200;
/// Fieldsets in fieldsets; what lies deeper is a text of JSON.
const GROUPS_DEPTH_MAX: usize = 4;
/// Choices of one field; with more of them it is a text of JSON.
const CHOICES_MAX: usize = 100;
/// From this length on a text gets several lines.
const LINE_CHARS_MAX: u64 = 200;

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
    /// This value or none.
    Tick(Value),
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
    if plain
        && each_has_its_field(&schema, root)
        && let Some(fields) = reader.group(root, "", 0)
    {
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

/// Whether the form of a task has a place for evidence.
pub(crate) fn knows_evidence(schema: &[u8]) -> bool {
    let schema = serde_json::from_slice::<Value>(schema);
    schema.is_ok_and(|schema| members::names(&schema).contains("evidence"))
}

/// Whether there is a field, or another place on the page, for every member that the schema speaks of.
fn each_has_its_field(schema: &Ordered, root: &Ordered) -> bool {
    let properties = root.get("properties").map_or(&[][..], Ordered::members);
    let has_its_own = |name: &str| properties.iter().any(|(property, _)| property == name);
    let schema = schema.to_value();
    let mut names = members::names(&schema).into_iter();
    names.all(|name| OWN_MEMBERS.contains(&name) || has_its_own(name))
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
            let mut field = self.field(name, property, pointer, depth)?;
            if let FieldKind::Fixed(value) = &field.kind
                && !is_required
            {
                // Whoever says nothing about it must not be made to say it.
                field.kind = FieldKind::Tick(value.clone());
            }
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
        let default = property.get("default").or_else(|| part.get("default"));
        let default = default.map(Ordered::to_value);
        let kind = keeping(default.as_ref(), self.kind(part, &pointer, depth)?);
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
            default,
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
    OWN_MEMBERS.contains(&name) || (name == "approved" && is_yes_or_no(&part.to_value()))
}

/// A control that gives the default back as it is when nobody touches it.
fn keeping(default: Option<&Value>, kind: FieldKind) -> FieldKind {
    let broken = |text: &str| text.contains(['\n', '\r']);
    match (&kind, default) {
        (FieldKind::Text { .. }, Some(Value::String(text))) if broken(text) => FieldKind::LongText,
        (FieldKind::Lines(scalar), Some(Value::Array(items))) => {
            let is_line = |item: &Value| match (scalar, item) {
                (Scalar::Text, Value::String(text)) => {
                    !text.is_empty() && text.trim() == text && !broken(text)
                }
                (Scalar::Number, Value::Number(_)) | (Scalar::YesNo, Value::Bool(_)) => true,
                _ => false,
            };
            if items.iter().all(is_line) {
                kind
            } else {
                FieldKind::Json
            }
        }
        _ => kind,
    }
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
        None => return FieldKind::LongText,
    };
    FieldKind::Text { input }
}

fn required(part: &Ordered) -> Vec<&str> {
    let names = part.get("required").map_or(&[][..], Ordered::items);
    names.iter().filter_map(Ordered::as_str).collect()
}

pub(super) fn text<'v>(part: &'v Ordered, key: &str) -> Option<&'v str> {
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
            kind: FieldKind::LongText,
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
                ("/kind", &FieldKind::Tick(json!("x"))),
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
            r#"{"properties":{"a":{}},"required":["b"]}"#,
            r#"{"properties":{"a":{}},"if":{"required":["a"]},"then":{"required":["b"]}}"#,
            r##"{"$ref":"#/$defs/a","properties":{"b":{}},"$defs":{"a":{"properties":{"a":{}}}}}"##,
            &many,
        ] {
            let form = of(schema);
            assert_eq!((form.len(), &form[0].kind), (1, &FieldKind::Json), "{schema}");
            assert_eq!(form[0].pointer, "");
        }
        assert!(of("no json").is_empty());
    }

    #[test]
    fn places_of_the_page_itself_are_no_fields() {
        let form = of(r##"{"$ref":"#/$defs/root","$defs":{
            "yes":{"type":["boolean","null"]},
            "root":{"required":["comment","days"],"properties":{
                "days":{"type":"integer"},"approved":{"$ref":"#/$defs/yes"},"evidence":{"type":"string"}},
                "if":{"properties":{"days":{"minimum":30}}},"then":{"required":["evidence"]}}}}"##);
        let names: Vec<&str> = form.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["days"]);
        assert!(knows_evidence(br#"{"properties":{"evidence":{}}}"#));
        assert!(!knows_evidence(br#"{"properties":{"a":{"title":"evidence"}}}"#));
    }

    #[test]
    fn a_default_gets_a_control_that_keeps_it() {
        let form = of(r#"{"required":["fixed"],"properties":{
            "open":{"type":"string"},
            "lines":{"type":"string","maxLength":20,"default":"a\nb"},
            "plain":{"type":"array","items":{"type":"string"},"default":["a","b c"]},
            "broken":{"type":"array","items":{"type":"string"},"default":["a\nb"]},
            "spaced":{"type":"array","items":{"type":"string"},"default":[" a"]},
            "fixed":{"const":1},"offered":{"const":true}}}"#);
        let kinds: Vec<&FieldKind> = form.iter().map(|field| &field.kind).collect();
        assert_eq!(
            kinds,
            [
                &FieldKind::LongText,
                &FieldKind::LongText,
                &FieldKind::Lines(Scalar::Text),
                &FieldKind::Json,
                &FieldKind::Json,
                &FieldKind::Fixed(json!(1)),
                &FieldKind::Tick(json!(true)),
            ]
        );
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
