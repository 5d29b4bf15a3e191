//! What a form's schema says about the members of its document, references followed.

use std::collections::BTreeSet;

use serde_json::Value;

/// References that lead to references.
pub(super) const REFERENCES_MAX: usize = 24;
/// Keywords whose schemas, or lists of schemas, are about the same document.
const SAME_DOCUMENT: [&str; 6] = ["allOf", "anyOf", "oneOf", "if", "then", "else"];
/// Keywords that ask for more when a member is there.
const DEPENDENT: [&str; 3] = ["dependentRequired", "dependentSchemas", "dependencies"];

/// Follows references into the same schema; the schema was checked to have no others, and none in circles.
pub(super) fn resolve<'s>(root: &'s Value, mut part: &'s Value) -> &'s Value {
    for _ in 0..REFERENCES_MAX {
        match target(root, part) {
            Some(found) => part = found,
            None => break,
        }
    }
    part
}

/// The schema of a member of the document; `None` when it has none of its own.
pub(super) fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    let found = resolve(schema, schema).get("properties")?.get(name)?;
    Some(resolve(schema, found))
}

/// Whether a value is true or false, or perhaps `null`.
pub(super) fn is_yes_or_no(part: &Value) -> bool {
    match part.get("type") {
        Some(Value::String(name)) => name == "boolean",
        Some(Value::Array(names)) => {
            names.iter().any(|name| name == "boolean")
                && names.iter().all(|name| name == "boolean" || name == "null")
        }
        _ => false,
    }
}

/// Names of members that the schema describes or asks for, wherever it does.
pub(super) fn names(schema: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    collect(schema, schema, &mut found);
    found
}

/// What an accepted schema describes is bounded, references followed, and so is this.
fn collect<'s>(root: &'s Value, part: &'s Value, found: &mut BTreeSet<&'s str>) {
    found.extend(
        part.get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|p| p.keys())
            .map(String::as_str),
    );
    found.extend(strings(part.get("required")));
    if let Some(target) = target(root, part) {
        collect(root, target, found);
    }
    for key in SAME_DOCUMENT {
        match part.get(key) {
            Some(Value::Array(parts)) => parts.iter().for_each(|part| collect(root, part, found)),
            Some(part) => collect(root, part, found),
            None => {}
        }
    }
    for key in DEPENDENT {
        let dependent = part.get(key).and_then(Value::as_object);
        for asked in dependent.into_iter().flat_map(|members| members.values()) {
            found.extend(strings(Some(asked)));
            collect(root, asked, found);
        }
    }
}

fn target<'s>(root: &'s Value, part: &Value) -> Option<&'s Value> {
    let pointer = part.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer)
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = list.and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_found_wherever_a_schema_speaks_of_them() {
        let schema = json!({
            "$ref": "#/$defs/root",
            "$defs": {
                "root": {
                    "required": ["a"], "properties": {"b": {"$ref": "#/$defs/flag"}},
                    "oneOf": [{"required": ["c"]}, {"properties": {"d": {}}}],
                    "if": {"properties": {"e": {}}}, "then": {"required": ["f"]},
                    "dependentRequired": {"b": ["g"]}, "dependentSchemas": {"b": {"required": ["h"]}},
                    "properties_of_others": {"properties": {"x": {}}},
                },
                "flag": {"$ref": "#/$defs/maybe"},
                "maybe": {"type": ["boolean", "null"]},
            },
        });
        let found: Vec<&str> = names(&schema).into_iter().collect();
        assert_eq!(found, ["a", "b", "c", "d", "e", "f", "g", "h"]);
        assert!(property(&schema, "b").is_some_and(is_yes_or_no));
        assert_eq!(property(&schema, "a"), None);
        for other in [
            json!({"type": ["boolean", "string"]}),
            json!({"type": ["null"]}),
            json!({}),
        ] {
            assert!(!is_yes_or_no(&other), "{other}");
        }
    }
}
