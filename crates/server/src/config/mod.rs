//! Settings of one node: defaults, then the file, then environment and flags.

mod check;
mod load;
mod notifier;
mod overrides;
mod push;

pub use check::check;
pub use load::load;
pub use notifier::{Notifier, NotifierHttp, NotifierKind, NotifierSmtp, SmtpTls};
pub use overrides::{NotifierFlags, Overrides, PushFlags};
pub use push::Push;

use baton_protocol::limits;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything a node can be told. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this node in logs and status.
    pub name: String,
    /// Directory of log, tables and the node's identity.
    pub data_dir: PathBuf,
    pub client: Client,
    pub peer: Peer,
    pub operator: Operator,
    pub cluster: Cluster,
    pub limits: Limits,
    pub delivery: Delivery,
    pub push: Push,
    pub notifier: Notifier,
    pub storage: Storage,
    pub log: Log,
    pub otlp: Otlp,
}

/// The port applications talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    pub listen: SocketAddr,
    /// host:port under which clients reach this node; empty = `listen`.
    pub advertise: String,
    /// Origins whose web pages may call this port, as in `https://console.example.com`; `*` = all.
    pub cors_origins: Vec<String>,
    pub tls: Tls,
}

/// The port nodes talk to each other on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    pub listen: SocketAddr,
    /// host:port under which the other nodes reach this one; empty = `listen`.
    pub advertise: String,
    pub tls: Tls,
}

/// The port for metrics, probes and status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operator {
    pub listen: SocketAddr,
    pub tls: Tls,
}

/// PEM files; all absent = plain text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Certificate authority the other side must be signed by (peer and operator ports).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Tls {
    /// Whether the port speaks TLS.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.cert.is_some()
    }
}

/// Who the nodes are. Fixed when the cluster is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Advertised peer addresses of all nodes; the index is the ordinal. Empty = this node alone.
    pub peers: Vec<String>,
    /// Index of this node in `peers`. Ordinal 0 creates the cluster.
    pub ordinal: usize,
    /// Shard groups of a new cluster.
    pub shard_groups: u32,
    /// How long a new cluster keeps audit events, milliseconds of cluster time.
    pub audit_retention_ms: u64,
    /// Organization, workspace and operator token of a new cluster; read by ordinal 0 only, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_credentials: Option<PathBuf>,
}

/// What one client may ask of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests per minute, key and endpoint; 0 = no limit.
    pub requests_per_minute: u32,
    /// Connections open at one time; further ones wait.
    pub connections: usize,
    /// Event, submit and work streams open at one time; further ones are refused.
    pub streams: usize,
    /// Calls under way on one HTTP/2 connection; further ones wait in the client.
    pub streams_per_connection: u32,
}

/// When unanswered deliveries are repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// Time a delivery may stay without pick-up.
    pub visibility_timeout_ms: u64,
    /// Time a picked-up delivery may stay unfinished.
    pub pickup_timeout_ms: u64,
}

/// Memory and disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Budget of all groups' caches and overlays on this node.
    pub table_memory_bytes: u64,
    /// Trust a log whose end is damaged or missing without asking the other replicas. Only for a group whose other
    /// voters are gone for good.
    pub trust_cut_log: bool,
    /// Free bytes on the disk of `data_dir` below which the node has no room for more writes; 0 = never.
    pub disk_free_min_bytes: u64,
}

/// What the log looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    /// Filter directives, as in `info,baton_consensus=debug`.
    pub filter: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Trace export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// gRPC endpoint of a collector, as in `http://127.0.0.1:4317`; absent = no export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Default of `client.listen`.
pub const CLIENT_LISTEN_DEFAULT: &str = "127.0.0.1:8100";
/// Default of `peer.listen`.
pub const PEER_LISTEN_DEFAULT: &str = "127.0.0.1:8101";
/// Default of `operator.listen`.
pub const OPERATOR_LISTEN_DEFAULT: &str = "127.0.0.1:8102";
/// Default of `storage.table_memory_bytes`.
pub const TABLE_MEMORY_BYTES_DEFAULT: u64 = 512 * 1024 * 1024;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a constant of this module")
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            data_dir: PathBuf::from("baton-data"),
            client: Client::default(),
            peer: Peer::default(),
            operator: Operator::default(),
            cluster: Cluster::default(),
            limits: Limits::default(),
            delivery: Delivery::default(),
            push: Push::default(),
            notifier: Notifier::default(),
            storage: Storage::default(),
            log: Log::default(),
            otlp: Otlp::default(),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            listen: address(CLIENT_LISTEN_DEFAULT),
            advertise: String::new(),
            cors_origins: Vec::new(),
            tls: Tls::default(),
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            listen: address(PEER_LISTEN_DEFAULT),
            advertise: String::new(),
            tls: Tls::default(),
        }
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            listen: address(OPERATOR_LISTEN_DEFAULT),
            tls: Tls::default(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            ordinal: 0,
            shard_groups: baton_protocol::slot::SHARD_GROUPS_DEFAULT,
            audit_retention_ms: limits::AUDIT_RETENTION_MS,
            bootstrap_credentials: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_minute: limits::REQUESTS_PER_MINUTE_DEFAULT,
            connections: 16_384,
            streams: 16_384,
            streams_per_connection: 256,
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            visibility_timeout_ms: limits::VISIBILITY_TIMEOUT_MS,
            pickup_timeout_ms: limits::PICKUP_TIMEOUT_MS,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            table_memory_bytes: TABLE_MEMORY_BYTES_DEFAULT,
            trust_cut_log: false,
            disk_free_min_bytes: baton_consensus::config::DISK_FREE_MIN_BYTES,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".into(),
        }
    }
}

impl Config {
    /// What other nodes dial: `peer.advertise`, or `peer.listen` when that is empty.
    #[must_use]
    pub fn peer_address(&self) -> String {
        if self.peer.advertise.is_empty() {
            self.peer.listen.to_string()
        } else {
            self.peer.advertise.clone()
        }
    }

    /// What clients dial: `client.advertise`, or `client.listen` when that is empty.
    #[must_use]
    pub fn client_address(&self) -> String {
        if self.client.advertise.is_empty() {
            self.client.listen.to_string()
        } else {
            self.client.advertise.clone()
        }
    }

    /// Peer addresses of all nodes, by ordinal; one entry for a node alone.
    #[must_use]
    pub fn peer_addresses(&self) -> Vec<String> {
        if self.cluster.peers.is_empty() {
            vec![self.peer_address()]
        } else {
            self.cluster.peers.clone()
        }
    }

    /// The configuration as a file that would produce it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain tables, strings and numbers")
    }
}
