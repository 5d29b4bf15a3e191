//! Settings of the client port.

use std::collections::BTreeMap;
use std::path::PathBuf;

use baton_protocol::limits;

/// Settings of the gateway. Every field has a default that suits one node of a small cluster.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Shown by `/health`.
    pub service_name: String,
    /// Shown by `/health`.
    pub deployment_profile: String,
    /// Shown by `/health`.
    pub storage: String,
    /// Shown by `/health`.
    pub version: String,
    /// Certificate and key of the client port; plain HTTP when absent.
    pub tls: Option<TlsFiles>,
    /// How often the files are looked at for a change.
    pub tls_check_ms: u64,
    /// Origins whose web pages may use the port, as in `https://console.example.com`; `*` = all. Empty = none.
    pub cors_origins: Vec<String>,
    /// Requests per minute of one key on one endpoint; 0 = unlimited. Streams are exempt.
    pub requests_per_minute: u32,
    /// Connections open at one time; further ones wait in the listen queue.
    pub connections_max: usize,
    /// Event streams open at one time; further ones are refused with 503.
    pub streams_max: usize,
    /// Time to send a request's head; an idle connection is closed after it too.
    pub header_timeout_ms: u64,
    /// Time to send a request's body.
    pub body_timeout_ms: u64,
    /// Streams (calls under way) on one HTTP/2 connection; further ones wait in the client.
    pub connection_streams_max: u32,
    /// Silence on an HTTP/2 connection after which the server asks whether the client is still there.
    pub keepalive_interval_ms: u64,
    /// Time a client has to answer that question before its connection is closed.
    pub keepalive_timeout_ms: u64,
    /// Time a client may leave the server's bytes unread.
    pub write_timeout_ms: u64,
    /// Time requests in flight get to finish on shutdown.
    pub shutdown_grace_ms: u64,
    /// Longest wait for a completion to arrive in the `reply_to` inbox before the answer says `delivered: false`.
    pub completion_wait_ms: u64,
    /// Longest wait for an earlier, identical call that is still under way.
    pub duplicate_wait_ms: u64,
    /// After its first frames a stream stays open this long for clients that read whole bodies.
    pub stream_linger_ms: u64,
    /// Silence on a stream after which a comment line is sent.
    pub stream_ping_ms: u64,
    /// Time a new stream waits for a leader before it is refused; listeners take a refusal for a fatal error.
    pub stream_patience_ms: u64,
    /// Mirror `intent_id`, `status`, `lifecycle_status`, `payload` and `result` at the root of `GET /v1/intents/{id}`.
    pub root_mirrors: bool,
    /// Accept callback URLs that begin with `http://`.
    pub push_allow_http: bool,
    /// Refuse recipients that are not registered.
    pub strict_addresses: bool,
    /// How long the cluster keeps idempotency records.
    pub idempotency_retention_ms: u64,
    /// How long the cluster keeps ended intents, where a workspace says nothing else.
    pub terminal_retention_ms: u64,
    /// Recipient for intents of a type that name none.
    pub default_routes: BTreeMap<String, String>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            service_name: "baton".into(),
            deployment_profile: "self-hosted".into(),
            storage: "raft".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            tls: None,
            tls_check_ms: 5_000,
            cors_origins: Vec::new(),
            requests_per_minute: limits::REQUESTS_PER_MINUTE_DEFAULT,
            connections_max: 16_384,
            streams_max: 16_384,
            header_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            connection_streams_max: 256,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 20_000,
            write_timeout_ms: 30_000,
            shutdown_grace_ms: 10_000,
            completion_wait_ms: 2_000,
            duplicate_wait_ms: 5_000,
            stream_linger_ms: 250,
            stream_ping_ms: 8_000,
            stream_patience_ms: 5_000,
            root_mirrors: true,
            push_allow_http: false,
            strict_addresses: false,
            idempotency_retention_ms: limits::IDEMPOTENCY_RETENTION_MS,
            terminal_retention_ms: limits::TERMINAL_RETENTION_MS,
            default_routes: BTreeMap::new(),
        }
    }
}

/// PEM files of the client port; read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}
