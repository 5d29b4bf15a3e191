//! Accepting a form's schema, and checking a document against it.

use std::collections::HashMap;

use baton_protocol::limits::FORM_SCHEMA_BYTES_MAX;
use baton_protocol::{ErrorCode, ServiceError};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::problems::{self, PROBLEMS_MAX, Problem};
use super::wrong;

/// Values in a schema once its references are followed; bounds the work of one check.
const SCHEMA_NODES_MAX: u64 = 2_000;
/// Nesting of a schema.
const SCHEMA_DEPTH_MAX: usize = 24;
/// Patterns in a schema, and the compiled size of one.
const PATTERNS_MAX: u64 = 32;
const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// Values of a document times values of its schema: what one check may cost.
const CHECK_STEPS_MAX: u64 = 20_000_000;
/// The same where violations are named: the library collects all of them, of every branch, before we see the first.
const NAMED_STEPS_MAX: u64 = 500_000;
/// Violations that one refusal names.
const VIOLATIONS_MAX: usize = 5;
/// One violation, in characters: the library repeats the value that it refuses.
const VIOLATION_CHARS_MAX: usize = 200;
/// Keywords that change what a reference means.
const REFUSED_KEYWORDS: [&str; 5] = [
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$anchor",
];

/// Checks a schema that a client wants a form to have.
///
/// # Errors
/// `SchemaInvalid`, with `field` in front, when it is no JSON Schema or may cost too much.
pub(crate) fn check_schema(schema: &[u8], field: &str) -> Result<(), ServiceError> {
    compile(schema)
        .map(drop)
        .map_err(|why| ServiceError::new(ErrorCode::SchemaInvalid, format!("{field} {why}")))
}

fn compile(schema: &[u8]) -> Result<Form, String> {
    if schema.len() > FORM_SCHEMA_BYTES_MAX {
        return Err(format!("is larger than {FORM_SCHEMA_BYTES_MAX} bytes"));
    }
    let schema: Value = serde_json::from_slice(schema).map_err(|_| "is not valid JSON".to_owned())?;
    if !schema.is_object() {
        return Err("must be an object".to_owned());
    }
    let values = Costs::default().of(&schema, &schema, 0)?;
    let options = jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX));
    let validator = options.build(&schema).map_err(|error| {
        format!(
            "is not a JSON Schema that can be used: {}",
            clip(&error.to_string())
        )
    })?;
    Ok(Form {
        schema,
        values,
        validator,
    })
}

/// A schema that was accepted before.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) schema: Value,
    /// In the schema, references followed.
    values: u64,
    validator: Validator,
}

impl Form {
    /// # Errors
    /// `Internal` when it cannot be used after all; `what` says whose it is.
    pub(crate) fn read(schema: &[u8], what: &str) -> Result<Self, ServiceError> {
        compile(schema)
            .map_err(|why| ServiceError::new(ErrorCode::Internal, format!("the schema of {what} {why}")))
    }

    /// # Errors
    /// `TaskResultInvalid` with the first violations.
    pub(super) fn check(&self, document: &Value) -> Result<(), ServiceError> {
        match self.violations(document) {
            None => Ok(()),
            Some(violations) => Err(wrong(format!("the answer does not fit the form: {violations}"))),
        }
    }

    /// The first violations, if there are any.
    pub(crate) fn violations(&self, document: &Value) -> Option<String> {
        if let Some(verdict) = self.verdict(document) {
            return verdict.map(str::to_owned);
        }
        let mut violations = Vec::new();
        for error in self.validator.iter_errors(document).take(VIOLATIONS_MAX) {
            let place = error.instance_path().to_string();
            let place = place.trim_start_matches('/').replace('/', ".");
            let what = clip(&error.to_string());
            violations.push(if place.is_empty() {
                what
            } else {
                format!("{place}: {what}")
            });
        }
        (!violations.is_empty()).then(|| violations.join("; "))
    }

    /// The first violations, each for the person who filled in the field.
    pub(super) fn problems(&self, document: &Value) -> Vec<Problem> {
        if let Some(verdict) = self.verdict(document) {
            return verdict.map(problems::whole).into_iter().collect();
        }
        let violations = self.validator.iter_errors(document).take(PROBLEMS_MAX);
        violations
            .map(|violation| problems::of_violation(&violation))
            .collect()
    }

    /// Whether the document fits (`Some(None)`), or what is wrong where details would cost too much. `None` = it does not
    /// fit, and asking for details is cheap enough.
    fn verdict(&self, document: &Value) -> Option<Option<&'static str>> {
        let steps = values(document).saturating_mul(self.values);
        if steps > CHECK_STEPS_MAX {
            return Some(Some("the document has too many values for a schema of this size"));
        }
        if self.validator.is_valid(document) {
            return Some(None);
        }
        (steps > NAMED_STEPS_MAX).then_some(Some("something in it; it is too large to say what"))
    }
}

pub(super) fn clip(text: &str) -> String {
    if text.chars().count() <= VIOLATION_CHARS_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(VIOLATION_CHARS_MAX).collect();
    short.push('…');
    short
}

/// Values in a document, itself included. What parsed is not nested deeply.
fn values(document: &Value) -> u64 {
    match document {
        Value::Array(items) => 1 + items.iter().map(values).sum::<u64>(),
        Value::Object(members) => 1 + members.values().map(values).sum::<u64>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// How many values parts of a schema have, with what they refer to.
#[derive(Debug, Default)]
struct Costs {
    /// By reference; `None` while it is being followed.
    known: HashMap<String, Option<u64>>,
    patterns: u64,
}

impl Costs {
    fn of(&mut self, root: &Value, part: &Value, depth: usize) -> Result<u64, String> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(format!("is nested deeper than {SCHEMA_DEPTH_MAX} levels"));
        }
        let mut nodes = 1_u64;
        match part {
            Value::Object(members) => {
                for (key, value) in members {
                    if REFUSED_KEYWORDS.contains(&key.as_str()) || (key == "$id" && depth > 0) {
                        return Err(format!("uses {key}, which is not supported"));
                    }
                    self.count_patterns(key, value)?;
                    let cost = match (key.as_str(), value) {
                        ("$ref", Value::String(target)) => self.of_reference(root, target, depth)?,
                        _ => self.of(root, value, depth + 1)?,
                    };
                    nodes = nodes.saturating_add(cost);
                }
            }
            Value::Array(items) => {
                for item in items {
                    nodes = nodes.saturating_add(self.of(root, item, depth + 1)?);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if nodes > SCHEMA_NODES_MAX {
            return Err(format!(
                "describes more than {SCHEMA_NODES_MAX} values, references followed"
            ));
        }
        Ok(nodes)
    }

    fn count_patterns(&mut self, key: &str, value: &Value) -> Result<(), String> {
        self.patterns += match (key, value) {
            ("pattern", Value::String(_)) => 1,
            ("patternProperties", Value::Object(patterns)) => patterns.len() as u64,
            _ => 0,
        };
        if self.patterns > PATTERNS_MAX {
            return Err(format!("has more than {PATTERNS_MAX} patterns"));
        }
        Ok(())
    }

    fn of_reference(&mut self, root: &Value, target: &str, depth: usize) -> Result<u64, String> {
        match self.known.get(target) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => return Err(format!("refers to itself through {target}")),
            None => {}
        }
        let pointer = target.strip_prefix('#').filter(|p| p.starts_with('/'));
        let Some(found) = pointer.and_then(|p| root.pointer(p)) else {
            return Err(format!(
                "refers to {}; only references into the same schema, such as #/$defs/name, are supported",
                clip(target)
            ));
        };
        self.known.insert(target.to_owned(), None);
        let cost = self.of(root, found, depth + 1)?;
        self.known.insert(target.to_owned(), Some(cost));
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(schema: &Value) -> String {
        let bytes = serde_json::to_vec(schema).unwrap();
        match check_schema(&bytes, "form_schema") {
            Ok(()) => String::new(),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::SchemaInvalid);
                error.message
            }
        }
    }

    #[test]
    fn an_answer_costs_a_bounded_amount_whatever_the_schema() {
        let branches: Vec<Value> = (0..900).map(|_| json!({"type": "string"})).collect();
        let schema = json!({"properties": {"a": {"items": {"anyOf": branches}}}});
        let form = Form::read(&serde_json::to_vec(&schema).unwrap(), "a test").unwrap();
        let many = json!({"a": vec![0; 60_000]});
        assert!(form.violations(&many).unwrap().contains("too many values"));
        let some = json!({"a": vec![0; 2_000]});
        assert!(form.violations(&some).unwrap().contains("too large to say"));
        let few = json!({"a": [0]});
        assert!(form.violations(&few).unwrap().contains("a.0"));
        assert_eq!(form.violations(&json!({"a": ["x"]})), None);
    }

    #[test]
    fn the_patterns_of_a_schema_are_counted() {
        let with = |count: usize| {
            let parts: Vec<Value> = (0..count).map(|n| json!({"pattern": format!("x{n}")})).collect();
            json!({"allOf": parts})
        };
        assert_eq!(refused(&with(32)), "");
        assert!(refused(&with(33)).contains("patterns"));
    }

    #[test]
    fn schemas_are_bounded_before_they_are_used() {
        let laughs: Value = (1..5).fold(
            json!({"$defs": {"n0": {"type": "string"}}, "$ref": "#/$defs/n4"}),
            |mut schema, n| {
                let below = json!({"$ref": format!("#/$defs/n{}", n - 1)});
                schema["$defs"][format!("n{n}")] = json!({"allOf": vec![below; 10]});
                schema
            },
        );
        let deep = (0..40).fold(json!({}), |inner, _| json!({"not": inner}));
        for (schema, why) in [
            (json!([]), "must be an object"),
            (json!({"type": "no such type"}), "is not a JSON Schema"),
            (
                json!({"$ref": "https://example.com/s"}),
                "only references into the same schema",
            ),
            (json!({"$ref": "#"}), "only references into the same schema"),
            (
                json!({"$ref": "#/$defs/gone"}),
                "only references into the same schema",
            ),
            (
                json!({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}),
                "refers to itself",
            ),
            (json!({"$dynamicRef": "#a"}), "$dynamicRef"),
            (json!({"properties": {"a": {"$id": "x"}}}), "$id"),
            (
                json!({"$schema": "https://example.com/dialect"}),
                "is not a JSON Schema",
            ),
            (
                json!({"properties": {"a": {"pattern": "(?=a)b"}}}),
                "is not a JSON Schema",
            ),
            (
                json!({"properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}}),
                "is not a JSON Schema",
            ),
            (json!({"enum": vec![1; 3_000]}), "more than 2000 values"),
            (json!({"title": "x".repeat(40_000)}), "larger than"),
            (laughs, "more than 2000 values"),
            (deep, "nested deeper"),
        ] {
            let message = refused(&schema);
            assert!(message.starts_with("form_schema "), "{schema}");
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn usual_schemas_are_accepted() {
        for schema in [
            json!({}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}),
            json!({
                "$id": "https://example.com/form",
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"days": {"$ref": "#/$defs/days"}, "more": {"$ref": "#/$defs/days"}},
                "$defs": {"days": {"type": "integer", "minimum": 1}},
            }),
        ] {
            assert_eq!(refused(&schema), "", "{schema}");
        }
    }
}
