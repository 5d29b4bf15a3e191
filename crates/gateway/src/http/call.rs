//! One authenticated request: caller, query, headers and body, within the limits.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, MatchedPath, Query, Request};
use axum::http::{HeaderMap, Method};
use baton_protocol::limits::{BODY_BYTES_MAX, IDEMPOTENCY_KEY_CHARS_MAX};
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::agent_path::parse_agent_path;
use super::canonical::canonical_hash;
use super::envelope::{Notes, method_name};
use super::error::{ApiError, not_found};
use super::json::{JsonObject, invalid};
use crate::app::App;
use crate::auth::Credential;
use crate::service::{Caller, IdempotencyRequest};
use crate::trace;

const OWNER_QUERY: &str = "owner_agent";
const OWNER_HEADER: &str = "x-owner-agent";
/// Of a body that is too large, this much is read and dropped so that the client sees the answer.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// Where agent addresses begin in a path.
pub(super) const AGENTS_PREFIX: &str = "/v1/agents/";

/// A request whose caller is known.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Arc<Caller>,
    pub(crate) credential: Credential,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
}

impl FromRequest<Arc<App>> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let matched = parts.extensions.get::<MatchedPath>();
        let path = parts.uri.path().to_owned();
        let endpoint = endpoint(matched.map_or("", MatchedPath::as_str), &path, app);
        let notes = parts.extensions.get::<Arc<Notes>>().cloned().unwrap_or_default();
        let _ = notes.endpoint.set(endpoint);
        let credential = Credential::from_headers(&parts.headers)?;
        let mut caller = if endpoint.ends_with("/stream") {
            app.patiently(|| app.service.authenticate(credential)).await?
        } else {
            app.service.authenticate(credential).await?
        };
        if !endpoint.ends_with("/stream") {
            count(app, &caller, endpoint, &notes)?;
        }
        caller.call.request_id.clone_from(&notes.request_id);
        caller.call.trace_id.clone_from(&notes.trace_id);
        caller.call.endpoint = endpoint.to_owned();
        caller.call.method = method_name(&parts.method).to_owned();
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| ServiceError::new(ErrorCode::BadRequest, "the query string is malformed"))?;
        let timeout = Duration::from_millis(app.service.config.body_timeout_ms);
        let body = tokio::time::timeout(timeout, read_body(body, BODY_BYTES_MAX)).await;
        let body =
            body.map_err(|_| ServiceError::new(ErrorCode::BadRequest, "the body took too long to arrive"))??;
        Ok(Self {
            caller: Arc::from(caller),
            credential,
            headers: parts.headers,
            body,
            method: parts.method,
            path,
            query: query.0,
        })
    }
}

/// A name of bounded variety for limits and metrics.
fn endpoint(matched: &str, path: &str, app: &App) -> &'static str {
    if let Some(rest) = path.strip_prefix(AGENTS_PREFIX) {
        return parse_agent_path(rest).map_or("other", |(_, resource)| resource.endpoint());
    }
    app.endpoints
        .iter()
        .find(|e| **e == matched)
        .copied()
        .unwrap_or("other")
}

fn count(app: &App, caller: &Caller, endpoint: &'static str, notes: &Notes) -> Result<(), ServiceError> {
    let Some(rate) = app.count(caller, endpoint, 1) else {
        return Ok(());
    };
    let _ = notes.rate.set(rate);
    if rate.allowed { Ok(()) } else { Err(rate.refusal()) }
}

/// A whole body of at most `bytes_max`.
pub(super) async fn read_body(mut body: Body, bytes_max: usize) -> Result<Bytes, ServiceError> {
    let too_large = || {
        ServiceError::new(
            ErrorCode::PayloadTooLarge,
            format!("the body is larger than {bytes_max} bytes"),
        )
    };
    if body.size_hint().lower() > DRAIN_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let (mut collected, mut seen) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| ServiceError::new(ErrorCode::BadRequest, "the body ended before it was complete"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        seen += data.len();
        if seen > DRAIN_BYTES_MAX {
            break;
        }
        if seen <= bytes_max {
            collected.extend_from_slice(data);
        }
    }
    if seen > bytes_max {
        return Err(too_large());
    }
    Ok(collected.freeze())
}

impl Call {
    pub(crate) fn json(&self) -> Result<JsonObject, ServiceError> {
        JsonObject::parse(&self.body)
    }

    /// The path as sent, without the query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A query parameter; an empty one reads as absent.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn query_number(&self, name: &str) -> Result<Option<u64>, ServiceError> {
        let Some(text) = self.query(name) else {
            return Ok(None);
        };
        let parsed = text.parse();
        parsed
            .map(Some)
            .map_err(|_| invalid(format!("{name} must be an integer of 0 or more")))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(self.headers.get(name)?.as_bytes())
            .ok()?
            .trim();
        (!text.is_empty()).then_some(text)
    }

    /// The owner a call is made for: a query parameter, a header, or both when they agree.
    pub(crate) fn owner(&self) -> Result<Option<String>, ServiceError> {
        let query = self.query(OWNER_QUERY).map(str::trim);
        let header = self.header(OWNER_HEADER);
        match (query, header) {
            (Some(query), Some(header)) if query != header => Err(ServiceError::new(
                ErrorCode::OwnerScopeConflict,
                "owner_agent and x-owner-agent name different agents; send one of them",
            )),
            (query, header) => Ok(query.or(header).map(str::to_owned)),
        }
    }

    /// The deduplication this call asks for, by its header or by a key in its body.
    pub(crate) fn idempotency(
        &self,
        in_body: Option<String>,
    ) -> Result<Option<IdempotencyRequest>, ServiceError> {
        let header = self.header("idempotency-key").map(str::to_owned);
        // A key that says nothing would switch deduplication off without anyone noticing.
        if header.is_none() && self.headers.contains_key("idempotency-key") {
            return Err(invalid(
                "idempotency-key is empty or not text; send 1 to 255 characters or leave the header out",
            ));
        }
        let Some(key) = header.or(in_body) else {
            return Ok(None);
        };
        if key.chars().count() > IDEMPOTENCY_KEY_CHARS_MAX {
            return Err(invalid(format!(
                "idempotency-key is longer than {IDEMPOTENCY_KEY_CHARS_MAX} characters"
            )));
        }
        Ok(Some(IdempotencyRequest {
            key,
            endpoint: format!("{} {}", self.method, self.path.trim_end_matches('/')),
            request_hash: canonical_hash(&self.body)?,
        }))
    }

    /// A well-formed W3C `traceparent`, else empty.
    pub(crate) fn trace_parent(&self) -> String {
        trace::trace_parent(&self.headers).unwrap_or_default().to_owned()
    }
}

/// Reads an id out of a path. What is no id cannot exist.
pub(crate) fn intent_id(text: &str) -> Result<IntentId, ApiError> {
    IntentId::parse(text).ok_or_else(|| not_found(format!("{} is not an id of this server", clip(text))))
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
