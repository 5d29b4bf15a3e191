//! What the nodes have used up so far, from /proc, their directories and their metrics.

use super::target::Target;
use std::path::Path;
use std::time::Duration;

/// Clock ticks per second in /proc/PID/stat; fixed on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Counter of device syncs.
const SYNCS: &str = "baton_wal_fsyncs_total";

/// Totals over all nodes; absent where this machine cannot tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    /// Of each node that runs here.
    pub(super) resident_bytes: Vec<u64>,
    pub(super) disk_bytes: Option<u64>,
    pub(super) syncs: Option<f64>,
    /// Of this process.
    pub(super) generator_cpu_seconds: Option<f64>,
}

impl Usage {
    pub(super) async fn read(target: &Target) -> Self {
        let pids = target.pids();
        let here = !pids.is_empty();
        Self {
            cpu_seconds: here.then(|| pids.iter().filter_map(|&pid| cpu_seconds(pid)).sum()),
            resident_bytes: pids.iter().filter_map(|&pid| resident_bytes(pid)).collect(),
            disk_bytes: here.then(|| target.data_dirs().iter().map(|dir| disk_bytes(dir)).sum()),
            syncs: syncs(&target.operator_pages("metrics")).await,
            generator_cpu_seconds: cpu_seconds(std::process::id()),
        }
    }
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    cpu_seconds_of(&text)
}

/// User and system time; the process name before them may hold anything, even parentheses.
fn cpu_seconds_of(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes that the files take up, holes not counted.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
            Ok(data) => data.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

async fn syncs(urls: &[String]) -> Option<f64> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(3))
        .build()
        .ok()?;
    let mut total = None;
    for url in urls {
        let Ok(response) = http.get(url).send().await else {
            continue;
        };
        let Ok(text) = response.text().await else { continue };
        if let Some(value) = sum_of(&text, SYNCS) {
            total = Some(total.unwrap_or(0.0) + value);
        }
    }
    total
}

/// Sum of a metric over its labels in Prometheus text.
pub(super) fn sum_of(page: &str, name: &str) -> Option<f64> {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_and_metric_texts_are_read_right() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 9 0 1 1 1";
        assert_eq!(cpu_seconds_of(stat), Some(2.0));
        let page = "# TYPE x counter\nx 2\nx{group=\"1\"} 3.5\nx_other 9\n";
        assert_eq!(sum_of(page, "x"), Some(5.5));
        assert_eq!(sum_of(page, "y"), None);
        assert!(cpu_seconds(std::process::id()).is_some());
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }
}
