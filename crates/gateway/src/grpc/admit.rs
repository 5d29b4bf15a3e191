//! The outermost layer of every call: who asks, how often, by when; what came of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use baton_protocol::{ErrorCode, ServiceError};
use futures::FutureExt as _;
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Instrument as _;

use super::auth::Admitted;
use super::body::{Answer, Punctual, Tally, too_late};
use super::method::{Kind, Method, method_of};
use super::status::{status, unreadable};
use crate::app::App;
use crate::auth::Credential;
use crate::trace;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const TIMEOUT: &str = "grpc-timeout";
/// What audit events call the method of a gRPC call.
const METHOD: &str = "gRPC";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Digits of a `grpc-timeout`, by the gRPC specification.
const TIMEOUT_DIGITS_MAX: usize = 8;

pub(super) async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let method = method_of(request.uri().path());
    let span = trace::grpc_span(method.name, request.headers());
    let mut tally = Tally::new(method.name, span.clone());
    let deadline = timeout(request.headers()).map(|t| Instant::now() + t);
    answer_as_asked(request.headers_mut());
    let handled = AssertUnwindSafe(run(&app, method, deadline, request, next)).catch_unwind();
    let handled = async {
        match deadline {
            Some(at) => tokio::time::timeout_at(at, handled).await,
            None => Ok(handled.await),
        }
    };
    let response = match handled.instrument(span).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!(method = method.name, "a call's handler panicked");
            let error = ServiceError::new(ErrorCode::Internal, "the call failed inside the server");
            status(error).into_http()
        }
        Err(_) => too_late().into_http(),
    };
    tally.note(response.headers());
    response.map(|body| Body::new(Answer::new(body, tally, deadline)))
}

async fn run(
    app: &App,
    method: Method,
    deadline: Option<Instant>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut request_id = None;
    if method.kind != Kind::Open {
        match let_in(app, method, request.headers()).await {
            Ok(admitted) => {
                request_id = HeaderValue::from_str(&admitted.caller.call.request_id).ok();
                request.extensions_mut().insert(Admitted { deadline, ..admitted });
            }
            Err(error) => return status(error).into_http(),
        }
    }
    if method.kind != Kind::BothStream {
        let within = Duration::from_millis(app.service.config.body_timeout_ms);
        request = request.map(|body| Body::new(Punctual::new(body, within)));
    }
    let mut response = next.run(request).await;
    if let Some(request_id) = request_id {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    // The library's own words for a message that is too large.
    match Status::from_header_map(response.headers()) {
        Some(found) if found.code() == Code::OutOfRange => match unreadable(&found) {
            Some(status) => status.into_http(),
            None => response,
        },
        _ => response,
    }
}

async fn let_in(app: &App, method: Method, headers: &HeaderMap) -> Result<Admitted, ServiceError> {
    let credential = Credential::from_headers(headers)?;
    let mut caller = match method.kind {
        Kind::ServerStream | Kind::BothStream => {
            app.patiently(|| app.service.authenticate(credential)).await?
        }
        Kind::Unary | Kind::Batch | Kind::Open => app.service.authenticate(credential).await?,
    };
    if method.kind == Kind::Unary
        && let Some(rate) = app.count(&caller, method.name, 1)
        && !rate.allowed
    {
        return Err(rate.refusal());
    }
    caller.call.request_id = format!("req_{}", app.service.random_uuid().simple());
    caller.call.trace_id = trace::trace_parent(headers)
        .and_then(|parent| parent.split('-').nth(1))
        .unwrap_or_default()
        .to_owned();
    caller.call.endpoint = method.name.to_owned();
    caller.call.method = METHOD.to_owned();
    Ok(Admitted {
        caller: Arc::from(caller),
        credential,
        trace_parent: trace::trace_parent(headers).unwrap_or_default().into(),
        deadline: None,
    })
}

/// Answers are compressed as the request is: many clients offer gzip always and would pay for it without asking.
fn answer_as_asked(headers: &mut HeaderMap) {
    let offered = headers.remove(ACCEPT_ENCODING);
    let offered = offered.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default();
    if let Some(used) = headers.get(ENCODING).cloned()
        && used != "identity"
        && offered.split(',').any(|name| used == name.trim())
    {
        headers.insert(ACCEPT_ENCODING, used);
    }
}

/// Reads `grpc-timeout`; a malformed one is ignored.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3_600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = pairs
            .iter()
            .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()));
        parsed.collect::<HeaderMap>()
    }

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        for (text, expected) in [
            ("250m", Some(Duration::from_millis(250))),
            ("2S", Some(Duration::from_secs(2))),
            ("1H", Some(Duration::from_secs(3_600))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("7u", Some(Duration::from_micros(7))),
            ("123456789S", None),
            ("S", None),
            ("-1S", None),
            ("5", None),
            ("5é", None),
        ] {
            assert_eq!(timeout(&headers(&[(TIMEOUT, text)])), expected, "{text}");
        }
    }

    #[test]
    fn only_who_compresses_gets_compressed_answers() {
        let mut offered = headers(&[("grpc-accept-encoding", "identity, deflate, gzip")]);
        answer_as_asked(&mut offered);
        assert!(offered.is_empty());
        let mut sent = headers(&[("grpc-encoding", "zstd"), ("grpc-accept-encoding", "gzip,zstd")]);
        answer_as_asked(&mut sent);
        assert_eq!(sent[ACCEPT_ENCODING], "zstd");
        let mut one_way = headers(&[("grpc-encoding", "zstd"), ("grpc-accept-encoding", "gzip")]);
        answer_as_asked(&mut one_way);
        assert_eq!(one_way.get(ACCEPT_ENCODING), None);
    }
}
