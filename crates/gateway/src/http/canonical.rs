//! The canonical form of a request body: what is hashed, and how documents are stored.

use std::collections::BTreeMap;

use baton_protocol::{ErrorCode, ServiceError};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::json::bad_json;

/// SHA-256 of the canonical form: keys sorted, no white space, numbers as written.
///
/// # Errors
/// `BadRequest` when a string in it is no valid text.
pub(crate) fn canonical_hash(body: &[u8]) -> Result<[u8; 32], ServiceError> {
    Ok(Sha256::digest(canonical(body)?).into())
}

/// The canonical form itself.
///
/// # Errors
/// `BadRequest` when a string in it is no valid text.
pub(crate) fn canonical(body: &[u8]) -> Result<Vec<u8>, ServiceError> {
    let mut canonical = Vec::with_capacity(body.len());
    let trimmed = body.trim_ascii();
    let text = std::str::from_utf8(if trimmed.is_empty() { b"{}" } else { trimmed });
    let text = text.map_err(|_| ServiceError::new(ErrorCode::BadRequest, "the body is not UTF-8"))?;
    write_canonical(text, &mut canonical).map_err(|e| bad_json(&e))?;
    Ok(canonical)
}

fn write_canonical(text: &str, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            out.push(b'{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key)?;
                out.push(b':');
                write_canonical(value.get(), out)?;
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_canonical(item.get(), out)?;
            }
            out.push(b']');
        }
        Some(b'"') => {
            let string: String = serde_json::from_str(text)?;
            serde_json::to_writer(out, &string)?;
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_ignores_order_space_and_escapes_but_no_value() {
        let hash = |text: &str| canonical_hash(text.as_bytes()).unwrap();
        let one = hash(r#"{"a": 1, "b": {"c": [1, 2.0], "d": "\u00e9"}}"#);
        assert_eq!(one, hash("{\"b\":{\"d\":\"é\",\"c\":[1,2.0]},\n\"a\":1}"));
        assert_ne!(one, hash(r#"{"a": 1, "b": {"c": [2.0, 1], "d": "é"}}"#));
        // Beyond what a double can tell apart.
        assert_ne!(
            hash("[10000000000000000000001]"),
            hash("[10000000000000000000002]")
        );
        assert_eq!(hash(""), hash("{ }"));
    }
}
