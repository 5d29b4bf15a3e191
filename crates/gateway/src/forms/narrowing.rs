//! Whether a new version of a schema refuses documents that the version before accepts.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Keywords that say nothing about which documents fit.
const ANNOTATIONS: [&str; 9] = [
    "$id",
    "$schema",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
];
/// Deeper parts count as different when they are not equal.
const DEPTH_MAX: usize = 24;

/// Where the new version asks for more than the old one, and how; `None` when everything that fitted still fits. Errs on
/// the safe side: what it does not understand counts as asking for more. A property that is new and optional does
/// not: documents that had it by chance are rare, and adding fields is how schemas grow.
pub(crate) fn narrowing(old: &Value, new: &Value) -> Option<String> {
    part(old, new, "", 0)
}

fn part(old: &Value, new: &Value, at: &str, depth: usize) -> Option<String> {
    if old == new || *new == Value::Bool(true) {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(format!("{} is another schema", place(at)));
    };
    if depth >= DEPTH_MAX {
        return Some(format!("{} is too deep to compare", place(at)));
    }
    let keys: HashSet<&String> = old.keys().chain(new.keys()).collect();
    let mut keys: Vec<&String> = keys.into_iter().collect();
    keys.sort();
    keys.into_iter()
        .filter(|key| !ANNOTATIONS.contains(&key.as_str()))
        .find_map(|key| keyword(key, old, new, at, depth))
}

fn keyword(
    key: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    at: &str,
    depth: usize,
) -> Option<String> {
    let (before, after) = (old.get(key), new.get(key));
    if before == after {
        return None;
    }
    let inner = |name: &str| format!("{at}/{name}");
    match (key, before, after) {
        ("properties", before, after) => {
            let none = Map::new();
            let before = before.and_then(Value::as_object).unwrap_or(&none);
            let after = after.and_then(Value::as_object).unwrap_or(&none);
            let closed = new
                .get("additionalProperties")
                .is_some_and(|v| *v != Value::Bool(true));
            before.iter().find_map(|(name, old)| match after.get(name) {
                Some(new) => part(old, new, &inner(name), depth + 1),
                None if closed => Some(format!("{} is not allowed any more", place(&inner(name)))),
                None => None,
            })
        }
        ("required" | "enum" | "type", before, Some(after)) => {
            let (before, after) = (before.map(items), items(after));
            let kept = match (key, &before) {
                // Fewer required properties, more values, more types.
                ("required", before) => after
                    .iter()
                    .all(|v| before.as_ref().is_some_and(|b| b.contains(v))),
                (_, Some(before)) => before.iter().all(|v| allows(&after, v)),
                (_, None) => false,
            };
            (!kept).then(|| format!("{} of {} asks for more", key, place(at)))
        }
        ("items" | "additionalProperties", before, Some(after)) => {
            let open = Value::Bool(true);
            part(before.unwrap_or(&open), after, &inner(key), depth + 1)
        }
        // Taken away: asks for less. Definitions are compared where they are used, which is by their text.
        (_, Some(_), None) if !key.starts_with('$') && key != "definitions" => None,
        ("$defs" | "definitions", None, Some(_)) => None,
        _ => Some(format!("{} of {} was changed or added", key, place(at))),
    }
}

fn allows(types: &[&Value], value: &Value) -> bool {
    types.contains(&value) || (value == "integer" && types.iter().any(|t| *t == "number"))
}

fn items(value: &Value) -> Vec<&Value> {
    value
        .as_array()
        .map_or_else(|| vec![value], |items| items.iter().collect())
}

fn place(at: &str) -> String {
    if at.is_empty() {
        "the document".to_owned()
    } else {
        at.trim_start_matches('/').replace('/', ".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn asking_for_less_or_the_same_is_no_narrowing() {
        let old = json!({
            "title": "Payment", "type": "object", "required": ["id", "amount"],
            "properties": {
                "id": {"type": "string", "maxLength": 20},
                "amount": {"type": "integer", "minimum": 1},
                "kind": {"enum": ["a", "b"]},
            },
        });
        for (why, new) in [
            ("annotations", {
                let mut new = old.clone();
                new["title"] = json!("Pay");
                new["properties"]["id"]["description"] = json!("what");
                new
            }),
            ("fewer required", {
                let mut new = old.clone();
                new["required"] = json!(["id"]);
                new
            }),
            ("wider values", {
                let mut new = old.clone();
                new["properties"]["amount"]["type"] = json!(["number", "null"]);
                new["properties"]["kind"]["enum"] = json!(["c", "b", "a"]);
                new["properties"]["id"]
                    .as_object_mut()
                    .unwrap()
                    .remove("maxLength");
                new
            }),
            ("a further optional property", {
                let mut new = old.clone();
                new["properties"]["note"] = json!({"type": "string"});
                new
            }),
            ("a property that is free now", {
                let mut new = old.clone();
                new["properties"].as_object_mut().unwrap().remove("kind");
                new
            }),
        ] {
            assert_eq!(narrowing(&old, &new), None, "{why}");
        }
    }

    #[test]
    fn asking_for_more_is_named() {
        let old = json!({
            "type": "object", "required": ["id"],
            "properties": {"id": {"type": ["string", "integer"]}, "tags": {"type": "array"}},
        });
        let change = |path: &str, value: Value| {
            let mut new = old.clone();
            let (parent, key) = path.rsplit_once('/').unwrap();
            new.pointer_mut(parent).unwrap()[key] = value;
            new
        };
        for (new, place) in [
            (change("/required", json!(["id", "tags"])), "required"),
            (change("/properties/id/type", json!("string")), "type of id"),
            (change("/properties/id/pattern", json!("^a")), "pattern of id"),
            (change("/properties/id/enum", json!(["a"])), "enum of id"),
            (
                change("/properties/tags/items", json!({"type": "string"})),
                "tags.items",
            ),
            (
                change("/additionalProperties", json!(false)),
                "additionalProperties",
            ),
            (change("/not", json!({})), "not of the document"),
            (json!(false), "another schema"),
        ] {
            let found = narrowing(&old, &new).unwrap_or_default();
            assert!(found.contains(place), "{new}: {found}");
        }
    }

    #[test]
    fn a_changed_definition_counts_as_more() {
        let old = json!({"$defs": {"id": {"type": "string"}}, "$ref": "#/$defs/id"});
        let new = json!({"$defs": {"id": {"type": "integer"}}, "$ref": "#/$defs/id"});
        assert!(narrowing(&old, &new).is_some());
    }
}
