//! Layers: built-in defaults < file < environment < flags. The two upper layers arrive together as
//! [`Overrides`], because the command line parser merges them and shows both in `--help`.

use super::{Config, LogFormat};
use crate::exit::Failure;
use clap::Args;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Settings from flags and `BATON_*` variables. Each one replaces the key of the file it names.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// Name of this node in logs and status [key: name; default: node-<ordinal + 1>]
    #[arg(long, env = "BATON_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Directory of this node's log, tables and identity; created when missing, never shared
    /// [key: data_dir; default: baton-data]
    #[arg(long, env = "BATON_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Address and port for applications (HTTP and event streams) [key: client.listen; default: 127.0.0.1:8100]
    #[arg(
        long,
        env = "BATON_CLIENT_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Client port"
    )]
    pub client_listen: Option<SocketAddr>,
    /// Certificate chain of the client port (PEM); without it the port speaks plain HTTP [key: client.tls.cert]
    #[arg(
        long,
        env = "BATON_CLIENT_TLS_CERT",
        value_name = "FILE",
        help_heading = "Client port"
    )]
    pub client_tls_cert: Option<PathBuf>,
    /// Private key of the client port (PEM) [key: client.tls.key]
    #[arg(
        long,
        env = "BATON_CLIENT_TLS_KEY",
        value_name = "FILE",
        help_heading = "Client port"
    )]
    pub client_tls_key: Option<PathBuf>,
    /// Requests per minute, key and endpoint, shared by the running nodes; 0 = no limit
    /// [key: limits.requests_per_minute; default: 120]
    #[arg(
        long,
        env = "BATON_LIMITS_REQUESTS_PER_MINUTE",
        value_name = "N",
        help_heading = "Client port"
    )]
    pub requests_per_minute: Option<u32>,

    /// Address and port for the other nodes; off loopback it needs the three --peer-tls files
    /// [key: peer.listen; default: 127.0.0.1:8101]
    #[arg(
        long,
        env = "BATON_PEER_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Peer port"
    )]
    pub peer_listen: Option<SocketAddr>,
    /// host:port under which the other nodes reach this one [key: peer.advertise; default: peer.listen]
    #[arg(
        long,
        env = "BATON_PEER_ADVERTISE",
        value_name = "HOST:PORT",
        help_heading = "Peer port"
    )]
    pub peer_advertise: Option<String>,
    /// Certificate of this node for peers, used as server and as client (PEM) [key: peer.tls.cert]
    #[arg(
        long,
        env = "BATON_PEER_TLS_CERT",
        value_name = "FILE",
        help_heading = "Peer port"
    )]
    pub peer_tls_cert: Option<PathBuf>,
    /// Private key of this node for peers (PEM) [key: peer.tls.key]
    #[arg(
        long,
        env = "BATON_PEER_TLS_KEY",
        value_name = "FILE",
        help_heading = "Peer port"
    )]
    pub peer_tls_key: Option<PathBuf>,
    /// Authority that must have signed every peer (PEM) [key: peer.tls.ca]
    #[arg(
        long,
        env = "BATON_PEER_TLS_CA",
        value_name = "FILE",
        help_heading = "Peer port"
    )]
    pub peer_tls_ca: Option<PathBuf>,

    /// Address and port for /metrics, probes and /status; off loopback it needs the three --operator-tls files
    /// [key: operator.listen; default: 127.0.0.1:8102]
    #[arg(
        long,
        env = "BATON_OPERATOR_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Operator port"
    )]
    pub operator_listen: Option<SocketAddr>,
    /// Certificate of the operator port (PEM) [key: operator.tls.cert]
    #[arg(
        long,
        env = "BATON_OPERATOR_TLS_CERT",
        value_name = "FILE",
        help_heading = "Operator port"
    )]
    pub operator_tls_cert: Option<PathBuf>,
    /// Private key of the operator port (PEM) [key: operator.tls.key]
    #[arg(
        long,
        env = "BATON_OPERATOR_TLS_KEY",
        value_name = "FILE",
        help_heading = "Operator port"
    )]
    pub operator_tls_key: Option<PathBuf>,
    /// Authority that must have signed every operator's certificate (PEM) [key: operator.tls.ca]
    #[arg(
        long,
        env = "BATON_OPERATOR_TLS_CA",
        value_name = "FILE",
        help_heading = "Operator port"
    )]
    pub operator_tls_ca: Option<PathBuf>,

    /// Advertised peer addresses of all nodes, comma separated, in the order of their ordinals; the same list on
    /// every node; absent = this node alone [key: cluster.peers]
    #[arg(
        long,
        env = "BATON_CLUSTER_PEERS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    pub cluster_peers: Option<Vec<String>>,
    /// Index of this node in the peer list, from 0; ordinal 0 creates the cluster [key: cluster.ordinal; default: 0]
    #[arg(
        long,
        env = "BATON_CLUSTER_ORDINAL",
        value_name = "N",
        help_heading = "Cluster"
    )]
    pub cluster_ordinal: Option<usize>,
    /// Shard groups of a new cluster, fixed for its life [key: cluster.shard_groups; default: 16]
    #[arg(
        long,
        env = "BATON_CLUSTER_SHARD_GROUPS",
        value_name = "N",
        help_heading = "Cluster"
    )]
    pub shard_groups: Option<u32>,
    /// File with organization, workspace and operator token of a new cluster, read once and by ordinal 0 only;
    /// only the token's hash is stored [key: cluster.bootstrap_credentials; default: minted into the data directory]
    #[arg(
        long,
        env = "BATON_CLUSTER_BOOTSTRAP_CREDENTIALS",
        value_name = "FILE",
        help_heading = "Cluster"
    )]
    pub bootstrap_credentials: Option<PathBuf>,

    /// Milliseconds a delivery may stay without pick-up before it is sent again
    /// [key: delivery.visibility_timeout_ms; default: 15000]
    #[arg(
        long,
        env = "BATON_DELIVERY_VISIBILITY_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Tuning"
    )]
    pub visibility_timeout_ms: Option<u64>,
    /// Milliseconds a picked-up delivery may stay unfinished before it is sent again
    /// [key: delivery.pickup_timeout_ms; default: 600000]
    #[arg(
        long,
        env = "BATON_DELIVERY_PICKUP_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Tuning"
    )]
    pub pickup_timeout_ms: Option<u64>,
    /// Bytes of memory for the tables of all groups [key: storage.table_memory_bytes; default: 536870912]
    #[arg(
        long,
        env = "BATON_STORAGE_TABLE_MEMORY_BYTES",
        value_name = "BYTES",
        help_heading = "Tuning"
    )]
    pub table_memory_bytes: Option<u64>,
    /// Trust a log that lost its end, when the other voters of a group are gone for good; acknowledged writes may be
    /// missing from it [key: storage.trust_cut_log; default: false]
    #[arg(
        long,
        env = "BATON_STORAGE_TRUST_CUT_LOG",
        value_name = "BOOL",
        help_heading = "Tuning"
    )]
    pub trust_cut_log: Option<bool>,
    /// Free bytes on the data directory's disk below which writes are refused while reads go on, 0 = never
    /// [key: storage.disk_free_min_bytes; default: 536870912]
    #[arg(
        long,
        env = "BATON_STORAGE_DISK_FREE_MIN_BYTES",
        value_name = "BYTES",
        help_heading = "Tuning"
    )]
    pub disk_free_min_bytes: Option<u64>,

    /// Form of log lines [key: log.format; default: text]
    #[arg(
        long,
        env = "BATON_LOG_FORMAT",
        value_name = "FORMAT",
        help_heading = "Telemetry"
    )]
    pub log_format: Option<LogFormat>,
    /// Log filter, as in info,baton_consensus=debug [key: log.filter; default: info]
    #[arg(
        long,
        env = "BATON_LOG_FILTER",
        value_name = "FILTER",
        help_heading = "Telemetry"
    )]
    pub log_filter: Option<String>,
    /// gRPC endpoint of an OpenTelemetry collector, as in http://127.0.0.1:4317; absent = no export
    /// [key: otlp.endpoint]
    #[arg(
        long,
        env = "BATON_OTLP_ENDPOINT",
        value_name = "URL",
        help_heading = "Telemetry"
    )]
    pub otlp_endpoint: Option<String>,
}

impl Overrides {
    /// The values that were given, as a nested dictionary.
    fn to_dict(&self) -> Dict {
        let mut dict = Dict::new();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| Value::from(p.display().to_string()));
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let listen = |at: &Option<SocketAddr>| at.map(|at| Value::from(at.to_string()));
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                insert(&mut dict, key, value);
            }
        };
        set("name", text(&self.name));
        set("data_dir", path(&self.data_dir));
        set("client.listen", listen(&self.client_listen));
        set("client.tls.cert", path(&self.client_tls_cert));
        set("client.tls.key", path(&self.client_tls_key));
        set(
            "limits.requests_per_minute",
            self.requests_per_minute.map(Value::from),
        );
        set("peer.listen", listen(&self.peer_listen));
        set("peer.advertise", text(&self.peer_advertise));
        set("peer.tls.cert", path(&self.peer_tls_cert));
        set("peer.tls.key", path(&self.peer_tls_key));
        set("peer.tls.ca", path(&self.peer_tls_ca));
        set("operator.listen", listen(&self.operator_listen));
        set("operator.tls.cert", path(&self.operator_tls_cert));
        set("operator.tls.key", path(&self.operator_tls_key));
        set("operator.tls.ca", path(&self.operator_tls_ca));
        set("cluster.peers", self.cluster_peers.clone().map(Value::from));
        set("cluster.ordinal", self.cluster_ordinal.map(Value::from));
        set("cluster.shard_groups", self.shard_groups.map(Value::from));
        set("cluster.bootstrap_credentials", path(&self.bootstrap_credentials));
        set(
            "delivery.visibility_timeout_ms",
            self.visibility_timeout_ms.map(Value::from),
        );
        set(
            "delivery.pickup_timeout_ms",
            self.pickup_timeout_ms.map(Value::from),
        );
        set("storage.trust_cut_log", self.trust_cut_log.map(Value::from));
        set(
            "storage.disk_free_min_bytes",
            self.disk_free_min_bytes.map(Value::from),
        );
        set(
            "storage.table_memory_bytes",
            self.table_memory_bytes.map(Value::from),
        );
        set(
            "log.format",
            self.log_format.map(|format| match format {
                LogFormat::Text => Value::from("text"),
                LogFormat::Json => Value::from("json"),
            }),
        );
        set("log.filter", text(&self.log_filter));
        set("otlp.endpoint", text(&self.otlp_endpoint));
        dict
    }
}

fn insert(dict: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            dict.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = dict
                .entry(section.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

/// Reads the layers and checks the result.
///
/// # Errors
/// One line naming file, key and fix (exit 78).
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, Failure> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::config(format!(
                "cannot read configuration {} ({error}); correct --config or BATON_CONFIG",
                path.display()
            ))
        })?;
        // Checked by itself first, so that an error can name the file and not a merged layer.
        Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(&text))
            .extract::<Config>()
            .map_err(|error| Failure::config(describe(path, &error)))?;
        figment = figment.merge(Toml::string(&text));
    }
    let mut config: Config = figment
        .merge(Serialized::defaults(overrides.to_dict()))
        .extract()
        .map_err(|error| Failure::config(format!("configuration: {error}")))?;
    if config.name.is_empty() {
        config.name = format!("node-{}", config.cluster.ordinal + 1);
    }
    super::check(&config)?;
    Ok(config)
}

/// One line for one mistake in a file.
fn describe(file: &Path, error: &figment::Error) -> String {
    let file = file.display();
    let mut key = error.path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(name, known) => {
            if !key.ends_with(name.as_str()) {
                key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
            }
            return format!("{file}: unknown key `{key}`; known here: {}", known.join(", "));
        }
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("is {found}, expected {wanted}")
        }
        Kind::UnknownVariant(found, known) => {
            format!("is `{found}`, expected one of {}", known.join(", "))
        }
        Kind::Message(_)
        | Kind::InvalidLength(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => error.kind.to_string(),
    };
    if key.is_empty() {
        format!("{file}: {what}; correct the file")
    } else {
        format!("{file}: key `{key}` {what}; correct or remove it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        overrides: Overrides,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn flags(args: &[&str]) -> Overrides {
        Line::parse_from(std::iter::once(&"x").chain(args)).overrides
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("data_dir = 'a'\n[client]\nlisten = '127.0.0.1:1'\n[cluster]\nshard_groups = 4\n");
        let args = flags(&["--client-listen", "127.0.0.1:2"]);
        let config = load(Some(file.path()), &args).unwrap();
        assert_eq!(config.client.listen.port(), 2);
        assert_eq!(config.data_dir, PathBuf::from("a"));
        assert_eq!(config.cluster.shard_groups, 4);
        assert_eq!(config.peer.listen.port(), 8101);
        assert_eq!(config.name, "node-1");
    }

    #[test]
    fn every_flag_has_its_variable_and_reaches_its_key() {
        let command = <Line as clap::CommandFactory>::command();
        for arg in command.get_arguments().filter(|a| a.get_id() != "help") {
            let env = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
            let help = arg.get_help().unwrap().to_string();
            let key = help
                .split("[key: ")
                .nth(1)
                .unwrap()
                .split([';', ']'])
                .next()
                .unwrap();
            assert_eq!(env, format!("BATON_{}", key.to_uppercase().replace('.', "_")));
        }
        let args = flags(&[
            "--cluster-peers",
            "127.0.0.1:8101,127.0.0.1:9101",
            "--log-format",
            "json",
            "--otlp-endpoint",
            "http://127.0.0.1:4317",
            "--requests-per-minute",
            "0",
        ]);
        let config = load(None, &args).unwrap();
        assert_eq!(config.cluster.peers.len(), 2);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.otlp.endpoint.as_deref(), Some("http://127.0.0.1:4317"));
        assert_eq!(config.limits.requests_per_minute, 0);
    }

    #[test]
    fn mistakes_in_the_file_are_one_line_with_file_key_and_fix() {
        for (text, needles) in [
            (
                "[client]\nlisen = 'x'\n",
                vec!["unknown key `client.lisen`", "listen"],
            ),
            ("colour = 1\n", vec!["unknown key `colour`", "data_dir"]),
            (
                "[cluster]\nordinal = 'one'\n",
                vec!["key `cluster.ordinal`", "expected"],
            ),
            ("[client]\nlisten = 'localhost'\n", vec!["client.listen"]),
            ("[log]\nformat = 'xml'\n", vec!["log.format", "text, json"]),
            ("= 3", vec!["correct the file"]),
        ] {
            let file = file(text);
            let failure = load(Some(file.path()), &Overrides::default()).unwrap_err();
            assert_eq!(failure.code, crate::exit::ExitCode::Config);
            assert!(
                failure.line.contains(&file.path().display().to_string()),
                "{}",
                failure.line
            );
            for needle in needles {
                assert!(
                    failure.line.contains(needle),
                    "{needle:?} not in {}",
                    failure.line
                );
            }
        }
        let failure = load(Some(Path::new("/no/such.toml")), &Overrides::default()).unwrap_err();
        assert!(failure.line.contains("/no/such.toml") && failure.line.contains("BATON_CONFIG"));
    }

    #[test]
    fn a_written_configuration_reads_back() {
        let config = load(None, &flags(&["--data-dir", "/d", "--name", "n"])).unwrap();
        let file = file(&config.to_toml());
        assert_eq!(load(Some(file.path()), &Overrides::default()).unwrap(), config);
    }
}
