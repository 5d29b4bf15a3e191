//! One kill -9 of a leader under a steady stream of submits.

use super::driver::Driver;
use super::load::Load;
use super::target::Target;
use baton_protocol::address::canonical;
use baton_protocol::{GroupMap, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Submitters; each goes on as soon as it has an answer or an error.
const WORKERS: usize = 4;
/// Successful submits before the kill and after the new leader has answered.
const STEADY: Duration = Duration::from_millis(500);
/// Longest failover that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Recipient of the submits; fixed so that its group is known.
const AGENT: &str = "bench-failover";
/// Pause after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(5);

/// Kills the leader, waits for submits to go on, restarts the node. Returns the gap in milliseconds.
pub(super) async fn once(load: &Load, driver: &Driver, target: &mut Target) -> anyhow::Result<u64> {
    let cluster = target.cluster()?;
    let credentials = cluster.credentials();
    let address = canonical(&credentials.org_slug, &credentials.workspace_slug, AGENT);
    let map = GroupMap::new(cluster.status(1).await?.shard_groups)?;
    let group = map.group_of(Slot::of_key(&address)).0;
    let victim = cluster.leader_of(group, PATIENCE).await?;

    let (times, mut last) = tokio::sync::watch::channel(None);
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| {
            tokio::spawn(submit_loop(
                load.clone(),
                driver.starting_at(n),
                times.clone(),
                Arc::clone(&stop),
            ))
        })
        .collect();
    tokio::time::sleep(STEADY).await;
    let killed_at = Instant::now();
    cluster.kill_node(victim).await?;
    let gap = longest_gap(&mut last, killed_at).await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await?;
    }
    cluster.start_node(victim)?;
    cluster.wait_ready(victim).await?;
    Ok(u64::try_from(gap?.as_millis())?)
}

async fn submit_loop(
    load: Load,
    driver: Driver,
    times: tokio::sync::watch::Sender<Option<Instant>>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        match driver.submit(&load.job_to(AGENT)).await {
            Ok(_) => _ = times.send_replace(Some(Instant::now())),
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}

/// Longest time between successes from the kill on, until submits have been steady again. An acknowledgement that
/// was under way at the kill ends the first gap early, so the longest one counts.
async fn longest_gap(
    last: &mut tokio::sync::watch::Receiver<Option<Instant>>,
    killed_at: Instant,
) -> anyhow::Result<Duration> {
    let mut before = killed_at;
    let mut longest = Duration::ZERO;
    loop {
        tokio::time::timeout(PATIENCE, last.changed()).await??;
        let Some(at) = *last.borrow_and_update() else {
            continue;
        };
        if at <= killed_at {
            continue;
        }
        longest = longest.max(at.saturating_duration_since(before));
        before = at;
        // No election is faster than this; by then the gap has been seen.
        if longest >= Duration::from_millis(100) && at - killed_at > longest + STEADY
            || at - killed_at > PATIENCE
        {
            return Ok(longest);
        }
    }
}
