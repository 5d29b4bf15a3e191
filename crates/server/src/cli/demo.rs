//! `baton demo`.

use super::cluster_args::ClusterArgs;
use crate::demo::{DemoOptions, READY_TIMEOUT, Show, run as play};
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;

#[derive(Debug, Args)]
#[command(
    long_about = "Starts a local cluster, sends one payment through the scenario replacing-webhooks.demo.v1 \
    with a built-in agent, then a burst of payments while the node that leads the agent's group is killed with \
    kill -9, and counts what became of them. Stays up until Ctrl-C so that you can try a client of your own. \
    With --scenario it shows one scenario alone: human-approval, delay or push."
)]
pub(super) struct DemoArgs {
    /// Number of nodes; a quorum must survive the kill [3 or 5]
    #[arg(long, default_value = "3", value_parser = ["3", "5"], value_name = "N")]
    nodes: String,
    /// Intents of the burst
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1_000_000), value_name = "N")]
    intents: u32,
    /// Submits at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    concurrency: u16,
    /// End after the table: status 0 only if every intent was accepted and completed exactly once
    #[arg(long)]
    exit: bool,
    /// Show one scenario alone and end with it: status 0 only if it completed
    #[arg(long, value_enum, value_name = "NAME")]
    scenario: Option<Show>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: DemoArgs, out: Output) -> Result<(), Failure> {
    let mut launch = args.cluster.launch(args.nodes.parse().ok())?;
    launch.usual_port = !args.exit && args.scenario.is_none();
    launch.ready_timeout = READY_TIMEOUT;
    if let Some(show) = args.scenario {
        show.prepare(&mut launch.base);
    }
    let options = DemoOptions {
        launch,
        intents: args.intents as usize,
        concurrency: usize::from(args.concurrency),
        exit: args.exit,
        show: args.scenario,
    };
    Box::pin(play(options, out, super::interrupted())).await
}
