//! `baton dev`.

use super::cluster_args::{ClusterArgs, parse_size};
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use std::time::Duration;

/// How often the nodes are looked at.
const WATCH: Duration = Duration::from_millis(200);
/// Pause before a dead node is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(
    long_about = "Starts a local cluster of real server processes and stops them all at Ctrl-C or SIGTERM. \
        Source DIR/client.env to point any AXME client at it; DIR/node-K/pid holds each node's process id.",
    after_help = "Example: baton dev --nodes 3 --data-dir /tmp/cluster &  set -a; . /tmp/cluster/client.env"
)]
pub(super) struct DevArgs {
    /// Number of nodes: 1, 3 or 5 [default: what the directory holds, or 3]
    #[arg(long, value_parser = parse_size, value_name = "N")]
    nodes: Option<usize>,
    /// Start a node again when it has ended; without it a killed node stays down
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: DevArgs, out: Output) -> Result<(), Failure> {
    let mut launch = args.cluster.launch(args.nodes)?;
    launch.usual_port = true;
    let mut stop = Box::pin(super::interrupted());
    let progress = |line: &str| out.line(line);
    let started = tokio::select! {
        started = Cluster::start(launch, &progress) => started,
        () = &mut stop => return Ok(()),
    };
    let mut cluster = started?;
    out.line(format!(
        "ready; clients: set -a; . {}; set +a   (Ctrl-C stops all nodes)",
        cluster.layout().client_env().display()
    ));
    let result = tokio::select! {
        result = watch(&mut cluster, args.restart, out) => result,
        () = &mut stop => Ok(()),
    };
    out.line("stopping the nodes");
    for k in cluster.stop().await {
        out.line(format!(
            "node-{k} did not end by itself; see {}",
            cluster.layout().log(k).display()
        ));
    }
    result
}

/// Reports nodes that end, and starts them again if asked to. Returns when none is left.
async fn watch(cluster: &mut Cluster, restart: bool, out: Output) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(WATCH).await;
        let ended = cluster.reap();
        for (_, obituary) in &ended {
            out.line(obituary);
        }
        if restart && !ended.is_empty() {
            tokio::time::sleep(RESTART_PAUSE).await;
            for (k, _) in &ended {
                cluster.start_node(*k)?;
                out.line(format!("node-{k} started again"));
            }
        }
        if cluster.running() == 0 {
            return Err(Failure::failed("every node has ended; see the lines above"));
        }
    }
}
