//! The figures of one run, for people.

use super::report::Report;
use crate::output::table;
use comfy_table::Table;

const MIB: f64 = 1024.0 * 1024.0;

impl Report {
    pub(super) fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.cell_table()];
        tables.extend(self.problem_table());
        tables.extend(self.node_table());
        tables
    }

    fn cell_table(&self) -> Table {
        let mut cells = table(&[
            &format!("{} nodes, {} build", self.nodes, self.profile),
            "stored",
            "per s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "errors",
            "CPU s/1000",
            "own CPU",
            "syncs each",
            "MiB a node",
            "KiB/1000",
        ]);
        for cell in &self.cells {
            cells.add_row([
                cell.name.clone(),
                cell.stored.to_string(),
                format!("{:.0}", cell.per_second),
                format!("{:.2}", cell.latency_ms.p50),
                format!("{:.2}", cell.latency_ms.p99),
                format!("{:.2}", cell.latency_ms.p999),
                format!("{:.1}", cell.latency_ms.max),
                cell.errors.to_string(),
                figure(cell.node_cpu_seconds_per_1000),
                figure(cell.generator_cpu_seconds_per_1000),
                figure(cell.syncs_per_operation),
                mib_a_node(&cell.resident_bytes_per_node),
                cell.disk_bytes_per_1000
                    .map_or_else(nothing, |bytes| format!("{:.0}", bytes / 1024.0)),
            ]);
        }
        cells
    }

    /// Absent when all went well.
    fn problem_table(&self) -> Option<Table> {
        let mut problems = table(&["what went wrong", "in", "times"]);
        for cell in &self.cells {
            for (problem, count) in &cell.problems {
                problems.add_row([problem.as_str(), &cell.name, &count.to_string()]);
            }
            if cell.refused_completions > 0 {
                let count = cell.refused_completions.to_string();
                problems.add_row(["completions of agents that were refused", &cell.name, &count]);
            }
        }
        (problems.row_count() > 0).then_some(problems)
    }

    fn node_table(&self) -> Option<Table> {
        let mut rest = table(&["nodes", "figure"]);
        if let Some(idle) = &self.idle {
            let cpu = format!("{:.1} %", idle.cpu_percent_per_node);
            rest.add_row(["idle CPU of one".to_owned(), cpu]);
            let memory = format!("{} MiB", mib_a_node(&idle.resident_bytes_per_node));
            rest.add_row(["idle memory of one".to_owned(), memory]);
        }
        for restart in &self.restarts {
            rest.add_row([
                format!("ready after kill -9 with {} stored", restart.stored),
                format!("{} ms", restart.ready_ms),
            ]);
            if let (Some(ms), Some(bytes)) = (restart.snapshot_ms, restart.snapshot_bytes) {
                rest.add_row([
                    format!("mean of {} snapshots before", restart.snapshots),
                    format!("{ms:.0} ms, last one {:.1} MiB", bytes as f64 / MIB),
                ]);
            }
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
        (rest.row_count() > 0).then_some(rest)
    }
}

fn nothing() -> String {
    "–".to_owned()
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(nothing, |value| format!("{value:.3}"))
}

/// The mean over the nodes.
fn mib_a_node(resident_bytes: &[u64]) -> String {
    match resident_bytes.len() {
        0 => nothing(),
        nodes => {
            let total: u64 = resident_bytes.iter().sum();
            format!("{:.0}", total as f64 / nodes as f64 / MIB)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{cell, settings};
    use super::super::usage::Usage;
    use super::*;

    #[test]
    fn errors_are_shown_with_their_cell() {
        let mut cell = cell(Usage::default(), Usage::default());
        cell.problems.insert("503 busy".to_owned(), 12);
        let report = Report {
            version: "0",
            profile: "dev",
            nodes: 3,
            cpus: 2,
            settings: settings(),
            idle: None,
            cells: vec![cell],
            restarts: Vec::new(),
            failover: None,
        };
        let text: String = report.tables().iter().map(ToString::to_string).collect();
        assert!(
            text.contains("503 busy") && text.contains("12") && text.contains("submit grpc 100/s"),
            "{text}"
        );
        assert!(report.node_table().is_none());
        assert_eq!(mib_a_node(&[1024 * 1024, 3 * 1024 * 1024]), "2");
    }
}
