//! `baton bench`.

use super::cluster_args::{ClusterArgs, parse_size};
use crate::bench::{BenchOptions, Where, run as measure};
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    long_about = "Closed loop over HTTP: each of C workers waits for its answer before it goes on. A submit ends \
    with its acknowledgement (synced on a majority); a cycle is submit, delivery on the agent's stream, resume, and \
    the terminal event seen by the submitter. Load generator and nodes share the machine unless --target says \
    otherwise. Builds without --release measure the compiler."
)]
pub(super) struct BenchArgs {
    /// client.env of a running cluster; its directory also gives process ids and data sizes when it is a local one
    /// [default: start an own cluster]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "failover"])]
    target: Option<PathBuf>,
    /// Nodes of the own cluster: 1, 3 or 5
    #[arg(long, value_parser = parse_size, default_value = "3", value_name = "N")]
    nodes: usize,
    /// Workers, one cell each, comma separated
    #[arg(
        long,
        default_value = "1,16,64,256",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..=4096),
        value_name = "C,…"
    )]
    concurrency: Vec<u16>,
    /// Seconds per cell
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    duration: u64,
    /// Seconds of warm-up before each cell, not counted
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    warm_up: u64,
    /// Agent addresses that share the load; they spread over the groups
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096), value_name = "N")]
    agents: u16,
    /// Bytes of each intent's payload filler
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "BYTES")]
    payload_bytes: u32,
    /// Leave out the submit cells
    #[arg(long)]
    no_submit: bool,
    /// Leave out the cycle cells
    #[arg(long)]
    no_cycle: bool,
    /// Submit this many intents in the end and report memory and disk with all of them stored
    #[arg(long, default_value_t = 0, value_name = "N")]
    fill: u64,
    /// Kill the leader of a group this many times and report the median failover
    #[arg(long, default_value_t = 0, value_name = "N")]
    failover: u32,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: BenchArgs, out: Output) -> Result<(), Failure> {
    let place = match args.target {
        Some(env) => Where::Running(env),
        None => Where::Own(Box::new(args.cluster.launch(Some(args.nodes))?)),
    };
    let options = BenchOptions {
        place,
        concurrency: args.concurrency.into_iter().map(usize::from).collect(),
        duration: Duration::from_secs(args.duration),
        warm_up: Duration::from_secs(args.warm_up),
        agents: usize::from(args.agents),
        payload_bytes: args.payload_bytes as usize,
        submit: !args.no_submit,
        cycle: !args.no_cycle,
        fill: args.fill,
        failover: args.failover,
    };
    tokio::select! {
        result = Box::pin(measure(options, out)) => result,
        () = super::interrupted() => Err(Failure::failed("interrupted; nothing is reported")),
    }
}
