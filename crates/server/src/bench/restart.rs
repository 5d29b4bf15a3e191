//! A node killed and started again on what it has stored.

use super::target::Target;
use super::usage::sum_of;
use serde::Serialize;
use tokio::time::Instant;

/// Seconds spent on snapshots, and how many there were.
const SNAPSHOT_SECONDS: &str = "baton_raft_snapshot_duration_seconds_sum";
const SNAPSHOTS: &str = "baton_raft_snapshot_duration_seconds_count";
/// The last one.
const SNAPSHOT_BYTES: &str = "baton_raft_snapshot_size_bytes";
/// The node that is killed.
const NODE: usize = 1;

/// What one node does with so many open intents.
#[derive(Debug, Serialize)]
pub(super) struct RestartReport {
    /// Open intents that this run had stored.
    pub(super) stored: u64,
    /// From the start of the process to its readiness, after kill -9.
    pub(super) ready_ms: u64,
    /// Snapshots that the node had built since its last start; one covers one group.
    pub(super) snapshots: u64,
    /// Mean over them.
    pub(super) snapshot_ms: Option<f64>,
    /// Of the last one.
    pub(super) snapshot_bytes: Option<u64>,
}

/// Kills a node and waits until it is ready again.
pub(super) async fn once(stored: u64, target: &mut Target) -> anyhow::Result<RestartReport> {
    let cluster = target.cluster()?;
    let page = cluster.metrics(NODE).await?;
    let snapshots = sum_of(&page, SNAPSHOTS).unwrap_or(0.0);
    let seconds = sum_of(&page, SNAPSHOT_SECONDS).filter(|_| snapshots > 0.0);
    cluster.kill_node(NODE).await?;
    let from = Instant::now();
    cluster.start_node(NODE)?;
    cluster.wait_ready(NODE).await?;
    Ok(RestartReport {
        stored,
        ready_ms: u64::try_from(from.elapsed().as_millis())?,
        snapshots: snapshots as u64,
        snapshot_ms: seconds.map(|seconds| seconds * 1000.0 / snapshots),
        snapshot_bytes: sum_of(&page, SNAPSHOT_BYTES).map(|bytes| bytes as u64),
    })
}
