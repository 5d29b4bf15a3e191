//! `SchemaService`.

use std::sync::Arc;

use baton_protocol::limits::FORM_SCHEMA_BYTES_MAX;
use baton_protocol::proto::internal::{SchemaMode, SemanticSchema};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::schema_service_server::SchemaService;
use baton_protocol::{ErrorCode, META_GROUP, ServiceError};
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::status::status;
use super::{decode, leader};
use crate::app::App;
use crate::http::{canonical, parse_members};
use crate::service::hex;
use crate::service::schemas::{NewSchema, SEMANTIC_TYPE_CHARS_MAX, check_semantic_type};

const REF_CHARS_MAX: usize = 512;

pub(super) struct Schemas(pub(super) Arc<App>);

#[tonic::async_trait]
impl SchemaService for Schemas {
    async fn put_schema(
        &self,
        request: Request<v1::PutSchemaRequest>,
    ) -> Result<Response<v1::PutSchemaResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let new = decode_schema(request).map_err(status)?;
        let put = self.0.service.put_schema(&call.caller, new).await;
        let answer = put.map_err(status).map(|row| v1::PutSchemaResponse {
            schema: Some(v1::Schema {
                document_json: bytes::Bytes::new(),
                ..schema(row)
            }),
        });
        leader::tell(&self.0, META_GROUP, answer)
    }

    async fn get_schema(
        &self,
        request: Request<v1::GetSchemaRequest>,
    ) -> Result<Response<v1::GetSchemaResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let semantic_type = semantic_type(request.semantic_type).map_err(status)?;
        let found = self.0.service.get_schema(&call.caller, &semantic_type).await;
        Ok(Response::new(v1::GetSchemaResponse {
            schema: Some(schema(found.map_err(status)?)),
        }))
    }
}

fn semantic_type(given: String) -> Result<String, ServiceError> {
    let field = "semantic_type";
    decode::text(given, field, SEMANTIC_TYPE_CHARS_MAX)?.ok_or_else(|| decode::missing(field))
}

fn decode_schema(request: v1::PutSchemaRequest) -> Result<NewSchema, ServiceError> {
    let mode = match request.mode() {
        v1::SchemaMode::Strict => SchemaMode::Strict,
        v1::SchemaMode::Backward => SchemaMode::Backward,
        v1::SchemaMode::Warn => SchemaMode::Warn,
        v1::SchemaMode::Unspecified => {
            return Err(decode::invalid("mode", "must be STRICT, BACKWARD or WARN"));
        }
    };
    let semantic_type = semantic_type(request.semantic_type)?;
    check_semantic_type(&semantic_type).map_err(|error| error.in_field("semantic_type"))?;
    if request.document_json.is_empty() {
        return Err(decode::missing("document_json"));
    }
    // Before anything is done with it that takes longer the longer it is.
    if request.document_json.len() > FORM_SCHEMA_BYTES_MAX {
        let message = format!("document_json is larger than {FORM_SCHEMA_BYTES_MAX} bytes");
        return Err(ServiceError::new(ErrorCode::SchemaInvalid, message).in_field("document_json"));
    }
    // Says that it must be an object, and bounds how deep it is.
    parse_members(&request.document_json).map_err(|error| error.in_field("document_json"))?;
    Ok(NewSchema {
        semantic_type,
        document: canonical(&request.document_json)?.into(),
        schema_ref: decode::text(request.schema_ref, "schema_ref", REF_CHARS_MAX)?.unwrap_or_default(),
        mode,
        core: request.core,
        active: !request.inactive,
        owner: decode::address(request.owner, "owner")?,
    })
}

/// The numbers of modes are the same on both sides.
fn schema(row: SemanticSchema) -> v1::Schema {
    v1::Schema {
        semantic_type: row.semantic_type,
        schema_hash: hex(&row.document_sha256),
        schema_ref: row.schema_ref,
        mode: row.mode,
        core: row.workspace_id.is_empty(),
        owner: row.owner_agent,
        active: row.active,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        document_json: row.document,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_modes_agree() {
        for number in 0..8 {
            assert_eq!(
                SchemaMode::try_from(number).ok().map(|m| m.as_str_name()),
                v1::SchemaMode::try_from(number).ok().map(|m| m.as_str_name()),
            );
        }
    }
}
