//! What a running node does by itself: exchanges time, watches its disk, keeps meta fresh, spreads leaders, takes
//! snapshots, watches its groups.

use crate::core::Core;
use crate::group::Group;
use crate::meta_freshness::META_CONFIRM_INTERVAL;
use crate::metrics;
use crate::peer::{CallBody, call_body, frames};
use crate::suspects;
use crate::transfer::TRANSFER_TIMEOUT;
use baton_protocol::proto::internal as pb;
use baton_raft_storage::TypeConfig;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const TIME_EXCHANGE_INTERVAL: Duration = Duration::from_millis(500);
const TIME_EXCHANGE_TIMEOUT: Duration = Duration::from_millis(500);
const DISK_SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
const BALANCE_INTERVAL: Duration = Duration::from_secs(3);
/// Transfers started per round: a whole node's groups must not all move at once.
const TRANSFERS_PER_ROUND: usize = 4;
/// How far behind a replica may be to take over.
const TRANSFER_LAG_MAX: u64 = 64;
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(2);
/// Entries kept behind a snapshot for replicas that lag a little, unless they are large.
const ENTRIES_KEPT_MAX: u64 = 2_000;
/// Part of [`ConsensusConfig::snapshot_log_bytes_min`](crate::ConsensusConfig) that the kept entries may take.
const BYTES_KEPT_SHARE: u64 = 4;
/// A leader without answers from a majority for this many election timeouts lets others take over.
const UNHEARD_ELECTIONS: u32 = 3;
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(500);
/// Whole hand-over at a graceful stop.
pub(crate) const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Starts all of them on the current runtime.
pub(crate) fn start(core: &Arc<Core>) {
    for peer in core.directory.peers() {
        tokio::spawn(exchange_time(core.clone(), peer));
    }
    tokio::spawn(steer_time(core.clone()));
    tokio::spawn(watch_disk(core.clone()));
    tokio::spawn(confirm_meta(core.clone()));
    tokio::spawn(balance(core.clone()));
    tokio::spawn(snapshots(core.clone()));
    tokio::spawn(supervise(core.clone()));
    for group in core.groups.values().filter(|g| g.gate.is_suspect()) {
        tokio::spawn(suspects::recover(core.clone(), group.clone()));
    }
}

async fn exchange_time(core: Arc<Core>, peer: u64) {
    let mut ticks = ticks(TIME_EXCHANGE_INTERVAL);
    loop {
        ticks.tick().await;
        let clock = core.time.clock();
        let own = pb::TimeExchange {
            wall_ms: clock.wall_ms(),
            may_lead: core.may_take_over(),
            disk_low: core.disk.is_low(),
        };
        let sent = clock.monotonic();
        let reply = core
            .links
            .call(peer, None, CallBody::Time(own), TIME_EXCHANGE_TIMEOUT)
            .await;
        match reply.and_then(|reply| call_body(reply, frames::time)) {
            Ok(time) => {
                core.time
                    .observe_peer(peer, time.wall_ms, clock.monotonic().saturating_sub(sent));
                core.note_peer(peer, Some(time.may_lead));
                core.disk.note(peer, time.disk_low);
            }
            Err(_) => core.note_peer(peer, None),
        }
    }
}

/// Keeps the estimate moving, and keeps a node with a wrong clock from standing for election.
async fn steer_time(core: Arc<Core>) {
    let mut ticks = ticks(TIME_EXCHANGE_INTERVAL);
    let mut campaigns = None;
    loop {
        ticks.tick().await;
        core.time.steer();
        let may_lead = core.may_lead();
        if campaigns != Some(may_lead) {
            campaigns = Some(may_lead);
            for group in core.groups.values() {
                group
                    .raft
                    .runtime_config()
                    .elect(may_lead && !group.gate.is_suspect());
            }
        }
        if !may_lead && core.time.synced() && !core.is_stopping() {
            for group in led(&core) {
                start_transfer(&core, &group, None).await;
            }
        }
    }
}

/// Keeps the estimate of free space, and gives groups away while there is too little.
async fn watch_disk(core: Arc<Core>) {
    let mut ticks = ticks(DISK_SAMPLE_INTERVAL);
    loop {
        ticks.tick().await;
        core.disk.sample();
        if core.disk.is_low() && !core.is_stopping() {
            for group in led(&core).iter().take(TRANSFERS_PER_ROUND) {
                start_transfer(&core, group, None).await;
            }
        }
    }
}

async fn confirm_meta(core: Arc<Core>) {
    let mut ticks = ticks(META_CONFIRM_INTERVAL);
    loop {
        ticks.tick().await;
        // Failure shows in the age of the last success.
        let _ = core.refresh_meta().await;
    }
}

/// Gives groups to the nodes that should lead them.
async fn balance(core: Arc<Core>) {
    let mut ticks = ticks(BALANCE_INTERVAL);
    loop {
        ticks.tick().await;
        if core.is_stopping() {
            continue;
        }
        let mut started = 0;
        for group in led(&core) {
            let preferred = core.directory.preferred_node(group.id);
            if started < TRANSFERS_PER_ROUND
                && preferred != core.directory.node_id
                && start_transfer(&core, &group, Some(preferred)).await
            {
                started += 1;
            }
        }
    }
}

async fn snapshots(core: Arc<Core>) {
    let mut ticks = ticks(SNAPSHOT_INTERVAL);
    loop {
        ticks.tick().await;
        let holding = core.replicas_holding_old_files();
        // One at a time: the loop waits for each.
        for group in core.groups.values() {
            let last = group
                .tables
                .snapshots()
                .current()
                .map_or(0, |file| file.len_bytes());
            let due = group.log.log_bytes() >= core.config.snapshot_log_bytes_min.max(last / 2);
            let holding = holding.contains(&group.replica_id);
            if due || holding {
                snapshot(&core, group, holding).await;
            }
        }
    }
}

/// Takes a snapshot and purges the log behind it, wholly where it keeps old files alive.
async fn snapshot(core: &Core, group: &Group, holding: bool) {
    let mut metrics = group.raft.data_metrics();
    let now = metrics.borrow_watched().clone();
    let (applied, before) = (now.last_applied, now.snapshot);
    if applied <= before {
        if let Some(id) = before.filter(|_| holding) {
            // A stopped group is the supervisor's business, here and below.
            let _ = group.raft.trigger().purge_log(id.index).await;
        }
        return;
    }
    if group.raft.trigger().snapshot().await.is_err() {
        return;
    }
    tracing::info!(group_id = %group.id, log_bytes = group.log.log_bytes(), "snapshot started");
    let done = async {
        loop {
            let snapshot = metrics.borrow_watched().snapshot;
            if let Some(id) = snapshot.filter(|_| snapshot > before) {
                return Some(id);
            }
            metrics.changed().await.ok()?;
        }
    };
    if let Ok(Some(id)) = tokio::time::timeout(Duration::from_secs(600), done).await {
        let log_bytes = group.log.log_bytes();
        let entries = id
            .index
            .saturating_sub(now.purged.map_or(0, |id| id.index))
            .max(1);
        let entry_bytes = (log_bytes / entries).max(1);
        let kept =
            (core.config.snapshot_log_bytes_min / BYTES_KEPT_SHARE / entry_bytes).min(ENTRIES_KEPT_MAX);
        let keep = if holding { 0 } else { kept };
        let _ = group
            .raft
            .trigger()
            .purge_log(id.index.saturating_sub(keep))
            .await;
    }
}

/// The first fatal error of a group ends the node: it would serve stale reads and lose proposals.
async fn supervise(core: Arc<Core>) {
    let mut ticks = ticks(SUPERVISE_INTERVAL);
    loop {
        ticks.tick().await;
        core.beat();
        for group in core.groups.values() {
            let raft = group.raft.metrics().borrow_watched().clone();
            give_way(&core, group, &raft);
            let applied = group.tables.applied_index();
            metrics::apply_lag(
                group.id,
                raft.local_committed
                    .map_or(0, |id| id.index)
                    .saturating_sub(applied),
            );
            if let Err(error) = raft.running_state
                && !core.is_stopping()
            {
                let message = format!("group {} stopped: {error}", group.id);
                tracing::error!(group_id = %group.id, %error, "a group has stopped; this node must stop");
                (core.config.fatal)(&message);
                return;
            }
        }
    }
}

/// A leader that reaches its followers but hears nobody commits nothing, and its heartbeats would keep the others from
/// electing one that can. It falls silent until it is heard again or no longer leads.
fn give_way(core: &Core, group: &Group, raft: &RaftMetrics<TypeConfig>) {
    let limit = core.config.timing.election_max() * UNHEARD_ELECTIONS;
    let unheard = raft.state == ServerState::Leader
        && group.raft.voter_ids().count() > 1
        && raft
            .last_quorum_acked
            .is_some_and(|at| at.into_inner().elapsed() > limit);
    if group.silent.swap(unheard, Ordering::AcqRel) != unheard {
        tracing::warn!(group_id = %group.id, silent = unheard, "leader without a majority");
        group.raft.runtime_config().heartbeat(!unheard);
    }
}

fn led(core: &Core) -> Vec<Arc<Group>> {
    core.groups
        .values()
        .filter(|group| group.lead().am_leader)
        .cloned()
        .collect()
}

/// Asks a live, caught-up replica to take over; the best one when `to` is `None`. False when there is none.
async fn start_transfer(core: &Core, group: &Group, to: Option<u64>) -> bool {
    let metrics = group.raft.metrics().borrow_watched().clone();
    let last = metrics.last_log_index.unwrap_or(0);
    let replication = metrics.replication.unwrap_or_default();
    let replicas = (replication.len() as u64).max(1);
    let target = replication
        .iter()
        .filter_map(|(replica, matched)| {
            let node = core.directory.node_of(group.id, *replica)?;
            let matched = matched.as_ref().map_or(0, |id| id.index);
            let eligible = core.peer_may_lead(node) && matched + TRANSFER_LAG_MAX >= last;
            // Of equals another one for every other group, so that no node gets them all.
            let turn = node.wrapping_add(u64::from(group.id.0)) % replicas;
            (eligible && to.is_none_or(|to| to == node)).then_some((matched, turn, *replica))
        })
        .max();
    let Some((_, _, replica)) = target else {
        return false;
    };
    tracing::info!(group_id = %group.id, to_replica = replica, "transferring leadership");
    group.raft.trigger().transfer_leader(replica).await.is_ok()
}

/// Hands over every led group. Returns when every one has its new leader, none can be handed over, or the time is
/// up. A group whose new leader is not known yet would answer nobody once this node is gone.
pub(crate) async fn hand_over(core: &Core) {
    let own = core.directory.node_id;
    let all = async {
        loop {
            let mut any = false;
            // A few at a time: elections of all groups at once would slow each other down, and a group whose turn has
            // not come still answers.
            for batch in led(core).chunks(TRANSFERS_PER_ROUND) {
                let mut moving = Vec::new();
                for group in batch {
                    if start_transfer(core, group, None).await {
                        moving.push(group);
                    }
                }
                any |= !moving.is_empty();
                for group in moving {
                    let mut leadership = group.leadership.clone();
                    let moved = leadership.wait_for(|lead| lead.leader_node.is_some_and(|node| node != own));
                    let _ = tokio::time::timeout(TRANSFER_TIMEOUT / 4, moved).await;
                }
            }
            if !any {
                return;
            }
        }
    };
    if tokio::time::timeout(HAND_OVER_TIMEOUT, all).await.is_err() {
        tracing::warn!("not every group could be handed over before stopping");
    }
}
