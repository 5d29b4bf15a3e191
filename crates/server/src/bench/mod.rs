//! `baton bench`: a load generator, and what the nodes spend meanwhile.
//!
//! A cell is one mode at one load. Its workers share a schedule (closed or open loop) and a recorder; an operation
//! is a call of a driver, of which there is one for each protocol. Every operation checks what it counts.

mod cell;
mod driver;
mod endpoint;
mod failover;
mod fan_out;
mod histogram_log;
mod load;
mod mode;
mod progress;
mod record;
mod report;
mod restart;
mod rounds;
mod schedule;
mod tables;
mod target;
mod usage;

pub use mode::{Idempotency, Mode, Observe, Protocol};

use crate::cluster::LaunchOptions;
use crate::exit::Failure;
use crate::output::Output;
use cell::{End, Plan, Reporting};
use driver::{Driver, Refused};
use endpoint::Endpoint;
use fan_out::FanOut;
use histogram_log::HistogramLog;
use load::Load;
use progress::Progress;
use report::{Cell, FailoverReport, Idle, Report};
use rounds::{Round, Stored};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use target::Target;
use tokio::task::JoinHandle;
use usage::Usage;

/// Workers that store intents.
const FILL_WORKERS: usize = 64;
/// Workers of an open-loop fan-out; in the closed loop there is one.
const FAN_OUT_WORKERS: usize = 64;

/// Where the cluster under test comes from.
#[derive(Debug, Clone)]
pub enum Where {
    /// Start one and stop it afterwards.
    Own(Box<LaunchOptions>),
    /// Use the one this client.env describes.
    Described(PathBuf),
    /// Use the one at these addresses, with this key.
    Reached { urls: Vec<String>, key: String },
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    pub place: Where,
    pub modes: Vec<Mode>,
    pub protocols: Vec<Protocol>,
    /// Most operations at a time (fan-out: observers), a cell each.
    pub concurrency: Vec<usize>,
    /// Operations per second, a cell each; empty = closed loop.
    pub rates: Vec<u32>,
    /// Counted time of a cell.
    pub duration: Duration,
    /// Time before counting.
    pub warm_up: Duration,
    /// Time that the nodes are watched doing nothing.
    pub idle: Duration,
    /// Agent addresses.
    pub agents: usize,
    /// JSON text of each payload.
    pub payload_bytes: usize,
    pub idempotency: Idempotency,
    pub observe: Observe,
    /// Where the endpoint of the push agents listens; port 0 = any. Nodes post to it.
    pub push_listen: SocketAddr,
    /// Steps of the waiting mode: intents stored in all.
    pub fill: Vec<u64>,
    /// Kill and start a node after the cells of each step.
    pub restart: bool,
    /// Leader kills.
    pub failover: u32,
    /// Where to write the latencies of every second.
    pub histogram: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// A cluster that cannot be started or reached; a cell in which nothing succeeded.
pub async fn run(options: BenchOptions, out: Output) -> Result<(), Failure> {
    let log = options
        .histogram
        .as_deref()
        .map(HistogramLog::create)
        .transpose()?;
    let mut target = match options.place.clone() {
        Where::Own(launch) => Target::start(*launch, &|line| out.line(line)).await?,
        Where::Described(env) => Target::described(&env)?,
        Where::Reached { urls, key } => Target::reached(urls.iter().map(String::as_str), key),
    };
    let mut bench = Bench {
        options: &options,
        report: Report::new(&options, target.nodes(), target.shard_groups().await),
        reporting: Reporting {
            progress: Progress::new(out),
            log,
        },
    };
    let measured = Box::pin(bench.measure(&mut target)).await;
    target.stop().await;
    measured?;
    if let Some(log) = &bench.reporting.log {
        log.write()?;
    }
    out.result(&bench.report, &bench.report.tables());
    match bench.report.cells.iter().find(|cell| cell.operations == 0) {
        Some(cell) => Err(Failure::failed(format!(
            "nothing succeeded in the cell {}",
            cell.name
        ))),
        None => Ok(()),
    }
}

/// One run.
struct Bench<'a> {
    options: &'a BenchOptions,
    report: Report,
    reporting: Reporting,
}

impl Bench<'_> {
    async fn measure(&mut self, target: &mut Target) -> anyhow::Result<()> {
        self.report.idle = self.idle(target).await;
        let streams = self
            .options
            .agents
            .max(self.options.concurrency.iter().copied().max().unwrap_or(1));
        for &protocol in &self.options.protocols {
            let driver = target.driver(protocol, streams)?;
            let steps = match self.options.modes.contains(&Mode::Waiting) {
                true => self.options.fill.iter().copied().map(Some).collect(),
                false => vec![None],
            };
            let load = self.load();
            for step in steps {
                if let Some(stored) = step {
                    self.fill(stored, protocol, &load, &driver, target).await;
                }
                self.cells(protocol, &load, &driver, target).await?;
                if self.options.restart {
                    self.reporting.progress.line("restart of a node");
                    let restart = restart::once(load.stored(), target).await?;
                    self.report.restarts.push(restart);
                }
            }
        }
        if self.options.failover > 0 {
            self.report.failover = Some(self.failover(target).await?);
        }
        Ok(())
    }

    /// Intents of their own for each protocol.
    fn load(&self) -> Load {
        let run = uuid::Uuid::new_v4().as_simple().to_string();
        Load::new(
            &run[..8],
            self.options.agents,
            self.options.payload_bytes,
            self.options.idempotency,
        )
    }

    async fn idle(&self, target: &Target) -> Option<Idle> {
        if self.options.idle.is_zero() {
            return None;
        }
        self.reporting.progress.line("idle");
        let before = Usage::read(target).await;
        tokio::time::sleep(self.options.idle).await;
        let after = Usage::read(target).await;
        let cpu_seconds = after.cpu_seconds? - before.cpu_seconds?;
        Some(Idle {
            cpu_percent_per_node: 100.0 * cpu_seconds
                / self.options.idle.as_secs_f64()
                / target.nodes() as f64,
            resident_bytes_per_node: after.resident_bytes,
            disk_bytes: after.disk_bytes,
        })
    }

    /// Stores intents that nobody picks up until there are `stored` of this run.
    async fn fill(&mut self, stored: u64, protocol: Protocol, load: &Load, driver: &Driver, target: &Target) {
        let missing = stored.saturating_sub(load.stored());
        if missing == 0 {
            return;
        }
        let plan = Plan {
            mode: Mode::Waiting,
            protocol,
            workers: FILL_WORKERS,
            observers: None,
            rate: None,
            warm_up: Duration::ZERO,
            until: End::Count(missing),
        };
        self.cell(&plan, &Round::Submit, load, driver, target).await;
    }

    async fn cells(
        &mut self,
        protocol: Protocol,
        load: &Load,
        driver: &Driver,
        target: &Target,
    ) -> anyhow::Result<()> {
        // Submits last: what they store slows down whatever comes after.
        for mode in [Mode::Cycle, Mode::Push, Mode::FanOut, Mode::Get, Mode::Submit] {
            if !self.options.modes.contains(&mode) {
                continue;
            }
            let stored = if mode == Mode::Get {
                Some(Stored::store(load, driver).await?)
            } else {
                None
            };
            let agents = self.agents(mode, load, driver, target).await?;
            for plan in self.plans(mode, protocol) {
                let round = match (mode, &stored) {
                    (Mode::Get, Some(stored)) => Round::Get(stored.clone()),
                    (Mode::Cycle, _) => Round::Cycle,
                    (Mode::Push, _) => Round::Push,
                    (Mode::FanOut, _) => {
                        let observers = plan.observers.unwrap_or(1);
                        Round::FanOut(FanOut::start(load, driver, self.options.observe, observers))
                    }
                    _ => Round::Submit,
                };
                let before = agents.refused();
                self.cell(&plan, &round, load, driver, target).await;
                if let Some(cell) = self.report.cells.last_mut() {
                    cell.refused_completions = agents.refused() - before;
                }
            }
        }
        Ok(())
    }

    /// Whoever takes part in the cells of `mode`.
    async fn agents(
        &self,
        mode: Mode,
        load: &Load,
        driver: &Driver,
        target: &Target,
    ) -> anyhow::Result<Agents> {
        Ok(match mode {
            Mode::Cycle => Agents::Streams(Streams::start(load, driver)),
            Mode::Push => {
                let api = target.api()?;
                Agents::Posted(Endpoint::start(load, driver, &api, self.options.push_listen).await?)
            }
            Mode::Submit | Mode::Get | Mode::FanOut | Mode::Waiting => Agents::None,
        })
    }

    fn plans(&self, mode: Mode, protocol: Protocol) -> Vec<Plan> {
        let rates = match self.options.rates.as_slice() {
            [] => vec![None],
            rates => rates.iter().copied().map(Some).collect(),
        };
        let concurrency = &self.options.concurrency;
        let plan = |rate: Option<u32>, count: usize| {
            let (workers, observers) = match (mode, rate) {
                (Mode::FanOut, None) => (1, Some(count)),
                (Mode::FanOut, Some(_)) => (FAN_OUT_WORKERS, Some(count)),
                _ => (count, None),
            };
            Plan {
                mode,
                protocol,
                workers,
                observers,
                rate,
                warm_up: self.options.warm_up,
                until: End::Time(self.options.duration),
            }
        };
        rates
            .into_iter()
            .flat_map(|rate| concurrency.iter().map(move |&count| plan(rate, count)))
            .collect()
    }

    async fn cell(&mut self, plan: &Plan, round: &Round, load: &Load, driver: &Driver, target: &Target) {
        let stored = load.stored();
        let counted = cell::run(plan, round, load, driver, target, &mut self.reporting).await;
        self.report.cells.push(Cell::new(plan, stored, &counted));
    }

    async fn failover(&self, target: &mut Target) -> anyhow::Result<FailoverReport> {
        let protocol = self.options.protocols.first().copied().unwrap_or(Protocol::Axp);
        let (load, driver) = (self.load(), target.driver(protocol, 1)?);
        let mut times_ms = Vec::new();
        for n in 1..=self.options.failover {
            let ms = failover::once(&load, &driver, target).await?;
            let line = format!("failover {n} of {}: {ms} ms", self.options.failover);
            self.reporting.progress.line(line);
            times_ms.push(ms);
        }
        Ok(FailoverReport::new(times_ms))
    }
}

/// Whoever completes the intents of a cell; they stop when dropped.
enum Agents {
    None,
    Streams(Streams),
    Posted(Endpoint),
}

impl Agents {
    /// Completions so far that did not take effect.
    fn refused(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Streams(streams) => streams.refused.total(),
            Self::Posted(endpoint) => endpoint.refused.total(),
        }
    }
}

/// The agents of the cycle cells, one per address, spread over the nodes; they stop when dropped.
struct Streams {
    tasks: Vec<JoinHandle<()>>,
    refused: Refused,
}

impl Streams {
    fn start(load: &Load, driver: &Driver) -> Self {
        let refused = Refused::default();
        let tasks = load
            .agents()
            .enumerate()
            .map(|(n, name)| driver.starting_at(n).agent(name, &refused))
            .collect();
        Self { tasks, refused }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
