//! Schemas of payloads (surface 3.14).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::ServiceError;
use baton_protocol::proto::internal::{SchemaMode, SemanticSchema};

use super::call::Call;
use super::canonical::canonical;
use super::error::ApiError;
use super::json::invalid;
use super::render::Object;
use super::{App, json};
use crate::service::hex;
use crate::service::schemas::{NewSchema, SEMANTIC_TYPE_CHARS_MAX, check_semantic_type, mode_name};

const REF_CHARS_MAX: usize = 512;
const WORD_CHARS_MAX: usize = 16;

pub(super) async fn put(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let new = decode(&call)?;
    let schema = app.service.put_schema(&call.caller, new).await?;
    Ok(one(&schema, false))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(semantic_type): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let schema = app.service.get_schema(&call.caller, &semantic_type).await?;
    Ok(one(&schema, true))
}

fn decode(call: &Call) -> Result<NewSchema, ServiceError> {
    let body = call.json()?;
    let semantic_type = body.required_text("semantic_type", SEMANTIC_TYPE_CHARS_MAX)?;
    check_semantic_type(&semantic_type)?;
    let document = body
        .object_bytes("schema_json")?
        .ok_or_else(|| invalid("schema_json is required"))?;
    let mode = body.required_text("compatibility_mode", WORD_CHARS_MAX)?;
    let scope = body.text("scope", WORD_CHARS_MAX)?;
    Ok(NewSchema {
        semantic_type,
        document: canonical(&document)?.into(),
        schema_ref: body.text("schema_ref", REF_CHARS_MAX)?.unwrap_or_default(),
        mode: match mode.as_str() {
            "strict" => SchemaMode::Strict,
            "backward" => SchemaMode::Backward,
            "warn" => SchemaMode::Warn,
            _ => return Err(invalid("compatibility_mode must be strict, backward or warn")),
        },
        core: match scope.as_deref() {
            None | Some("tenant") => false,
            Some("core") => true,
            Some(_) => return Err(invalid("scope must be tenant or core")),
        },
        active: body.flag("active")?.unwrap_or(true),
        owner: call.owner()?,
    })
}

fn one(schema: &SemanticSchema, with_document: bool) -> Response {
    let mut inner = Object::new();
    inner.text("semantic_type", &schema.semantic_type);
    inner.text("schema_ref", &schema.schema_ref);
    inner.text("schema_hash", &hex(&schema.document_sha256));
    inner.text("compatibility_mode", mode_name(schema.mode()));
    let core = schema.workspace_id.is_empty();
    inner.text("scope", if core { "core" } else { "tenant" });
    inner.text_or_null("owner_agent", &schema.owner_agent);
    inner.flag("active", schema.active);
    inner.time("created_at", schema.created_at_ms);
    inner.time("updated_at", schema.updated_at_ms);
    if with_document {
        inner.raw("schema_json", &schema.document);
    }
    let mut out = Object::ok();
    out.raw("schema", &inner.finish());
    json(out.finish())
}
