//! Opaque bytes with a media type.

use base64::Engine as _;
use baton_protocol::proto::v1;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};

const JSON: &str = "application/json";

/// What is sent and what comes back. Baton stores the bytes as they are.
///
/// ```
/// use baton_client::Payload;
///
/// let payload = Payload::json(&serde_json::json!({"order_id": "ORD-8842"})).unwrap();
/// let order: serde_json::Value = payload.decode().unwrap();
/// assert_eq!(order["order_id"], "ORD-8842");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload {
    data: Bytes,
    content_type: String,
}

impl Payload {
    /// Bytes of any media type.
    #[must_use]
    pub fn bytes(data: impl Into<Bytes>, content_type: impl Into<String>) -> Self {
        Self {
            data: data.into(),
            content_type: content_type.into(),
        }
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self {
            data: serde_json::to_vec(value)?.into(),
            content_type: String::new(),
        })
    }

    /// The bytes as they were sent.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The media type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        if self.content_type.is_empty() {
            JSON
        } else {
            &self.content_type
        }
    }

    /// Whether the media type is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let essence = self.content_type().split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(JSON) || essence.ends_with("+json")
    }

    /// Reads the bytes as JSON, whatever the media type.
    ///
    /// # Errors
    /// When they are not JSON, or not of this shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }

    pub(crate) fn from_wire(payload: Option<v1::Payload>) -> Option<Self> {
        payload.map(|p| Self {
            data: p.data,
            content_type: p.content_type,
        })
    }

    pub(crate) fn into_wire(self) -> v1::Payload {
        v1::Payload {
            data: self.data,
            content_type: self.content_type,
        }
    }
}

/// Sizes only: payloads do not belong into logs.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes, {})", self.data.len(), self.content_type())
    }
}

impl From<serde_json::Value> for Payload {
    fn from(value: serde_json::Value) -> Self {
        Self::bytes(value.to_string(), String::new())
    }
}

/// Nothing to say: an empty JSON object.
impl From<()> for Payload {
    fn from((): ()) -> Self {
        Self::bytes("{}", String::new())
    }
}

/// JSON as itself; other media types as `{"content_type", "data_base64"}`.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_json()
            && let Ok(value) = self.decode::<serde_json::Value>()
        {
            return value.serialize(serializer).map_err(S::Error::custom);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("content_type", self.content_type())?;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.data);
        map.serialize_entry("data_base64", &text)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_stays_json_and_bytes_stay_bytes() {
        let payload = Payload::from(json!({"a": 1}));
        assert_eq!(serde_json::to_value(&payload).unwrap(), json!({"a": 1}));
        let payload = Payload::bytes(&[0xff, 0][..], "application/octet-stream");
        assert_eq!(
            serde_json::to_value(&payload).unwrap(),
            json!({"content_type": "application/octet-stream", "data_base64": "/wA="})
        );
        assert!(Payload::bytes("x", "application/cloudevents+json; charset=utf-8").is_json());
        assert_eq!(
            Payload::from_wire(Some(payload.clone().into_wire())),
            Some(payload)
        );
    }

    #[test]
    fn what_says_json_and_is_not_is_kept_as_bytes() {
        let value = serde_json::to_value(Payload::bytes("{", "")).unwrap();
        assert_eq!(value["data_base64"], "ew==");
        assert!(!format!("{:?}", Payload::bytes("secret", "")).contains("secret"));
    }
}
