//! One load generator for several brokers: the work that `baton bench submit cycle` measures, done with what each of
//! them offers for it.
//!
//! `submit` ends when the broker has said that the message is safe; `cycle` is submit, delivery to a worker, the
//! worker's result, its acknowledgement, and the result seen by the submitter. See README.md for what "safe" means
//! to each.

mod etcd;
mod load;
mod nats;
mod peer;
mod postgresql;
mod rabbitmq;
mod usage;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use load::Cell;
use peer::Peer;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Nats,
    Rabbitmq,
    Etcd,
    Postgresql,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Submit,
    Cycle,
}

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(value_enum)]
    peer: Kind,
    /// Addresses of its nodes, as its client takes them
    #[arg(long, value_delimiter = ',', required = true)]
    servers: Vec<String>,
    /// Process ids of its nodes; their children count too
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    #[arg(long, value_delimiter = ',', default_value = "submit,cycle")]
    mode: Vec<Mode>,
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    concurrency: Vec<usize>,
    /// Seconds per cell
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// Seconds of the same load before each cell
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    #[arg(long, default_value_t = 256)]
    payload_bytes: usize,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    peer: Kind,
    profile: &'static str,
    payload_bytes: usize,
    cells: Vec<Cell>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let peer = connect(&arguments).await.context("cannot connect")?;
    let mut cells = Vec::new();
    for &mode in &arguments.mode {
        for &workers in &arguments.concurrency {
            let times = load::Times {
                warm_up: Duration::from_secs(arguments.warm_up),
                duration: Duration::from_secs(arguments.duration),
            };
            cells.push(load::run(&peer, mode, workers, times, &arguments.pids).await);
        }
    }
    let report = Report {
        peer: arguments.peer,
        profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        payload_bytes: arguments.payload_bytes,
        cells,
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

async fn connect(arguments: &Arguments) -> anyhow::Result<Arc<dyn Peer>> {
    let (servers, bytes) = (arguments.servers.as_slice(), arguments.payload_bytes);
    Ok(match arguments.peer {
        Kind::Nats => nats::Nats::connect(servers, bytes).await?,
        Kind::Rabbitmq => rabbitmq::Rabbitmq::connect(servers, bytes).await?,
        Kind::Etcd => etcd::Etcd::connect(servers, bytes).await?,
        Kind::Postgresql => postgresql::Postgresql::connect(servers, bytes).await?,
    })
}
