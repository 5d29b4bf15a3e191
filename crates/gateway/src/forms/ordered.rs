//! JSON whose objects keep the order in which they were written, which is the order in which a form asks.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A part of a schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ordered {
    Object(Vec<(String, Ordered)>),
    Array(Vec<Ordered>),
    /// Neither object nor array.
    Plain(Value),
}

impl Ordered {
    /// A member of an object; the last one where a name comes twice.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.members()
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v)
    }

    /// Empty for anything but an object.
    pub(super) fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Object(members) => members,
            Self::Array(_) | Self::Plain(_) => &[],
        }
    }

    /// Empty for anything but an array.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            Self::Object(_) | Self::Plain(_) => &[],
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Plain(value) => value.as_str(),
            Self::Object(_) | Self::Array(_) => None,
        }
    }

    /// What a JSON pointer points to.
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Self> {
        let mut parts = pointer.split('/').skip(1);
        parts.try_fold(self, |part, name| match part {
            Self::Array(items) => items.get(name.parse::<usize>().ok()?),
            Self::Object(_) | Self::Plain(_) => part.get(&name.replace("~1", "/").replace("~0", "~")),
        })
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Object(members) => members.iter().map(|(k, v)| (k.clone(), v.to_value())).collect(),
            Self::Array(items) => items.iter().map(Self::to_value).collect(),
            Self::Plain(value) => value.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyJson;
        impl<'de> Visitor<'de> for AnyJson {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Plain(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
                Ok(Ordered::Plain(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
                Ok(Ordered::Plain(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
                Ok(Ordered::Plain(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
                Ok(Ordered::Plain(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
                Ok(Ordered::Plain(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Ordered, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(Ordered::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Ordered, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = from.next_entry()? {
                    members.push(member);
                }
                Ok(Ordered::Object(members))
            }
        }
        from.deserialize_any(AnyJson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_stay_where_they_were_written() {
        let text = r##"{"z":1,"a":{"y":[true,null,"t"],"b/c":-2.5},"z":2}"##;
        let read: Ordered = serde_json::from_str(text).unwrap();
        let names: Vec<_> = read.members().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "z"]);
        assert_eq!(read.to_value(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(read.pointer("/z").unwrap().to_value(), json!(2));
        assert_eq!(read.pointer("/a/y/2").unwrap().as_str(), Some("t"));
        assert_eq!(read.pointer("/a/b~1c").unwrap().to_value(), json!(-2.5));
        assert_eq!(read.pointer("/a/y/9"), None);
        assert_eq!(read.pointer(""), Some(&read));
    }
}
