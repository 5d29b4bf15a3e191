//! Schemas of payloads.

use crate::client::{Safety, unary};
use crate::types::{Payload, Schema, SchemaMode};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::schema_service_client::SchemaServiceClient;

/// A schema to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewSchema {
    /// Lower-case words with dots and a version, such as `acme.payment.capture.v1`.
    pub semantic_type: String,
    /// JSON Schema: a JSON object.
    pub document: Payload,
    pub mode: SchemaMode,
    pub schema_ref: Option<String>,
    /// For every workspace of the cluster; asks for an operator key.
    pub core: bool,
    /// Set, but not checked against.
    pub inactive: bool,
    /// On whose behalf; the key's own address when absent.
    pub owner: Option<String>,
}

impl Client {
    /// Sets the schema that payloads of a type are checked against.
    ///
    /// # Errors
    /// `schema_invalid` for what is no schema, `conflict` for a narrower version of a strict one, and what any call
    /// gives.
    pub async fn put_schema(&self, schema: NewSchema) -> Result<Schema, Error> {
        let request = v1::PutSchemaRequest {
            semantic_type: schema.semantic_type,
            document_json: schema.document.into_wire().data,
            mode: schema.mode.to_wire(),
            schema_ref: schema.schema_ref.unwrap_or_default(),
            core: schema.core,
            inactive: schema.inactive,
            owner: schema.owner.unwrap_or_default(),
        };
        // Setting the same again changes nothing.
        let answer = unary!(self, Safety::Repeatable, SchemaServiceClient.put_schema(request))?;
        required(answer.schema)
    }

    /// The schema that counts for a type in the key's workspace.
    ///
    /// # Errors
    /// `not_found`, and what any call gives.
    pub async fn schema(&self, semantic_type: &str) -> Result<Schema, Error> {
        let request = v1::GetSchemaRequest {
            semantic_type: semantic_type.to_owned(),
        };
        let answer = unary!(self, Safety::Repeatable, SchemaServiceClient.get_schema(request))?;
        required(answer.schema)
    }
}

fn required(schema: Option<v1::Schema>) -> Result<Schema, Error> {
    schema
        .map(Schema::from_wire)
        .ok_or_else(|| Error::Unexpected("the schema is missing".into()))
}
