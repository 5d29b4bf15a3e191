//! `baton health`.

use crate::client::raw;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Base URL of the node's client port
    #[arg(
        long,
        env = "AXME_BASE_URL",
        default_value = "http://127.0.0.1:8100",
        value_name = "URL"
    )]
    url: String,
    /// Probe to ask: livez, readyz or startupz
    #[arg(long, default_value = "readyz", value_parser = ["livez", "readyz", "startupz"])]
    probe: String,
    /// Authority that signed the node's certificate (PEM), for https
    #[arg(long, env = "BATON_HEALTH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    timeout: u64,
}

pub(super) async fn run(args: HealthArgs, out: Output) -> Result<(), Failure> {
    let url = format!("{}/{}?verbose", args.url.trim_end_matches('/'), args.probe);
    let tls = args
        .ca
        .as_deref()
        .map(|ca| raw::tls(ca, None))
        .transpose()
        .map_err(|error| Failure::config(format!("--ca: {error:#}; name the authority's PEM file")))?;
    let ask = raw::exchange(tls, "GET", &url, &[], "");
    let answer = tokio::time::timeout(Duration::from_secs(args.timeout), ask)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", args.timeout)));
    let (status, text) = answer.map_err(|error| {
        Failure::failed(format!("{url} does not answer ({error:#}); is the node running?"))
    })?;
    if status == 200 {
        out.line(text.trim_end());
        Ok(())
    } else {
        Err(Failure::failed(format!("{url} answered {status}: {text}")))
    }
}
