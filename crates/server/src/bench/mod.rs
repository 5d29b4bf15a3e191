//! `baton bench`: a closed-loop load generator over HTTP, and what the nodes spend meanwhile.

mod agents;
mod failover;
mod load;
mod report;
mod target;
mod usage;

use crate::cluster::LaunchOptions;
use crate::exit::Failure;
use crate::output::Output;
use agents::Agents;
use load::{Kind, Load};
use report::{Cell, FailoverReport, Fill, Idle, Report};
use std::path::PathBuf;
use std::time::Duration;
use target::Target;
use usage::Usage;

/// How long the nodes are watched doing nothing.
const IDLE: Duration = Duration::from_secs(5);
/// Workers that fill the store.
const FILL_WORKERS: usize = 64;

/// Where the cluster under test comes from.
#[derive(Debug, Clone)]
pub enum Where {
    /// Start one and stop it afterwards.
    Own(Box<LaunchOptions>),
    /// Use the one this client.env describes.
    Running(PathBuf),
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    pub place: Where,
    /// Workers of each cell.
    pub concurrency: Vec<usize>,
    /// Counted time of a cell.
    pub duration: Duration,
    /// Time before counting.
    pub warm_up: Duration,
    /// Agent addresses.
    pub agents: usize,
    /// Filler of each payload.
    pub payload_bytes: usize,
    pub submit: bool,
    pub cycle: bool,
    /// Intents to store in the end.
    pub fill: u64,
    /// Leader kills.
    pub failover: u32,
}

/// Measures and prints.
///
/// # Errors
/// A cluster that cannot be started or reached.
pub async fn run(options: BenchOptions, out: Output) -> Result<(), Failure> {
    let mut target = match options.place.clone() {
        Where::Own(launch) => Target::start(*launch, &|line| out.line(line)).await?,
        Where::Running(env) => Target::running(&env)?,
    };
    let report = measure(&options, &mut target, out).await;
    target.stop().await;
    let report = report?;
    out.result(&report, &report.tables());
    Ok(())
}

async fn measure(options: &BenchOptions, target: &mut Target, out: Output) -> anyhow::Result<Report> {
    let load = Load::new(options, uuid::Uuid::new_v4().as_simple().to_string());
    let mut report = Report::new(target.nodes());
    out.line("idle");
    report.idle = idle(target).await;
    if options.submit {
        for &workers in &options.concurrency {
            report
                .cells
                .push(cell(&load, target, Kind::Submit, workers, out).await?);
        }
    }
    if options.cycle {
        let agents = Agents::start(target.api(), &load);
        for &workers in &options.concurrency {
            report
                .cells
                .push(cell(&load, target, Kind::Cycle, workers, out).await?);
        }
        agents.stop();
    }
    if options.fill > 0 {
        out.line(format!("storing {} intents", options.fill));
        let stored = load.run_count(target.api(), FILL_WORKERS, options.fill).await;
        let usage = Usage::read(target).await;
        report.fill = Some(Fill {
            intents: stored,
            resident_bytes: usage.resident_bytes,
            disk_bytes: usage.disk_bytes,
        });
    }
    if options.failover > 0 {
        report.failover = Some(failover(options, &load, target, out).await?);
    }
    Ok(report)
}

async fn idle(target: &Target) -> Option<Idle> {
    let before = Usage::read(target).await;
    tokio::time::sleep(IDLE).await;
    let after = Usage::read(target).await;
    let cpu_seconds = after.cpu_seconds? - before.cpu_seconds?;
    Some(Idle {
        cpu_percent_per_node: 100.0 * cpu_seconds / IDLE.as_secs_f64() / target.nodes() as f64,
        resident_bytes: after.resident_bytes,
        disk_bytes: after.disk_bytes,
    })
}

async fn cell(load: &Load, target: &Target, kind: Kind, workers: usize, out: Output) -> anyhow::Result<Cell> {
    out.line(format!("{} with {workers} workers", kind.name()));
    load.run_for(target.api(), kind, workers, load.warm_up()).await;
    let before = Usage::read(target).await;
    let counted = load.run_for(target.api(), kind, workers, load.duration()).await;
    let after = Usage::read(target).await;
    Ok(Cell::new(kind, workers, &counted, &before, &after))
}

async fn failover(
    options: &BenchOptions,
    load: &Load,
    target: &mut Target,
    out: Output,
) -> anyhow::Result<FailoverReport> {
    let mut times_ms = Vec::new();
    for n in 1..=options.failover {
        let ms = failover::once(load, target).await?;
        out.line(format!("failover {n} of {}: {ms} ms", options.failover));
        times_ms.push(ms);
    }
    Ok(FailoverReport::new(times_ms))
}
