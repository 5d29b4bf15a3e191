//! How deliveries are posted to the endpoints of agents.

use baton_delivery::PushSettings;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Posts to agents whose delivery mode is `http`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Push {
    /// Accept and dial callback URLs that begin with `http://`.
    pub allow_http: bool,
    /// Networks that may be dialled although they are not public, as in `10.1.0.0/16`.
    pub allow_networks: Vec<IpNet>,
    /// Pauses after the first, second, … failed attempt; the last one repeats.
    pub retry_schedule_ms: Vec<u64>,
    /// Time one attempt may take.
    pub timeout_ms: u64,
    /// Posts of this node under way at the same time.
    pub concurrency: usize,
    /// Of these, to one endpoint.
    pub endpoint_concurrency: usize,
    /// Of these, to one host.
    pub host_concurrency: usize,
    /// Of these, for the agents of one workspace.
    pub workspace_concurrency: usize,
    /// Certificate authority (PEM) that endpoints may be signed by, beside those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for Push {
    fn default() -> Self {
        let settings = PushSettings::default();
        Self {
            allow_http: settings.allow_http,
            allow_networks: settings.allow_networks,
            retry_schedule_ms: settings.retry_schedule_ms,
            timeout_ms: settings.timeout_ms,
            concurrency: settings.concurrency,
            endpoint_concurrency: settings.endpoint_concurrency,
            host_concurrency: settings.host_concurrency,
            workspace_concurrency: settings.workspace_concurrency,
            ca: None,
        }
    }
}

impl Push {
    /// As delivery takes it.
    #[must_use]
    pub fn settings(&self) -> PushSettings {
        PushSettings {
            concurrency: self.concurrency,
            endpoint_concurrency: self.endpoint_concurrency,
            host_concurrency: self.host_concurrency,
            workspace_concurrency: self.workspace_concurrency,
            timeout_ms: self.timeout_ms,
            retry_schedule_ms: self.retry_schedule_ms.clone(),
            allow_http: self.allow_http,
            allow_networks: self.allow_networks.clone(),
            ..PushSettings::default()
        }
    }
}
