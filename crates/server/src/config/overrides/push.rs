//! Posts to endpoints of agents.

use super::{Values, path};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Args)]
pub struct PushFlags {
    /// Accept and dial callback URLs that begin with http:// [key: push.allow_http; default: false]
    #[arg(
        long,
        env = "BATON_PUSH_ALLOW_HTTP",
        value_name = "BOOL",
        help_heading = "Push"
    )]
    pub push_allow_http: Option<bool>,
    /// Networks that callbacks may be in although they are not public, comma separated, as in 10.1.0.0/16; whoever
    /// may register agents can then have this node post there [key: push.allow_networks; default: none]
    #[arg(
        long,
        env = "BATON_PUSH_ALLOW_NETWORKS",
        value_name = "NETWORK,…",
        value_delimiter = ',',
        help_heading = "Push"
    )]
    pub push_allow_networks: Option<Vec<String>>,
    /// Milliseconds to wait after the first, second, … failed attempt, comma separated; the last one repeats
    /// [key: push.retry_schedule_ms; default: 30000,120000,600000]
    #[arg(
        long,
        env = "BATON_PUSH_RETRY_SCHEDULE_MS",
        value_name = "MS,…",
        value_delimiter = ',',
        help_heading = "Push"
    )]
    pub push_retry_schedule_ms: Option<Vec<u64>>,
    /// Milliseconds that one attempt may take [key: push.timeout_ms; default: 10000]
    #[arg(long, env = "BATON_PUSH_TIMEOUT_MS", value_name = "MS", help_heading = "Push")]
    pub push_timeout_ms: Option<u64>,
    /// Posts of this node under way at the same time [key: push.concurrency; default: 256]
    #[arg(long, env = "BATON_PUSH_CONCURRENCY", value_name = "N", help_heading = "Push")]
    pub push_concurrency: Option<usize>,
    /// Of these, to one endpoint [key: push.endpoint_concurrency; default: 16]
    #[arg(
        long,
        env = "BATON_PUSH_ENDPOINT_CONCURRENCY",
        value_name = "N",
        help_heading = "Push"
    )]
    pub push_endpoint_concurrency: Option<usize>,
    /// Of these, to one host [key: push.host_concurrency; default: 64]
    #[arg(
        long,
        env = "BATON_PUSH_HOST_CONCURRENCY",
        value_name = "N",
        help_heading = "Push"
    )]
    pub push_host_concurrency: Option<usize>,
    /// Of these, for the agents of one workspace [key: push.workspace_concurrency; default: 128]
    #[arg(
        long,
        env = "BATON_PUSH_WORKSPACE_CONCURRENCY",
        value_name = "N",
        help_heading = "Push"
    )]
    pub push_workspace_concurrency: Option<usize>,
    /// Authority that endpoints may be signed by, beside those of the system (PEM) [key: push.ca]
    #[arg(long, env = "BATON_PUSH_CA", value_name = "FILE", help_heading = "Push")]
    pub push_ca: Option<PathBuf>,
}

impl PushFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("push.allow_http", self.push_allow_http);
        values.set("push.allow_networks", self.push_allow_networks.clone());
        values.set("push.retry_schedule_ms", self.push_retry_schedule_ms.clone());
        values.set("push.timeout_ms", self.push_timeout_ms);
        values.set("push.concurrency", self.push_concurrency);
        values.set("push.endpoint_concurrency", self.push_endpoint_concurrency);
        values.set("push.host_concurrency", self.push_host_concurrency);
        values.set("push.workspace_concurrency", self.push_workspace_concurrency);
        values.set("push.ca", path(self.push_ca.as_deref()));
    }
}
