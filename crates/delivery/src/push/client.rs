//! One post to an endpoint, bounded in time and bytes.

use super::connect::{ConnectError, Dialer, GuardedTcp, Resolver};
use super::guard::Guard;
use super::lookups::BoundedLookups;
use super::settings::{
    IDLE_TIMEOUT, PushSettings, RESPONSE_BODY_BYTES_MAX, RESPONSE_BODY_TIMEOUT, RESPONSE_HEAD_BYTES_MAX,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Request, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// What a post came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The head of an answer. Redirects are answers like any other: they are not followed.
    Answered {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// There was none.
    Failed(Failure),
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The address must not be dialled.
    Blocked(String),
    Resolve,
    Connect,
    Tls,
    Timeout,
    /// The connection or what came over it broke.
    Broken,
}

impl Failure {
    /// A label of bounded variety.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Blocked(_) => "blocked",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
        }
    }

    /// For whoever owns the endpoint. Says nothing that came over the wire.
    pub(crate) fn text(&self) -> String {
        let text = match self {
            Self::Blocked(reason) => return reason.clone(),
            Self::Resolve => "the host name cannot be resolved",
            Self::Connect => "no connection to the endpoint",
            Self::Tls => "no TLS with the endpoint; check its certificate",
            Self::Timeout => "no answer in time",
            Self::Broken => "the answer broke off or is no HTTP",
        };
        text.to_owned()
    }
}

/// Posts to endpoints. Keeps connections that can serve again.
#[derive(Clone)]
pub struct PushClient {
    http: Client<Dialer, Full<Bytes>>,
    timeout: Duration,
    allow_http: bool,
}

impl std::fmt::Debug for PushClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushClient").finish_non_exhaustive()
    }
}

impl PushClient {
    /// A client that trusts what `tls` trusts and dials what `settings` allow.
    #[must_use]
    pub fn new(settings: &PushSettings, tls: rustls::ClientConfig, resolver: Arc<dyn Resolver>) -> Self {
        let tcp = GuardedTcp {
            resolver: Arc::new(BoundedLookups::new(resolver)),
            guard: Arc::new(Guard::new(settings.allow_networks.clone())),
        };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.endpoint_concurrency)
            .http1_max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .build(Dialer(https));
        Self {
            http,
            timeout: settings.timeout(),
            allow_http: settings.allow_http,
        }
    }

    /// Posts once and waits for the head of the answer. Dates in it are judged by `now_ms`, unix milliseconds.
    pub(crate) async fn post(&self, url: &Uri, headers: HeaderMap, body: Bytes, now_ms: u64) -> Outcome {
        if url.scheme_str() != Some("https") && !self.allow_http {
            return Outcome::Failed(Failure::Blocked(
                "plain http is not dialled; use https or set push.allow_http".into(),
            ));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers;
        let answer = match timeout(self.timeout, self.http.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Outcome::Failed(failure(&error)),
            Err(_) => return Outcome::Failed(Failure::Timeout),
        };
        let (head, body) = answer.into_parts();
        // The status decides; the body only has to be out of the way.
        _ = timeout(RESPONSE_BODY_TIMEOUT, drain(body)).await;
        Outcome::Answered {
            status: head.status.as_u16(),
            retry_after: retry_after(&head.headers, UNIX_EPOCH + Duration::from_millis(now_ms)),
        }
    }
}

/// Reads a body of at most [`RESPONSE_BODY_BYTES_MAX`]; leaving the rest unread closes the connection.
async fn drain(mut body: Incoming) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > RESPONSE_BODY_BYTES_MAX {
            return;
        }
    }
}

fn failure(error: &ClientError) -> Failure {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return match connect {
                ConnectError::Resolve(_) => Failure::Resolve,
                ConnectError::Blocked(blocked) => Failure::Blocked(blocked.to_string()),
                ConnectError::Dial(_) => Failure::Connect,
                ConnectError::Timeout => Failure::Timeout,
            };
        }
        if error.is::<rustls::Error>() {
            return Failure::Tls;
        }
        // An `io::Error` answers with the source of what it wraps, not with that.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref());
        source = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    if error.is_connect() {
        Failure::Connect
    } else {
        Failure::Broken
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    at.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", None),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
