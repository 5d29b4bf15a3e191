//! The figures of one run, as they stand in the JSON document.

use super::BenchOptions;
use super::cell::{Counted, Plan};
use super::mode::{Idempotency, Mode, Observe, Protocol};
use super::restart::RestartReport;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that was measured; absent parts were not asked for or cannot be seen from here.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) profile: &'static str,
    pub(super) nodes: usize,
    pub(super) cpus: usize,
    pub(super) settings: Settings,
    pub(super) idle: Option<Idle>,
    pub(super) cells: Vec<Cell>,
    pub(super) restarts: Vec<RestartReport>,
    pub(super) failover: Option<FailoverReport>,
}

/// What all cells have in common.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) shard_groups: Option<u32>,
    agents: usize,
    payload_bytes: usize,
    idempotency: Idempotency,
    observe: Observe,
    seconds: f64,
    warm_up_seconds: f64,
}

/// The nodes before any load.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    pub(super) cpu_percent_per_node: f64,
    pub(super) resident_bytes_per_node: Vec<u64>,
    /// All nodes together.
    pub(super) disk_bytes: Option<u64>,
}

/// One mode at one load.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) protocol: Protocol,
    pub(super) workers: usize,
    pub(super) observers: Option<usize>,
    /// Intended operations per second; absent in the closed loop.
    pub(super) rate: Option<u32>,
    /// Open intents that this run had stored before.
    pub(super) stored: u64,
    /// Operations whose end was observed and right.
    pub(super) operations: u64,
    pub(super) errors: u64,
    /// How often each error was seen.
    pub(super) problems: BTreeMap<String, u64>,
    /// Completions of agents that did not take effect, most of them of deliveries that came twice.
    pub(super) refused_completions: u64,
    seconds: f64,
    pub(super) per_second: f64,
    /// Operations that ended in each whole second, in order.
    each_second: Vec<u64>,
    pub(super) latency_ms: Latency,
    /// CPU seconds of all nodes per 1,000 operations.
    pub(super) node_cpu_seconds_per_1000: Option<f64>,
    /// The same of the generator, its agents and observers included.
    pub(super) generator_cpu_seconds_per_1000: Option<f64>,
    /// Device syncs of all nodes per operation.
    pub(super) syncs_per_operation: Option<f64>,
    pub(super) resident_bytes_per_node: Vec<u64>,
    /// All nodes together, at the end.
    disk_bytes: Option<u64>,
    /// What the cell added, all nodes together; below 0 when logs were cut meanwhile.
    pub(super) disk_bytes_per_1000: Option<f64>,
}

/// From the intended start to the observed end, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    mean: f64,
    pub(super) p50: f64,
    p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latency {
    fn of(latencies_us: &Histogram<u64>) -> Self {
        let at = |quantile| latencies_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            mean: latencies_us.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latencies_us.max() as f64 / 1000.0,
        }
    }
}

impl Cell {
    pub(super) fn new(plan: &Plan, stored: u64, counted: &Counted) -> Self {
        let (before, after) = (&counted.before, &counted.after);
        let operations = counted.total.operations();
        let each = |before: Option<f64>, after: Option<f64>| {
            (operations > 0).then_some(())?;
            Some((after? - before?) / operations as f64)
        };
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        Self {
            name: plan.to_string(),
            mode: plan.mode,
            protocol: plan.protocol,
            workers: plan.workers,
            observers: plan.observers,
            rate: plan.rate,
            stored,
            operations,
            errors: counted.total.errors,
            problems: counted.total.problems.clone(),
            refused_completions: 0,
            seconds: counted.seconds,
            per_second: operations as f64 / counted.seconds.max(f64::EPSILON),
            each_second: counted.per_second.clone(),
            latency_ms: Latency::of(&counted.total.latencies_us),
            node_cpu_seconds_per_1000: each(before.cpu_seconds, after.cpu_seconds).map(|each| each * 1000.0),
            generator_cpu_seconds_per_1000: each(before.generator_cpu_seconds, after.generator_cpu_seconds)
                .map(|each| each * 1000.0),
            syncs_per_operation: each(before.syncs, after.syncs),
            resident_bytes_per_node: after.resident_bytes.clone(),
            disk_bytes: after.disk_bytes,
            disk_bytes_per_1000: each(bytes(before.disk_bytes), bytes(after.disk_bytes))
                .map(|each| each * 1000.0),
        }
    }
}

/// Times without a successful submit after kill -9 of the leader.
#[derive(Debug, Serialize)]
pub(super) struct FailoverReport {
    pub(super) median_ms: u64,
    pub(super) min_ms: u64,
    pub(super) max_ms: u64,
    pub(super) times_ms: Vec<u64>,
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

impl Report {
    pub(super) fn new(options: &BenchOptions, nodes: usize, shard_groups: Option<u32>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            nodes,
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            settings: Settings {
                shard_groups,
                agents: options.agents,
                payload_bytes: options.payload_bytes,
                idempotency: options.idempotency,
                observe: options.observe,
                seconds: options.duration.as_secs_f64(),
                warm_up_seconds: options.warm_up.as_secs_f64(),
            },
            idle: None,
            cells: Vec::new(),
            restarts: Vec::new(),
            failover: None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::cell::End;
    use super::super::usage::Usage;
    use super::*;
    use std::time::Duration;

    /// A cell of two operations in half a second.
    pub(in super::super) fn cell(before: Usage, after: Usage) -> Cell {
        let plan = Plan {
            mode: Mode::Submit,
            protocol: Protocol::Grpc,
            workers: 4,
            observers: None,
            rate: Some(100),
            warm_up: Duration::ZERO,
            until: End::Count(2),
        };
        let mut counted = Counted {
            seconds: 0.5,
            before,
            after,
            ..Counted::default()
        };
        for micros in [1000, 3000] {
            counted.total.latencies_us.saturating_record(micros);
        }
        Cell::new(&plan, 0, &counted)
    }

    pub(in super::super) fn settings() -> Settings {
        Settings {
            shard_groups: None,
            agents: 1,
            payload_bytes: 0,
            idempotency: Idempotency::None,
            observe: Observe::Agent,
            seconds: 1.0,
            warm_up_seconds: 0.0,
        }
    }

    #[test]
    fn figures_are_per_operation_and_what_cannot_be_seen_is_left_out() {
        let blind = cell(Usage::default(), Usage::default());
        assert!(blind.node_cpu_seconds_per_1000.is_none() && blind.syncs_per_operation.is_none());
        assert!((blind.per_second - 4.0).abs() < 1e-9);
        assert!((blind.latency_ms.p50 - 1.0).abs() < 0.01 && (blind.latency_ms.max - 3.0).abs() < 0.01);

        let usage = |cpu: f64, disk: u64| Usage {
            cpu_seconds: Some(cpu),
            generator_cpu_seconds: Some(cpu / 2.0),
            syncs: Some(cpu),
            disk_bytes: Some(disk),
            resident_bytes: vec![1, 2, 3],
        };
        let seen = cell(usage(1.0, 5000), usage(3.0, 4000));
        assert_eq!(seen.node_cpu_seconds_per_1000, Some(1000.0));
        assert_eq!(seen.generator_cpu_seconds_per_1000, Some(500.0));
        assert_eq!(seen.syncs_per_operation, Some(1.0));
        assert_eq!(seen.disk_bytes_per_1000, Some(-500_000.0));
        assert_eq!(seen.resident_bytes_per_node, [1, 2, 3]);
    }

    #[test]
    fn a_failover_is_told_by_its_median() {
        assert_eq!(FailoverReport::new(vec![3, 1, 2]).median_ms, 2);
    }
}
