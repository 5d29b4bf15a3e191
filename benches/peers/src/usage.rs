//! What processes and their children have used up, from /proc.

use std::collections::{HashMap, HashSet};
use std::fs::{read_dir, read_to_string};

/// Clock ticks per second in /proc/PID/stat; fixed on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) node_cpu_seconds: Option<f64>,
    pub(crate) own_cpu_seconds: Option<f64>,
    /// Shared pages count once: several processes of one broker share most of their memory.
    pub(crate) resident_bytes: Option<u64>,
}

impl Usage {
    pub(crate) fn read(pids: &[u32]) -> Self {
        let family = family(pids);
        let known = !pids.is_empty();
        Self {
            node_cpu_seconds: known.then(|| {
                family
                    .iter()
                    .filter_map(|&pid| Some(stat(pid)?.cpu_seconds))
                    .sum()
            }),
            own_cpu_seconds: stat(std::process::id()).map(|stat| stat.cpu_seconds),
            resident_bytes: known.then(|| family.iter().filter_map(|&pid| proportional_bytes(pid)).sum()),
        }
    }
}

/// The processes and all that descend from them.
fn family(pids: &[u32]) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = HashSet::new();
    let mut next = pids.to_vec();
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

struct Stat {
    parent: u32,
    cpu_seconds: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name before the last parenthesis may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu_seconds: ticks / TICKS_PER_SECOND,
    })
}

fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
