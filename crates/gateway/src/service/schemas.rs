//! Schemas of payloads: setting them, and checking a new intent's payload against its type's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use baton_protocol::proto::internal::{
    FindSchema, Payload, PutSchema, SchemaMode, SemanticSchema, command, query, query_reply, reply,
};
use baton_protocol::{ErrorCode, Route, ServiceError};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Caller, Failure, Service, unexpected};
use crate::forms::{Form, check_schema, narrowing};
use crate::metrics::SCHEMA_VIOLATIONS;

/// Characters of a semantic type.
pub(crate) const SEMANTIC_TYPE_CHARS_MAX: usize = 255;
/// A payload larger than this is checked beside the threads that serve requests.
const CHECKED_INLINE_BYTES_MAX: usize = 16 * 1024;
/// Compiled schemas kept; at the bound all are forgotten and compiled again when used.
const COMPILED_MAX: usize = 256;

/// A checked request to set a schema.
#[derive(Debug, Clone)]
pub(crate) struct NewSchema {
    pub semantic_type: String,
    /// In canonical form.
    pub document: Bytes,
    pub schema_ref: String,
    pub mode: SchemaMode,
    /// For every workspace instead of the caller's.
    pub core: bool,
    pub active: bool,
    /// On whose behalf.
    pub owner: Option<String>,
}

/// Compiled schemas by the hash of their document.
#[derive(Debug, Default)]
pub(crate) struct Compiled(Mutex<HashMap<Bytes, Arc<Form>>>);

impl Compiled {
    fn get(&self, hash: Bytes, document: &[u8]) -> Result<Arc<Form>, ServiceError> {
        if let Some(known) = self.lock().get(&hash) {
            return Ok(Arc::clone(known));
        }
        let form = Arc::new(Form::read(document, "this intent type")?);
        let mut all = self.lock();
        if all.len() >= COMPILED_MAX {
            all.clear();
        }
        all.insert(hash, Arc::clone(&form));
        Ok(form)
    }

    fn violations(&self, schema: &SemanticSchema, payload: &Payload) -> Result<Option<String>, ServiceError> {
        let Some(document) = document(payload) else {
            return Ok(Some("it is not JSON".to_owned()));
        };
        let form = self.get(schema.document_sha256.clone(), &schema.document)?;
        let violations = form.violations(&document);
        let fits_before = violations.is_some()
            && schema.mode() == SchemaMode::Backward
            && !schema.previous_document.is_empty()
            && self
                .get(sha256(&schema.previous_document), &schema.previous_document)?
                .violations(&document)
                .is_none();
        Ok(violations.filter(|_| !fits_before))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Bytes, Arc<Form>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Sets the schema of a semantic type.
    ///
    /// # Errors
    /// `SchemaInvalid` for a document that is no schema or may cost too much; `Conflict` when the version before is
    /// strict and the new one refuses what that accepts; `PolicyDenied` when the key may not.
    pub(crate) async fn put_schema(
        &self,
        caller: &Caller,
        new: NewSchema,
    ) -> Result<SemanticSchema, Failure> {
        check_schema(&new.document, "schema_json")?;
        let owner = self.acting_for(caller, new.owner.as_deref()).await?;
        let workspace_id = if new.core {
            String::new()
        } else {
            caller.scope.workspace_id.clone()
        };
        let before = self.find_schema(caller, &new.semantic_type).await?;
        let before = before.filter(|before| before.workspace_id == workspace_id);
        if let Some(before) = before.as_ref().filter(|b| b.mode() == SchemaMode::Strict) {
            refuse_narrowing(before, &new)?;
        }
        let schema = SemanticSchema {
            document_sha256: sha256(&new.document),
            semantic_type: new.semantic_type,
            workspace_id,
            document: new.document,
            schema_ref: new.schema_ref,
            mode: new.mode.into(),
            owner_agent: owner.map(|owner| owner.address).unwrap_or_default(),
            active: new.active,
            ..SemanticSchema::default()
        };
        let body = command::Body::PutSchema(PutSchema {
            actor: Some(caller.audited_actor(None, None)),
            schema: Some(schema),
            judged_against_sha256: before.map(|before| before.document_sha256).unwrap_or_default(),
        });
        let reply = self.ports.proposer.propose(Route::Meta, body).await?;
        match reply.outcome {
            Some(reply::Outcome::Schema(schema)) => Ok(schema),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a schema").into()),
        }
    }

    /// The schema that counts for a semantic type in the caller's workspace.
    pub(crate) async fn get_schema(
        &self,
        caller: &Caller,
        semantic_type: &str,
    ) -> Result<SemanticSchema, ServiceError> {
        let found = self.find_schema(caller, semantic_type).await?;
        found.ok_or_else(|| {
            ServiceError::new(
                ErrorCode::NotFound,
                format!("no schema is set for {semantic_type}"),
            )
        })
    }

    async fn find_schema(
        &self,
        caller: &Caller,
        semantic_type: &str,
    ) -> Result<Option<SemanticSchema>, ServiceError> {
        let query = query::Body::FindSchema(FindSchema {
            workspace_id: caller.scope.workspace_id.clone(),
            semantic_type: semantic_type.to_owned(),
        });
        found(
            self.read(Route::Meta, Some(caller.actor(None, None)), query)
                .await,
        )
    }

    /// Checks the payload of a new intent against the schema of its type, if there is an active one.
    ///
    /// # Errors
    /// `SchemaInvalid` with the first violations.
    pub(super) async fn check_payload(
        &self,
        caller: &Caller,
        intent_type: &str,
        payload: &Payload,
    ) -> Result<(), ServiceError> {
        let query = query::Body::FindSchema(FindSchema {
            workspace_id: caller.scope.workspace_id.clone(),
            semantic_type: intent_type.to_owned(),
        });
        let schema = found(self.read_nearby(Route::Meta, None, query).await)?;
        let Some(schema) = schema.filter(|schema| schema.active) else {
            return Ok(());
        };
        let mode = schema.mode();
        let compiled = Arc::clone(&self.compiled);
        let violations = if payload.data.len() <= CHECKED_INLINE_BYTES_MAX {
            compiled.violations(&schema, payload)?
        } else {
            let payload = payload.clone();
            let checking = tokio::task::spawn_blocking(move || compiled.violations(&schema, &payload));
            checking.await.map_err(|_| unexpected("a check that broke"))??
        };
        let Some(violations) = violations else {
            return Ok(());
        };
        metrics::counter!(SCHEMA_VIOLATIONS, "mode" => mode_name(mode)).increment(1);
        if mode == SchemaMode::Warn {
            tracing::warn!(
                intent_type,
                violations,
                "payload does not fit its schema; accepted"
            );
            return Ok(());
        }
        Err(ServiceError::new(
            ErrorCode::SchemaInvalid,
            format!("payload does not fit the schema of {intent_type}: {violations}"),
        ))
    }
}

fn found(
    outcome: Result<query_reply::Outcome, ServiceError>,
) -> Result<Option<SemanticSchema>, ServiceError> {
    match outcome {
        Ok(query_reply::Outcome::Schema(schema)) => Ok(Some(schema)),
        Ok(_) => Err(unexpected("something else than a schema")),
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sha256(document: &[u8]) -> Bytes {
    Sha256::digest(document).to_vec().into()
}

fn document(payload: &Payload) -> Option<Value> {
    match payload.content_type.as_str() {
        "" | "application/json" if payload.data.is_empty() => Some(Value::Object(serde_json::Map::new())),
        "" | "application/json" => serde_json::from_slice(&payload.data).ok(),
        _ => None,
    }
}

fn refuse_narrowing(before: &SemanticSchema, new: &NewSchema) -> Result<(), ServiceError> {
    let read = |document: &[u8]| serde_json::from_slice::<Value>(document).unwrap_or(Value::Null);
    match narrowing(&read(&before.document), &read(&new.document)) {
        None => Ok(()),
        Some(what) => Err(ServiceError::new(
            ErrorCode::Conflict,
            format!(
                "this version would refuse payloads that the one before accepts: {what}; use a new version of the type, \
                 or set compatibility_mode to backward or warn first"
            ),
        )),
    }
}

/// As clients write it.
pub(crate) fn mode_name(mode: SchemaMode) -> &'static str {
    match mode {
        SchemaMode::Strict | SchemaMode::Unspecified => "strict",
        SchemaMode::Backward => "backward",
        SchemaMode::Warn => "warn",
    }
}

/// # Errors
/// `InvalidArgument` for what is no name of a semantic type.
pub(crate) fn check_semantic_type(text: &str) -> Result<(), ServiceError> {
    if is_semantic_type(text) {
        return Ok(());
    }
    Err(super::invalid(
        "semantic_type must be lower-case words with dots and a version, such as acme.payment.capture.v1",
    ))
}

/// `^[a-z0-9_]+(\.[a-z0-9_]+)+\.v[0-9]+$`.
fn is_semantic_type(text: &str) -> bool {
    let Some((words, version)) = text.rsplit_once(".v") else {
        return false;
    };
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let numbered = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    numbered && words.contains('.') && words.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::is_semantic_type;

    #[test]
    fn types_have_words_and_a_version() {
        for good in ["axme.calendar.schedule.v1", "a.b.v10", "a_1.b.c_d.v0"] {
            assert!(is_semantic_type(good), "{good}");
        }
        for bad in [
            "a.v1", "a.b", "a.b.v", "A.b.v1", "a..b.v1", ".a.b.v1", "a.b.v1x", "a b.c.v1", "",
        ] {
            assert!(!is_semantic_type(bad), "{bad}");
        }
    }
}
