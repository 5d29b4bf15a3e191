//! Logs and traces.

use super::Values;
use crate::config::LogFormat;
use clap::Args;

#[derive(Debug, Clone, Default, Args)]
pub struct TelemetryFlags {
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

impl TelemetryFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set(
            "log.format",
            self.log_format.map(|format| match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }),
        );
        values.set("log.filter", self.log_filter.clone());
        values.set("otlp.endpoint", self.otlp_endpoint.clone());
    }
}
