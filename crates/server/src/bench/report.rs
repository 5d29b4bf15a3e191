//! The figures of one run.

use super::load::{Counted, Kind};
use super::usage::Usage;
use crate::output::table;
use comfy_table::Table;
use serde::Serialize;

/// Everything that was measured; absent parts were not asked for or cannot be seen from here.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) profile: &'static str,
    pub(super) nodes: usize,
    pub(super) cpus: usize,
    pub(super) idle: Option<Idle>,
    pub(super) cells: Vec<Cell>,
    pub(super) fill: Option<Fill>,
    pub(super) failover: Option<FailoverReport>,
}

/// The nodes before any load.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    pub(super) cpu_percent_per_node: f64,
    /// All nodes together.
    pub(super) resident_bytes: Option<u64>,
    /// All nodes together.
    pub(super) disk_bytes: Option<u64>,
}

/// One kind of round at one number of workers.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    kind: Kind,
    workers: usize,
    rounds: usize,
    errors: u64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// CPU seconds of all nodes per 1,000 rounds.
    node_cpu_seconds_per_1000: Option<f64>,
    /// Device syncs of all nodes per round.
    syncs_per_round: Option<f64>,
    resident_bytes: Option<u64>,
    disk_bytes: Option<u64>,
}

/// The nodes with many intents stored.
#[derive(Debug, Serialize)]
pub(super) struct Fill {
    pub(super) intents: u64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) disk_bytes: Option<u64>,
}

/// Times without a successful submit after kill -9 of the leader.
#[derive(Debug, Serialize)]
pub(super) struct FailoverReport {
    median_ms: u64,
    min_ms: u64,
    max_ms: u64,
    times_ms: Vec<u64>,
}

impl FailoverReport {
    pub(super) fn new(times_ms: Vec<u64>) -> Self {
        let mut sorted = times_ms.clone();
        sorted.sort_unstable();
        let at = |n: usize| sorted.get(n).copied().unwrap_or(0);
        Self {
            median_ms: at(sorted.len() / 2),
            min_ms: at(0),
            max_ms: at(sorted.len().saturating_sub(1)),
            times_ms,
        }
    }
}

impl Cell {
    pub(super) fn new(kind: Kind, workers: usize, counted: &Counted, before: &Usage, after: &Usage) -> Self {
        let rounds = counted.latencies_us.len();
        let spent = |before: Option<f64>, after: Option<f64>| Some((after? - before?) / rounds.max(1) as f64);
        Self {
            kind,
            workers,
            rounds,
            errors: counted.errors,
            per_second: rounds as f64 / counted.seconds.max(f64::EPSILON),
            p50_ms: percentile_ms(&counted.latencies_us, 0.50),
            p99_ms: percentile_ms(&counted.latencies_us, 0.99),
            max_ms: percentile_ms(&counted.latencies_us, 1.0),
            node_cpu_seconds_per_1000: spent(before.cpu_seconds, after.cpu_seconds).map(|each| each * 1000.0),
            syncs_per_round: spent(before.syncs, after.syncs),
            resident_bytes: after.resident_bytes,
            disk_bytes: after.disk_bytes,
        }
    }
}

/// Nearest-rank percentile of sorted microseconds, in milliseconds.
fn percentile_ms(sorted_us: &[u32], share: f64) -> f64 {
    let rank = (share * sorted_us.len() as f64).ceil() as usize;
    sorted_us
        .get(rank.saturating_sub(1))
        .map_or(0.0, |&us| f64::from(us) / 1000.0)
}

impl Report {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            nodes,
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            idle: None,
            cells: Vec::new(),
            fill: None,
            failover: None,
        }
    }

    pub(super) fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.cell_table()];
        let mut rest = table(&["nodes together", "figure"]);
        if let Some(idle) = &self.idle {
            rest.add_row([
                "idle CPU per node".to_owned(),
                format!("{:.1} %", idle.cpu_percent_per_node),
            ]);
            rest.add_row(["idle memory".to_owned(), mib(idle.resident_bytes)]);
        }
        if let Some(fill) = &self.fill {
            rest.add_row([
                format!("memory with {} intents more", fill.intents),
                mib(fill.resident_bytes),
            ]);
            rest.add_row([
                format!("disk with {} intents more", fill.intents),
                mib(fill.disk_bytes),
            ]);
        }
        if let Some(failover) = &self.failover {
            rest.add_row([
                format!("failover, median of {}", failover.times_ms.len()),
                format!(
                    "{} ms ({}–{})",
                    failover.median_ms, failover.min_ms, failover.max_ms
                ),
            ]);
        }
        tables.push(rest);
        tables
    }

    fn cell_table(&self) -> Table {
        let mut cells = table(&[
            &format!("{} nodes, {} build", self.nodes, self.profile),
            "workers",
            "per s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "errors",
            "CPU s/1000",
            "syncs each",
            "memory",
            "disk",
        ]);
        for cell in &self.cells {
            let figure =
                |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
            cells.add_row([
                cell.kind.name().to_owned(),
                cell.workers.to_string(),
                format!("{:.0}", cell.per_second),
                format!("{:.2}", cell.p50_ms),
                format!("{:.2}", cell.p99_ms),
                format!("{:.1}", cell.max_ms),
                cell.errors.to_string(),
                figure(cell.node_cpu_seconds_per_1000),
                figure(cell.syncs_per_round),
                mib(cell.resident_bytes),
                mib(cell.disk_bytes),
            ]);
        }
        cells
    }
}

fn mib(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "–".to_owned(),
        |bytes| format!("{} MiB", bytes / (1024 * 1024)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let sorted: Vec<u32> = (1..=100).map(|n| n * 1000).collect();
        assert!((percentile_ms(&sorted, 0.50) - 50.0).abs() < 1e-9);
        assert!((percentile_ms(&sorted, 0.99) - 99.0).abs() < 1e-9);
        assert!((percentile_ms(&[7], 0.99) - 0.007).abs() < 1e-9);
        assert!(percentile_ms(&[], 0.5).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        let counted = Counted {
            latencies_us: vec![1, 2],
            errors: 0,
            seconds: 1.0,
        };
        let cell = Cell::new(Kind::Submit, 1, &counted, &Usage::default(), &Usage::default());
        assert!(cell.node_cpu_seconds_per_1000.is_none() && cell.syncs_per_round.is_none());
        assert!((cell.per_second - 2.0).abs() < 1e-9);
        assert_eq!(FailoverReport::new(vec![3, 1, 2]).median_ms, 2);
    }
}
