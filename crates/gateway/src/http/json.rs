//! Request bodies: one lenient reader whose errors name the field.

use baton_protocol::limits::{ADDRESS_CHARS_MAX, JSON_DEPTH_MAX};
use baton_protocol::proto::internal::{Member, Payload};
use baton_protocol::{ErrorCode, ServiceError};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::time;

/// A JSON object whose values stay as the client wrote them. The last of two equal keys wins.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonObject {
    /// Where this object sits in the body, for messages: empty, or `intent.`, `agents[0].` …
    path: String,
    members: Vec<(String, Box<RawValue>)>,
}

impl JsonObject {
    /// Reads a request body. An empty one is an empty object.
    ///
    /// # Errors
    /// `BadRequest` when it is not JSON or a string in it is no text, `InvalidArgument` when it is nested too deeply or not an object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ServiceError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        check_depth(body)?;
        check_text(body)?;
        if body.trim_ascii_start().first() != Some(&b'{') {
            let valid: Result<&RawValue, _> = serde_json::from_slice(body);
            valid.map_err(|e| bad_json(&e))?;
            return Err(invalid("the body must be a JSON object"));
        }
        let members: Members = serde_json::from_slice(body).map_err(|e| bad_json(&e))?;
        Ok(Self {
            path: String::new(),
            members: members.0,
        })
    }

    /// The field under `name`, as it stands; `null` reads as absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&RawValue> {
        let found = self.members.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value).filter(|v| v.get() != "null")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// `name` with the path to this object, for messages.
    pub(crate) fn field(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(key, _)| key.as_str())
    }

    pub(crate) fn into_members(self) -> Vec<(String, Box<RawValue>)> {
        self.members
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Gives the fields of camelCase clients their snake_case names, unless those are there too.
    pub(crate) fn alias(&mut self, pairs: &[(&str, &str)]) {
        for (camel, snake) in pairs {
            if self.has(snake) {
                self.members.retain(|(key, _)| key != camel);
            } else if let Some((key, _)) = self.members.iter_mut().rev().find(|(key, _)| key == camel) {
                (*snake).clone_into(key);
            }
        }
    }

    fn decode<'a, T: Deserialize<'a>>(&'a self, name: &str, what: &str) -> Result<Option<T>, ServiceError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let decoded = serde_json::from_str(raw.get());
        decoded
            .map(Some)
            .map_err(|_| invalid(format!("{}{name} must be {what}", self.path)))
    }

    /// A string; an empty one reads as absent.
    pub(crate) fn text(&self, name: &str, chars_max: usize) -> Result<Option<String>, ServiceError> {
        let text = self.decode::<String>(name, "a string")?;
        let text = text.filter(|t| !t.is_empty());
        match &text {
            Some(t) if t.chars().count() > chars_max => Err(invalid(format!(
                "{}{name} is longer than {chars_max} characters",
                self.path
            ))),
            _ => Ok(text),
        }
    }

    pub(crate) fn required_text(&self, name: &str, chars_max: usize) -> Result<String, ServiceError> {
        self.text(name, chars_max)?
            .ok_or_else(|| invalid(format!("{}{name} is required", self.path)))
    }

    /// An agent address: too long for one is refused with the code that other malformed ones get.
    pub(crate) fn address(&self, name: &str) -> Result<Option<String>, ServiceError> {
        self.text(name, ADDRESS_CHARS_MAX).map_err(|mut error| {
            if self.decode::<String>(name, "a string").is_ok() {
                error.code = ErrorCode::InvalidAgentAddress;
            }
            error
        })
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ServiceError> {
        self.decode(name, "true or false")
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ServiceError> {
        self.decode(name, "an integer of 0 or more")
    }

    pub(crate) fn decimal(&self, name: &str) -> Result<Option<f64>, ServiceError> {
        self.decode(name, "a number")
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, ServiceError> {
        self.decode(name, "a list of strings")
    }

    pub(crate) fn positive(&self, name: &str) -> Result<Option<u32>, ServiceError> {
        match self.decode::<u32>(name, "an integer of 1 or more")? {
            Some(0) => Err(invalid(format!(
                "{}{name} must be an integer of 1 or more",
                self.path
            ))),
            found => Ok(found),
        }
    }

    /// An RFC 3339 instant in unix milliseconds.
    pub(crate) fn time_ms(&self, name: &str) -> Result<Option<u64>, ServiceError> {
        let Some(text) = self.text(name, 64)? else {
            return Ok(None);
        };
        let parsed = time::parse_ms(&text);
        parsed.map(Some).ok_or_else(|| {
            invalid(format!(
                "{}{name} must be an RFC 3339 date and time after 1970, such as 2026-05-01T10:00:00Z",
                self.path
            ))
        })
    }

    pub(crate) fn uuid(&self, name: &str) -> Result<Option<String>, ServiceError> {
        let Some(text) = self.text(name, 64)? else {
            return Ok(None);
        };
        let parsed = uuid::Uuid::try_parse(&text);
        let parsed = parsed.map_err(|_| invalid(format!("{}{name} must be a UUID", self.path)))?;
        Ok(Some(parsed.to_string()))
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, ServiceError> {
        let members = self.decode::<Members>(name, "an object")?;
        Ok(members.map(|members| Self {
            path: format!("{}{name}.", self.path),
            members: members.0,
        }))
    }

    /// The objects of an array; an absent array is empty.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Self>, ServiceError> {
        let list = self.decode::<Vec<Members>>(name, "an array of objects")?;
        let numbered = list.unwrap_or_default().into_iter().enumerate();
        Ok(numbered
            .map(|(index, members)| Self {
                path: format!("{}{name}[{index}].", self.path),
                members: members.0,
            })
            .collect())
    }

    /// An object as opaque bytes.
    pub(crate) fn object_bytes(&self, name: &str) -> Result<Option<Bytes>, ServiceError> {
        match self.raw(name) {
            Some(raw) if !raw.get().starts_with('{') => {
                Err(invalid(format!("{}{name} must be an object", self.path)))
            }
            raw => Ok(raw.map(|r| Bytes::copy_from_slice(r.get().as_bytes()))),
        }
    }

    /// Any JSON value as opaque bytes.
    pub(crate) fn payload(&self, name: &str) -> Option<Payload> {
        self.raw(name).map(|raw| json_payload(raw.get().as_bytes()))
    }

    /// The members of an object, each value as it stands.
    pub(crate) fn members(&self, name: &str) -> Result<Option<Vec<Member>>, ServiceError> {
        Ok(self.object(name)?.map(|object| {
            let members = object.members.into_iter();
            members
                .map(|(key, value)| Member {
                    key,
                    value: Bytes::copy_from_slice(value.get().as_bytes()),
                })
                .collect()
        }))
    }

    /// The members whose keys are not `known`, as one object.
    pub(crate) fn rest(&self, known: &[&str]) -> Payload {
        let mut out = super::render::Object::new();
        for (key, value) in self
            .members
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            out.raw(key, value.get().as_bytes());
        }
        json_payload(&out.finish())
    }
}

/// Any JSON value, as it stands.
///
/// # Errors
/// `BadRequest` when it is not JSON or a string in it is no text, `InvalidArgument` when it is nested too deeply.
pub(crate) fn parse_value(bytes: &[u8]) -> Result<Box<RawValue>, ServiceError> {
    check_depth(bytes)?;
    check_text(bytes)?;
    serde_json::from_slice(bytes).map_err(|e| bad_json(&e))
}

/// Opaque JSON bytes.
pub(crate) fn json_payload(bytes: &[u8]) -> Payload {
    Payload {
        data: Bytes::copy_from_slice(bytes),
        content_type: String::new(),
    }
}

fn check_depth(body: &[u8]) -> Result<(), ServiceError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(invalid(format!(
                "the body is nested deeper than {JSON_DEPTH_MAX} levels"
            )));
        }
    }
    Ok(())
}

/// Refuses halves of surrogate pairs. They are legal JSON but no text: stored, one would break every strict reader of
/// the intent and of the stream it is in.
fn check_text(body: &[u8]) -> Result<(), ServiceError> {
    let unit = |at: usize| {
        let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = body[at..].iter().position(|&byte| byte == b'\\') {
        at += found;
        at += match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                return Err(ServiceError::new(
                    ErrorCode::BadRequest,
                    "a string in the body holds half of a surrogate pair; send valid Unicode",
                ));
            }
            Some(_) => 6,
            // Another escape: whatever follows the backslash belongs to it.
            None => 2,
        };
        if at >= body.len() {
            break;
        }
    }
    Ok(())
}

pub(super) fn bad_json(error: &serde_json::Error) -> ServiceError {
    ServiceError::new(
        ErrorCode::BadRequest,
        format!(
            "the body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        ),
    )
}

/// A request that is well-formed but says something we cannot accept.
pub(crate) fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgument, message)
}

/// The members of an object in the order they came.
#[derive(Debug)]
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_bytes_stay_as_received() {
        let body = br#"{"payload": {"n": 1.50, "z":1, "a" : "\u00e9"} }"#;
        let object = JsonObject::parse(body).unwrap();
        let payload = object.payload("payload").unwrap();
        assert_eq!(&payload.data[..], br#"{"n": 1.50, "z":1, "a" : "\u00e9"}"#);
    }

    #[test]
    fn errors_name_the_field() {
        let object = JsonObject::parse(br#"{"a": 5, "o": {"n": -1}, "t": "soon", "e": ""}"#).unwrap();
        assert_eq!(object.text("a", 9).unwrap_err().message, "a must be a string");
        let nested = object.object("o").unwrap().unwrap();
        assert!(
            nested
                .positive("n")
                .unwrap_err()
                .message
                .starts_with("o.n must be")
        );
        assert!(
            object
                .time_ms("t")
                .unwrap_err()
                .message
                .starts_with("t must be an RFC 3339")
        );
        assert_eq!(object.text("e", 9).unwrap(), None);
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(JsonObject::parse(deep(JSON_DEPTH_MAX - 1).as_bytes()).is_ok());
        let error = JsonObject::parse(deep(JSON_DEPTH_MAX).as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let text = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(500));
        assert!(JsonObject::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn halves_of_surrogate_pairs_are_refused_wherever_they_are() {
        for body in [
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"a":"\ud83d\ud83d\ude00"}"#,
            r#"{"a":"\ud83d-\ude00"}"#,
            r#"{"\uDFFF":1}"#,
            r#"{"a":"\\\ud800"}"#,
        ] {
            let error = JsonObject::parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{body}");
            assert!(error.message.contains("surrogate"), "{body}: {error}");
        }
        for body in [
            r#"{"a":"\ud83d\ude00 \u00e9\u0000\n"}"#,
            r#"{"a":"\\ud800"}"#,
            r#"{"a":"C:\\"}"#,
        ] {
            assert!(JsonObject::parse(body.as_bytes()).is_ok(), "{body}");
        }
    }

    #[test]
    fn broken_bodies_are_told_apart_from_wrong_ones() {
        for (body, code) in [
            ("{", ErrorCode::BadRequest),
            ("[1,]", ErrorCode::BadRequest),
            ("{} x", ErrorCode::BadRequest),
            ("[1]", ErrorCode::InvalidArgument),
            ("\"x\"", ErrorCode::InvalidArgument),
        ] {
            assert_eq!(
                JsonObject::parse(body.as_bytes()).unwrap_err().code,
                code,
                "{body}"
            );
        }
        assert!(JsonObject::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(JsonObject::parse(b"  ").unwrap().is_empty());
    }
}
