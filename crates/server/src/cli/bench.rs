//! `baton bench`.

use super::cluster_args::{ClusterArgs, parse_size};
use crate::bench::{BenchOptions, Idempotency, Mode, Observe, Protocol, Where, run as measure};
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Workers of an open-loop cell: the most operations at a time.
const OPEN_LOOP_WORKERS: usize = 1024;
/// Stored intents of the waiting mode.
const FILL_DEFAULT: [u64; 2] = [10_000, 100_000];

#[derive(Debug, Args)]
#[command(
    long_about = "Closed loop: each of C workers waits for its answer before it goes on. Open loop (--rate): \
    operations begin at a given rate whatever the cluster does, and a latency counts from the intended start. An \
    operation counts only when its end was observed and right; errors are counted and shown. Load generator and nodes \
    share the machine unless --target says otherwise. Builds without --release measure the compiler."
)]
pub(super) struct BenchArgs {
    /// What to measure; the order of the cells is fixed, submit last
    #[arg(value_enum, default_values_t = [Mode::Submit, Mode::Cycle], value_name = "MODE")]
    modes: Vec<Mode>,
    /// Protocols, all cells for each
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "grpc",
        value_name = "PROTOCOL,…"
    )]
    protocol: Vec<Protocol>,
    /// client.env of a running cluster, or its addresses (http://host:port,…) with --key; a client.env of a local
    /// cluster also gives process ids and data sizes [default: start an own cluster]
    #[arg(long, value_name = "FILE|URL,…", conflicts_with_all = ["nodes", "failover"])]
    target: Option<String>,
    /// Key for --target with addresses
    #[arg(long, env = "AXME_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Nodes of the own cluster: 1, 3 or 5
    #[arg(long, value_parser = parse_size, default_value = "3", value_name = "N")]
    nodes: usize,
    /// Most operations at a time, for fan-out observers; one cell each [default: 1,16,64,256; with --rate 1024, for
    /// fan-out 16]
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..=16384),
        value_name = "C,…"
    )]
    concurrency: Vec<u16>,
    /// Open loop with this many operations per second, one cell each
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        value_name = "N,…"
    )]
    rate: Vec<u32>,
    /// Seconds per cell
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    duration: u64,
    /// Seconds of the same load before each cell, not counted
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600), value_name = "SECONDS")]
    warm_up: u64,
    /// Seconds to watch the nodes doing nothing; 0 = not at all
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3600), value_name = "SECONDS")]
    idle: u64,
    /// Agent addresses that share the load; they spread over the groups
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=16384), value_name = "N")]
    agents: u16,
    /// Bytes of each payload, as JSON text
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "BYTES")]
    payload_bytes: u32,
    /// Idempotency keys of the submits
    #[arg(long, value_enum, default_value = "none", value_name = "SCOPE")]
    idempotency: Idempotency,
    /// What the observers of a fan-out look at
    #[arg(long, value_enum, default_value = "agent", value_name = "WHAT")]
    observe: Observe,
    /// Where the endpoint of the push agents listens: an address that the nodes reach and may dial (push.allow_http and
    /// push.allow_networks; own clusters may dial loopback)
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    push_listen: SocketAddr,
    /// Intents stored before the other cells, in steps; all cells run after each step. Adds the waiting mode
    /// [default of the waiting mode: 10000,100000]
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000),
        value_name = "N,…"
    )]
    fill: Vec<u64>,
    /// Kill -9 a node after the cells of each step of --fill and report when it is ready again
    #[arg(long, conflicts_with = "target")]
    restart: bool,
    /// Kill the leader of a group this many times and report the median failover
    #[arg(long, default_value_t = 0, value_name = "N")]
    failover: u32,
    /// Write the latencies of every second of every cell to this file, an HDR histogram log
    #[arg(long, value_name = "FILE")]
    histogram: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: BenchArgs, out: Output) -> Result<(), Failure> {
    let options = options(args)?;
    tokio::select! {
        result = Box::pin(measure(options, out)) => result,
        () = super::interrupted() => Err(Failure::failed("interrupted; nothing is reported")),
    }
}

fn options(args: BenchArgs) -> Result<BenchOptions, Failure> {
    if args.idempotency == Idempotency::Recipient && args.protocol.contains(&Protocol::Axp) {
        return Err(Failure::config(
            "keys unique for caller and recipient are not part of AXP; use --protocol grpc",
        ));
    }
    let mut modes = args.modes;
    if !args.fill.is_empty() && !modes.contains(&Mode::Waiting) {
        modes.push(Mode::Waiting);
    }
    let concurrency = match (args.concurrency.as_slice(), args.rate.is_empty()) {
        ([], true) => vec![1, 16, 64, 256],
        ([], false) if modes.contains(&Mode::FanOut) => vec![16],
        ([], false) => vec![OPEN_LOOP_WORKERS],
        (given, _) => given.iter().copied().map(usize::from).collect(),
    };
    let mut fill = args.fill;
    fill.sort_unstable();
    if fill.is_empty() {
        fill.extend(FILL_DEFAULT);
    }
    Ok(BenchOptions {
        place: match args.target {
            Some(target) => place(&target, args.key)?,
            None => Where::Own(Box::new(args.cluster.launch(Some(args.nodes))?)),
        },
        modes,
        protocols: args.protocol,
        concurrency,
        rates: args.rate,
        duration: Duration::from_secs(args.duration),
        warm_up: Duration::from_secs(args.warm_up),
        idle: Duration::from_secs(args.idle),
        agents: usize::from(args.agents),
        payload_bytes: args.payload_bytes as usize,
        idempotency: args.idempotency,
        observe: args.observe,
        push_listen: args.push_listen,
        fill,
        restart: args.restart,
        failover: args.failover,
        histogram: args.histogram,
    })
}

fn place(target: &str, key: Option<String>) -> Result<Where, Failure> {
    if !target.contains("://") {
        return Ok(Where::Described(PathBuf::from(target)));
    }
    let key = key.ok_or_else(|| Failure::config("--target with addresses needs --key"))?;
    let urls = target.split(',').map(str::to_owned).collect();
    Ok(Where::Reached { urls, key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parsed(line: &[&str]) -> Result<BenchOptions, String> {
        let words = std::iter::once("bench").chain(line.iter().copied());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        options(line.args).map_err(|failure| failure.line)
    }

    #[test]
    fn lists_are_cells_and_defaults_fit_the_loop() {
        let closed = parsed(&["cycle", "get", "--protocol", "grpc,axp"]).unwrap();
        assert_eq!(closed.modes, [Mode::Cycle, Mode::Get]);
        assert_eq!(closed.protocols, [Protocol::Grpc, Protocol::Axp]);
        assert_eq!(closed.concurrency, [1, 16, 64, 256]);
        let open = parsed(&["--rate", "100,2000"]).unwrap();
        assert_eq!(open.protocols, [Protocol::Grpc]);
        assert_eq!(
            (open.rates, open.concurrency),
            (vec![100, 2000], vec![OPEN_LOOP_WORKERS])
        );
        assert_eq!(open.modes, [Mode::Submit, Mode::Cycle]);
    }

    #[test]
    fn fill_adds_its_mode_and_goes_upwards() {
        let options = parsed(&["cycle", "--fill", "200,100"]).unwrap();
        assert_eq!(options.modes, [Mode::Cycle, Mode::Waiting]);
        assert_eq!(options.fill, [100, 200]);
        assert_eq!(parsed(&["waiting"]).unwrap().fill, FILL_DEFAULT);
    }

    #[test]
    fn a_target_is_a_file_or_addresses_with_a_key() {
        let file = parsed(&["--target", "x/client.env"]).unwrap();
        assert!(matches!(file.place, Where::Described(_)));
        let urls = parsed(&["--target", "http://a:1,http://b:2", "--key", "k"]).unwrap();
        assert!(matches!(urls.place, Where::Reached { urls, .. } if urls.len() == 2));
        assert!(parsed(&["--target", "x", "--nodes", "3"]).is_err());
        let refused = parsed(&["--idempotency", "recipient", "--protocol", "axp"]).unwrap_err();
        assert!(refused.contains("--protocol grpc"), "{refused}");
    }
}
