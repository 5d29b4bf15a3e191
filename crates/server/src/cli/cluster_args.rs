//! Flags shared by the commands that start a local cluster.

use crate::cluster::LaunchOptions;
use crate::config::{LogFormat, NotifierFlags, Overrides, PushFlags, load};
use crate::exit::Failure;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Directory of the cluster: node-K/{pid,config.toml,log,data}, client.env, cluster.toml; a later start with the
    /// same directory continues the same cluster [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Requests per minute, key and endpoint; 0 = no limit
    #[arg(
        long,
        env = "BATON_LIMITS_REQUESTS_PER_MINUTE",
        default_value_t = 0,
        value_name = "N",
        help_heading = "Nodes"
    )]
    requests_per_minute: u32,
    /// Shard groups of a new cluster
    #[arg(
        long,
        env = "BATON_CLUSTER_SHARD_GROUPS",
        default_value_t = baton_protocol::slot::SHARD_GROUPS_DEFAULT,
        value_name = "N",
        help_heading = "Nodes"
    )]
    shard_groups: u32,
    /// Milliseconds a delivery may stay without pick-up before it is sent again
    #[arg(
        long,
        env = "BATON_DELIVERY_VISIBILITY_TIMEOUT_MS",
        default_value_t = baton_protocol::limits::VISIBILITY_TIMEOUT_MS,
        value_name = "MS",
        help_heading = "Nodes"
    )]
    visibility_timeout_ms: u64,
    /// Milliseconds a picked-up delivery may stay unfinished before it is sent again
    #[arg(
        long,
        env = "BATON_DELIVERY_PICKUP_TIMEOUT_MS",
        default_value_t = baton_protocol::limits::PICKUP_TIMEOUT_MS,
        value_name = "MS",
        help_heading = "Nodes"
    )]
    pickup_timeout_ms: u64,
    /// Milliseconds to wait after the first, second, … failed push, comma separated; the last one repeats
    #[arg(
        long,
        env = "BATON_PUSH_RETRY_SCHEDULE_MS",
        value_delimiter = ',',
        default_values_t = crate::config::Push::default().retry_schedule_ms,
        value_name = "MS,…",
        help_heading = "Nodes"
    )]
    push_retry_schedule_ms: Vec<u64>,
    /// Bytes of memory for the tables of one node
    #[arg(
        long,
        env = "BATON_STORAGE_TABLE_MEMORY_BYTES",
        default_value_t = crate::config::TABLE_MEMORY_BYTES_DEFAULT,
        value_name = "BYTES",
        help_heading = "Nodes"
    )]
    table_memory_bytes: u64,
    /// Free bytes on the disk below which a node takes no writes while reads go on; 0 = never
    #[arg(
        long,
        env = "BATON_STORAGE_DISK_FREE_MIN_BYTES",
        default_value_t = baton_consensus::config::DISK_FREE_MIN_BYTES,
        value_name = "BYTES",
        help_heading = "Nodes"
    )]
    disk_free_min_bytes: u64,
    /// Form of the nodes' log lines
    #[arg(
        long,
        env = "BATON_LOG_FORMAT",
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Nodes"
    )]
    log_format: LogFormat,
    /// Filter of the nodes' logs, as in info,baton_consensus=debug
    #[arg(
        long,
        env = "BATON_LOG_FILTER",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Nodes"
    )]
    log_filter: String,
    /// gRPC endpoint of an OpenTelemetry collector for the nodes' spans; absent = no export
    #[arg(long, env = "BATON_OTLP_ENDPOINT", value_name = "URL", help_heading = "Nodes")]
    otlp_endpoint: Option<String>,
    #[command(flatten)]
    notifier: NotifierFlags,
}

impl ClusterArgs {
    /// The launch these flags describe.
    pub(super) fn launch(self, nodes: Option<usize>) -> Result<LaunchOptions, Failure> {
        // Local nodes may dial endpoints on this machine, see the plan of a cluster.
        let push = PushFlags {
            push_allow_http: Some(true),
            ..PushFlags::default()
        };
        let overrides = Overrides {
            notifier: self.notifier,
            push,
            ..Overrides::default()
        };
        let mut base = load(None, &overrides)?;
        base.limits.requests_per_minute = self.requests_per_minute;
        base.cluster.shard_groups = self.shard_groups;
        base.delivery.visibility_timeout_ms = self.visibility_timeout_ms;
        base.delivery.pickup_timeout_ms = self.pickup_timeout_ms.max(self.visibility_timeout_ms);
        base.push.retry_schedule_ms = self.push_retry_schedule_ms;
        base.storage.table_memory_bytes = self.table_memory_bytes;
        base.storage.disk_free_min_bytes = self.disk_free_min_bytes;
        base.log.format = self.log_format;
        base.log.filter = self.log_filter;
        base.otlp.endpoint = self.otlp_endpoint;
        crate::config::check(&base)?;
        Ok(LaunchOptions {
            data_dir: self.data_dir,
            nodes,
            base,
            ..LaunchOptions::new()?
        })
    }
}

/// Reads a cluster size that `dev` offers.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if crate::cluster::plan::SIZES.contains(&n) => Ok(n),
        Ok(_) | Err(_) => {
            Err("use 1, 3 or 5: an even number of nodes survives no more losses than one less".into())
        }
    }
}
