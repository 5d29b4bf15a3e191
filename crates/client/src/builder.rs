//! Describes a client: nodes, key, TLS, times.

use crate::client::{Client, Shared, TraceSource};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::leaders::Leaders;
use crate::retry::RetryPolicy;
use crate::tls::Tls;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint as Transport};

/// Endpoints of one client.
pub const ENDPOINTS_MAX: usize = 64;
/// Time for TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A call, retries included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// One node's share of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch, submitter or worker without any connection for this long gives up.
const STREAM_PATIENCE: Duration = Duration::from_secs(120);
/// A connection with open calls and no sign of life for this long is asked whether it lives.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A connection that does not answer that within this time is dead.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes in flight of one stream and of one connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// What a client needs to know. Only `endpoints` is required.
#[derive(Clone)]
#[must_use = "a builder does nothing until connect"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    key: Option<String>,
    tls: Option<Tls>,
    timeout: Duration,
    attempt_timeout: Duration,
    connect_timeout: Duration,
    stream_patience: Duration,
    retry: RetryPolicy,
    trace: Option<TraceSource>,
    first: Option<usize>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            key: None,
            tls: None,
            timeout: TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            stream_patience: STREAM_PATIENCE,
            retry: RetryPolicy::default(),
            trace: None,
            first: None,
        }
    }
}

impl ClientBuilder {
    /// The nodes: `http://host:port`, `https://host:port` or `host:port`. One is enough; with all of them a client
    /// outlives the loss of any, and submits for one agent and workers go to the node that leads when its answers name
    /// one of them.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// The key that every call carries.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// How `https` endpoints are checked; without it, against the system's authorities.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Longest time of a call, retries included (30 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one node may take to answer before another one is asked (10 s).
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long TCP, TLS and HTTP/2 may take together (3 s).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a watch, submitter or worker may be without any connection before it gives up (2 min).
    pub fn stream_patience(mut self, patience: Duration) -> Self {
        self.stream_patience = patience;
        self
    }

    /// How calls are repeated.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Where the W3C traceparent of the current span comes from; it goes with every call and is stored with
    /// submitted intents.
    pub fn traceparent_source(mut self, source: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.trace = Some(Arc::new(source));
        self
    }

    /// Begin with this endpoint, counted from 0, instead of a drawn one.
    pub fn first_endpoint(mut self, n: usize) -> Self {
        self.first = Some(n);
        self
    }

    /// A client that has reached at least one node.
    ///
    /// # Errors
    /// An endpoint, key or certificate that cannot be used; no node reached.
    pub async fn connect(self) -> Result<Client, Error> {
        let transports = self.transports()?;
        let start = self.start(transports.len());
        let mut last = Error::Invalid("no endpoint".into());
        for n in (0..transports.len()).map(|n| (start + n) % transports.len()) {
            let (uri, transport) = &transports[n];
            match transport.connect().await {
                Ok(_) => {
                    let builder = Self {
                        first: Some(n),
                        ..self
                    };
                    return builder.finish(transports);
                }
                Err(error) => last = unreachable(uri, &error),
            }
        }
        Err(last)
    }

    /// A client that connects with its first call.
    ///
    /// # Errors
    /// An endpoint, key or certificate that cannot be used.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let transports = self.transports()?;
        self.finish(transports)
    }

    fn finish(self, transports: Vec<(String, Transport)>) -> Result<Client, Error> {
        let start = self.start(transports.len());
        let channels: Vec<(String, Channel)> = transports
            .into_iter()
            .map(|(uri, transport)| (uri, transport.connect_lazy()))
            .collect();
        let shared = Shared {
            endpoints: Endpoints::new(channels, start),
            leaders: Leaders::default(),
            key: self.key.as_deref().map(header).transpose()?,
            trace: self.trace,
            retry: self.retry,
            attempt_timeout: self.attempt_timeout,
            stream_patience: self.stream_patience,
        };
        Ok(Client::new(shared, self.timeout))
    }

    /// Clients begin at different nodes, so that they spread.
    fn start(&self, count: usize) -> usize {
        let drawn = || rand::Rng::random_range(&mut rand::rng(), 0..count);
        self.first.map_or_else(drawn, |n| n % count)
    }

    fn transports(&self) -> Result<Vec<(String, Transport)>, Error> {
        if self.endpoints.is_empty() {
            return Err(Error::Invalid("no endpoints: name at least one node".into()));
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            return Err(Error::Invalid(format!("more than {ENDPOINTS_MAX} endpoints")));
        }
        let mut transports = Vec::new();
        for endpoint in &self.endpoints {
            let uri = self.uri(endpoint)?;
            let wrong = |error: tonic::transport::Error| {
                Error::Invalid(format!("endpoint {uri}: {}", last_cause(&error)))
            };
            let mut transport = Transport::from_shared(uri.clone())
                .map_err(wrong)?
                .connect_timeout(self.connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .user_agent(concat!("baton-client-rust/", env!("CARGO_PKG_VERSION")))
                .map_err(wrong)?;
            if uri.starts_with("https://") {
                let tls = self.tls.clone().unwrap_or_default();
                transport = transport.tls_config(tls.into_config()).map_err(wrong)?;
            }
            transports.push((uri, transport));
        }
        Ok(transports)
    }

    fn uri(&self, endpoint: &str) -> Result<String, Error> {
        let usual = if self.tls.is_some() { "https" } else { "http" };
        let (scheme, host) = endpoint
            .trim()
            .split_once("://")
            .unwrap_or((usual, endpoint.trim()));
        let host = host.strip_suffix('/').unwrap_or(host);
        match scheme {
            "http" | "https" if !host.is_empty() && !host.contains('/') => Ok(format!("{scheme}://{host}")),
            _ => Err(Error::Invalid(format!(
                "endpoint {endpoint:?} is not http://host:port or https://host:port"
            ))),
        }
    }
}

fn header(key: &str) -> Result<MetadataValue<Ascii>, Error> {
    let mut value: MetadataValue<Ascii> = key
        .trim()
        .parse()
        .map_err(|_| Error::Invalid("the API key has characters that no key has".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unreachable(uri: &str, error: &tonic::transport::Error) -> Error {
    Error::Unreachable {
        endpoint: uri.to_owned(),
        message: last_cause(error),
        sent: false,
    }
}

fn last_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Without the key.
impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_take_three_forms_and_nothing_else() {
        let of = |text: &str| {
            let client = Client::builder().endpoints([text]).connect_lazy()?;
            Ok::<_, Error>(client.endpoint().to_owned())
        };
        assert_eq!(of("10.0.0.1:8100").unwrap(), "http://10.0.0.1:8100");
        assert_eq!(of("http://a:1/").unwrap(), "http://a:1");
        assert_eq!(of("https://a:1").unwrap(), "https://a:1");
        for bad in ["", "ftp://a", "http://", "http://a/v1", "http://a b"] {
            let error = of(bad).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidRequest, "{bad}: {error}");
        }
        let client = Client::builder().connect_lazy();
        assert!(client.unwrap_err().to_string().contains("at least one"));
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named() {
        let error = Client::builder()
            .endpoints(["127.0.0.1:1"])
            .connect()
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot reach http://127.0.0.1:1: "), "{text}");
        assert!(error.retryable());
    }

    #[test]
    fn a_key_with_a_line_break_is_refused_and_keys_are_not_shown() {
        let builder = Client::builder().endpoints(["a:1"]).api_key("axme\n2");
        assert!(!format!("{builder:?}").contains("axme"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        assert!(
            builder
                .connect_lazy()
                .unwrap_err()
                .to_string()
                .contains("API key")
        );
    }
}
