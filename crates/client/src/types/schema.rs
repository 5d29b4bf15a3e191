//! Schemas of payloads.

use super::{Payload, text};
use baton_protocol::proto::v1;
use serde::Serialize;

/// What a schema asks of payloads, and of its own next version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SchemaMode {
    /// Payloads must fit; the next version must accept what this one accepts.
    #[default]
    Strict,
    /// Payloads must fit this version or the one before.
    Backward,
    /// Payloads that do not fit are accepted and named in the log.
    Warn,
}

impl SchemaMode {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::Strict => v1::SchemaMode::Strict,
            Self::Backward => v1::SchemaMode::Backward,
            Self::Warn => v1::SchemaMode::Warn,
        }
        .into()
    }

    fn from_wire(number: i32) -> Self {
        match v1::SchemaMode::try_from(number).unwrap_or_default() {
            v1::SchemaMode::Backward => Self::Backward,
            v1::SchemaMode::Warn => Self::Warn,
            v1::SchemaMode::Strict | v1::SchemaMode::Unspecified => Self::Strict,
        }
    }
}

/// The schema of an intent type. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Schema {
    pub semantic_type: String,
    /// Lower-case hexadecimal SHA-256 of the document in canonical form.
    pub schema_hash: String,
    pub schema_ref: Option<String>,
    pub mode: SchemaMode,
    /// For every workspace of the cluster.
    pub core: bool,
    pub owner: Option<String>,
    pub active: bool,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    /// Absent in the answer to setting it.
    pub document: Option<Payload>,
}

impl Schema {
    pub(crate) fn from_wire(schema: v1::Schema) -> Self {
        let document = schema.document_json;
        Self {
            semantic_type: schema.semantic_type,
            schema_hash: schema.schema_hash,
            schema_ref: text(schema.schema_ref),
            mode: SchemaMode::from_wire(schema.mode),
            core: schema.core,
            owner: text(schema.owner),
            active: schema.active,
            created_at_ms: schema.created_at_ms,
            updated_at_ms: schema.updated_at_ms,
            document: (!document.is_empty()).then(|| Payload::bytes(document, String::new())),
        }
    }
}
