//! Rows to JSON. Field order is fixed, so that the answer of a replay is the same bytes.

mod account;
mod audit;
mod delivery;
mod event;
mod intent;
mod scenario;
mod task;
mod thread;

use std::borrow::Cow;

use baton_protocol::proto::internal::Payload;
use serde_json::value::RawValue;

use super::time::render_ms;

pub(crate) use account::{account_json, agent_json, created_key_json, me_json, revoked_key_json};
pub(crate) use audit::{audit_event_json, audit_head_json};
pub(crate) use delivery::{delivery_json, replayed_json, state_name};
pub(crate) use event::{EventForm, event_json};
pub(crate) use intent::{Beside, completion_json, intent_json, view_json};
pub(crate) use scenario::scenario_json;
pub(crate) use task::open_task_json;
pub(crate) use thread::thread_json;

/// Writes one JSON object.
#[derive(Debug)]
pub(crate) struct Object(Vec<u8>);

impl Object {
    pub(crate) fn new() -> Self {
        Self(vec![b'{'])
    }

    /// `{"ok":true`, the start of every success.
    pub(crate) fn ok() -> Self {
        let mut object = Self::new();
        object.flag("ok", true);
        object
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write_string(&mut self.0, key);
        self.0.push(b':');
    }

    /// `json` must be one JSON value.
    pub(crate) fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key);
        self.0.extend_from_slice(json);
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        write_string(&mut self.0, value);
    }

    /// Leaves the field out when `value` is empty.
    pub(crate) fn text_if(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// `null` when `value` is empty.
    pub(crate) fn text_or_null(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            self.raw(key, b"null");
        } else {
            self.text(key, value);
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.raw(key, value.to_string().as_bytes());
    }

    /// Leaves the field out when `value` is 0.
    pub(crate) fn number_if(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.number(key, value);
        }
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.raw(key, if value { b"true" } else { b"false" });
    }

    pub(crate) fn time(&mut self, key: &str, unix_ms: u64) {
        self.text(key, &render_ms(unix_ms));
    }

    /// Leaves the field out when `unix_ms` is 0.
    pub(crate) fn time_if(&mut self, key: &str, unix_ms: u64) {
        if unix_ms != 0 {
            self.time(key, unix_ms);
        }
    }

    pub(crate) fn list(&mut self, key: &str, items: impl IntoIterator<Item = Vec<u8>>) {
        self.key(key);
        self.0.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(&item);
        }
        self.0.push(b']');
    }

    pub(crate) fn texts<'a>(&mut self, key: &str, items: impl IntoIterator<Item = &'a str>) {
        self.list(key, items.into_iter().map(string_json));
    }
}

/// A JSON string.
pub(crate) fn string_json(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A payload as one JSON value: its own bytes, or a description when it is not JSON.
pub(crate) fn payload_json(payload: &Payload) -> Cow<'_, [u8]> {
    if payload.data.is_empty() {
        return Cow::Borrowed(b"{}");
    }
    let json = matches!(payload.content_type.as_str(), "" | "application/json");
    if json && serde_json::from_slice::<&RawValue>(&payload.data).is_ok() {
        return Cow::Borrowed(payload.data.trim_ascii());
    }
    let mut description = Object::new();
    description.text_if("content_type", &payload.content_type);
    description.number("bytes", payload.data.len() as u64);
    Cow::Owned(description.finish())
}

/// A UUID's 16 bytes as text; empty when they are none.
pub(crate) fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_| String::new(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_spliced_or_described() {
        let payload = |data: &'static [u8], kind: &str| Payload {
            data: bytes::Bytes::from_static(data),
            content_type: kind.into(),
        };
        assert_eq!(&*payload_json(&payload(b" {\"n\":1.50}\n", "")), b"{\"n\":1.50}");
        assert_eq!(&*payload_json(&payload(b"", "")), b"{}");
        assert_eq!(
            &*payload_json(&payload(b"abc", "text/plain")),
            br#"{"content_type":"text/plain","bytes":3}"#
        );
        // Broken bytes must not break the document around them.
        assert_eq!(&*payload_json(&payload(b"{\"a\":", "")), br#"{"bytes":5}"#);
    }
}
