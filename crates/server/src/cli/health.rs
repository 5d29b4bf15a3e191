//! `baton health`.

use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Base URL of the node's client port (plain HTTP)
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
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    timeout: u64,
}

pub(super) async fn run(args: HealthArgs, out: Output) -> Result<(), Failure> {
    let url = format!("{}/{}?verbose", args.url.trim_end_matches('/'), args.probe);
    let ask = async {
        let response = reqwest::Client::builder()
            .timeout(Duration::from_secs(args.timeout))
            .build()?
            .get(&url)
            .send()
            .await?;
        let status = response.status();
        anyhow::Ok((status, response.text().await?))
    };
    let (status, text) = ask
        .await
        .map_err(|error| Failure::failed(format!("{url} does not answer ({error}); is the node running?")))?;
    if status.is_success() {
        out.line(text.trim_end());
        Ok(())
    } else {
        Err(Failure::failed(format!("{url} answered {status}: {text}")))
    }
}
