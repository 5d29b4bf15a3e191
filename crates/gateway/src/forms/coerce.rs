//! Values that a command line or a browser sent as text, in the type that the form declares.

use serde_json::{Map, Value};

use super::members::resolve;

/// Turns the texts of a document into what `properties` of the schema ask for. What cannot be turned stays as it is, for
/// the check to refuse.
pub(super) fn coerce(schema: &Value, document: &mut Map<String, Value>) {
    let properties = resolve(schema, schema).get("properties");
    let Some(properties) = properties.and_then(Value::as_object) else {
        return;
    };
    for (name, property) in properties {
        if let Some(Value::String(text)) = document.get(name)
            && let Some(value) = typed(resolve(schema, property).get("type"), text)
        {
            document.insert(name.clone(), value);
        }
    }
}

fn typed(declared: Option<&Value>, text: &str) -> Option<Value> {
    let names: Vec<&str> = match declared? {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    if names.contains(&"string") {
        return None;
    }
    let text = text.trim();
    names.into_iter().find_map(|name| match name {
        "boolean" => text.to_ascii_lowercase().parse().ok().map(Value::Bool),
        "integer" | "number" | "array" | "object" => {
            let value: Value = serde_json::from_str(text).ok()?;
            let fits = match name {
                "array" => value.is_array(),
                "object" => value.is_object(),
                _ => value.is_number(),
            };
            fits.then_some(value)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_become_what_the_form_declares() {
        let schema = json!({"properties": {
            "flag": {"type": "boolean"}, "days": {"type": ["integer", "null"]}, "rate": {"type": "number"},
            "list": {"type": "array"}, "text": {"type": "string"}, "either": {"type": ["integer", "string"]},
            "bad": {"type": "integer"}, "kept": {"type": "integer"}, "open": {},
            "shared": {"$ref": "#/$defs/count"},
        }, "$defs": {"count": {"type": "integer"}}});
        let mut document = json!({
            "flag": "True", "days": " 5 ", "rate": "0.5", "list": "[1,2]", "text": "7", "either": "7",
            "bad": "five", "kept": 3, "open": "1", "unknown": "1", "shared": "2",
        });
        coerce(&schema, document.as_object_mut().unwrap());
        assert_eq!(
            document,
            json!({
                "flag": true, "days": 5, "rate": 0.5, "list": [1, 2], "text": "7", "either": "7",
                "bad": "five", "kept": 3, "open": "1", "unknown": "1", "shared": 2,
            })
        );
    }
}
