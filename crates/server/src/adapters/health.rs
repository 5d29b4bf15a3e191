//! Probes and status of this node, never of the cluster as a whole.

use crate::cluster::status::{GroupStatus, NodeStatus};
use crate::operator::StatusSource;
use baton_consensus::{ConsensusHandle, NodeStatus as ReplicaStatus};
use baton_gateway::ports::{Check, Health};
use baton_protocol::GroupId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A thread that has not moved for this long is stuck and worth a restart.
const STUCK_AFTER: Duration = Duration::from_secs(15);
/// How often the runtime shows that it moves.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Committed entries that a ready node may have left to apply.
const APPLY_LAG_MAX: u64 = 20_000;
/// A group may be without a known leader for this long, as in any election, before the node counts as cut off.
const LEADERLESS_MAX: Duration = Duration::from_secs(5);

/// Health of one node from its start to its end.
#[derive(Debug)]
pub struct NodeHealth {
    name: String,
    origin: Instant,
    /// Milliseconds after `origin` of the last heartbeat.
    heartbeat_ms: AtomicU64,
    draining: AtomicBool,
    handle: OnceLock<ConsensusHandle>,
    /// Groups without a known leader: since when; `None` since the start.
    leaderless: Mutex<BTreeMap<GroupId, Option<Instant>>>,
}

impl NodeHealth {
    /// Health of a node that is starting.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            origin: Instant::now(),
            heartbeat_ms: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            handle: OnceLock::new(),
            leaderless: Mutex::default(),
        }
    }

    /// Recovery is over and `handle` serves.
    pub fn started(&self, handle: ConsensusHandle) {
        *self.lock() = handle.groups().into_iter().map(|group| (group, None)).collect();
        // Called once; a second handle would be of the same node.
        _ = self.handle.set(handle);
    }

    /// The node takes no more work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Notes whether `group` has a leader that this node knows.
    pub fn leader_known(&self, group: GroupId, known: bool) {
        let mut leaderless = self.lock();
        if known {
            leaderless.remove(&group);
        } else {
            leaderless.entry(group).or_insert_with(|| Some(Instant::now()));
        }
    }

    /// Shows that the runtime moves, for ever.
    pub async fn beat(&self) {
        let mut tick = tokio::time::interval(HEARTBEAT);
        loop {
            tick.tick().await;
            let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.heartbeat_ms.store(now, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Option<Instant>>> {
        self.leaderless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut_off(&self) -> Vec<u32> {
        let long = |since: &Option<Instant>| since.is_none_or(|since| since.elapsed() > LEADERLESS_MAX);
        self.lock()
            .iter()
            .filter(|(_, since)| long(since))
            .map(|(group, _)| group.0)
            .collect()
    }
}

/// A thread that has not moved for `age`.
fn moving(name: &'static str, age: Duration, what: &str) -> Check {
    Check {
        name,
        ok: age < STUCK_AFTER,
        detail: format!("{what} {} ms ago", age.as_millis()),
    }
}

/// Whether this node's replicas are fit to answer.
fn replicas(status: &ReplicaStatus) -> [Check; 4] {
    let lag = status
        .groups
        .iter()
        .map(|group| group.commit.saturating_sub(group.applied))
        .max()
        .unwrap_or(0);
    let stopped: Vec<u32> = status
        .groups
        .iter()
        .filter(|group| group.stopped.is_some())
        .map(|group| group.group.0)
        .collect();
    let disk = if status.left_behind {
        "full, writes go on without this node's replicas; free space"
    } else {
        "takes what other nodes write"
    };
    let meta = if status.meta_fresh {
        "confirmed by its leader"
    } else {
        "not confirmed by its leader"
    };
    [
        Check {
            name: "meta",
            ok: status.meta_fresh,
            detail: meta.into(),
        },
        Check {
            name: "apply_lag",
            ok: lag <= APPLY_LAG_MAX,
            detail: format!("{lag} committed entries to apply"),
        },
        Check {
            name: "disk",
            ok: !status.left_behind,
            detail: disk.into(),
        },
        Check {
            name: "groups",
            ok: stopped.is_empty(),
            detail: if stopped.is_empty() {
                "all run".into()
            } else {
                format!("stopped: {stopped:?}")
            },
        },
    ]
}

impl Health for NodeHealth {
    fn live(&self) -> Vec<Check> {
        let beat = Duration::from_millis(self.heartbeat_ms.load(Ordering::Acquire));
        let age = self.origin.elapsed().saturating_sub(beat);
        let mut checks = vec![moving("runtime", age, "last heartbeat")];
        // Before the groups run there is nothing to look at: a long recovery is no reason for a restart.
        if let Some(handle) = self.handle.get() {
            let beats = handle.heartbeats();
            checks.push(moving("consensus", beats.consensus, "last heartbeat"));
            checks.push(moving(
                "log_writer",
                beats.log_writer,
                "at its current write since",
            ));
        }
        checks
    }

    fn ready(&self) -> Vec<Check> {
        let mut checks = Health::started(self);
        let draining = self.draining.load(Ordering::Acquire);
        checks.push(Check {
            name: "accepting",
            ok: !draining,
            detail: if draining { "shutting down" } else { "takes work" }.into(),
        });
        let Some(handle) = self.handle.get() else {
            return checks;
        };
        let cut_off = self.cut_off();
        checks.push(Check {
            name: "leaders",
            ok: cut_off.is_empty(),
            detail: if cut_off.is_empty() {
                "known".into()
            } else {
                format!("unknown for groups {cut_off:?}")
            },
        });
        checks.extend(replicas(&handle.status()));
        checks
    }

    fn started(&self) -> Vec<Check> {
        let ok = self.handle.get().is_some();
        let detail = if ok {
            "logs and tables are open"
        } else {
            "recovering, or waiting for the other nodes"
        };
        vec![Check {
            name: "recovery",
            ok,
            detail: detail.into(),
        }]
    }
}

impl StatusSource for NodeHealth {
    fn status(&self) -> NodeStatus {
        let mut page = NodeStatus {
            name: self.name.clone(),
            node_id: 0,
            cluster_id: String::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            shard_groups: 0,
            groups: Vec::new(),
        };
        let Some(handle) = self.handle.get() else {
            return page;
        };
        let status = handle.status();
        page.node_id = status.node_id;
        page.cluster_id = handle
            .cluster_id()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        page.shard_groups = handle.group_map().shard_groups();
        page.groups = status
            .groups
            .into_iter()
            .map(|group| GroupStatus {
                group: group.group.0,
                term: group.term,
                leader: group.leader_node,
                commit: group.commit,
                applied: group.applied,
                voters: group.voters,
            })
            .collect();
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_consensus::{ConsensusConfig, Node};
    use baton_protocol::proto::internal::BootstrapCluster;
    use std::sync::Arc;

    fn ok(checks: &[Check]) -> bool {
        checks.iter().all(|check| check.ok)
    }

    #[test]
    fn a_thread_that_stands_still_is_not_live() {
        assert!(moving("log_writer", Duration::from_secs(1), "since").ok);
        assert!(!moving("log_writer", STUCK_AFTER, "since").ok);
    }

    #[test]
    fn a_starting_node_is_live_but_neither_started_nor_ready() {
        let health = NodeHealth::new("n".into());
        assert!(ok(&health.live()));
        assert!(!ok(&Health::started(&health)));
        assert!(!ok(&health.ready()));
        assert_eq!(health.status().node_id, 0);
    }

    fn failing(checks: &[Check]) -> Vec<&str> {
        checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| check.name)
            .collect()
    }

    /// A node that runs alone, and its health.
    async fn running(dir: &std::path::Path) -> (ConsensusHandle, NodeHealth) {
        let alone = vec!["127.0.0.1:1".to_owned()];
        let config = ConsensusConfig::new(
            dir.to_path_buf(),
            alone,
            0,
            None,
            Arc::new(|cluster, nodes| {
                Ok(BootstrapCluster {
                    cluster: Some(cluster),
                    nodes,
                    ..BootstrapCluster::default()
                })
            }),
            Arc::new(|_| {}),
        )
        .unwrap();
        let handle = Box::pin(Node::start(config)).await.unwrap();
        let health = NodeHealth::new("n".into());
        health.started(handle.clone());
        for group in handle.groups() {
            health.leader_known(group, true);
        }
        while !handle.meta_fresh() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (handle, health)
    }

    #[tokio::test]
    async fn each_reason_not_to_be_ready_counts_by_itself_and_none_ends_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, health) = running(dir.path()).await;
        assert_eq!(failing(&health.ready()), Vec::<&str>::new());

        health.lock().insert(GroupId(3), None);
        assert_eq!(failing(&health.ready()), ["leaders"]);
        assert!(ok(&health.live()));
        health.leader_known(GroupId(3), true);

        health.drain();
        assert_eq!(failing(&health.ready()), ["accepting"]);
        assert!(ok(&health.live()) && ok(&Health::started(&health)));

        // What one node alone never gets into, in the words of its own status.
        let well = handle.status();
        assert_eq!(failing(&replicas(&well)), Vec::<&str>::new());
        let mut stale = well.clone();
        stale.meta_fresh = false;
        assert_eq!(failing(&replicas(&stale)), ["meta"]);
        let mut full = well.clone();
        full.left_behind = true;
        assert_eq!(failing(&replicas(&full)), ["disk"]);
        let mut behind = well.clone();
        behind.groups[1].commit = behind.groups[1].applied + APPLY_LAG_MAX;
        assert_eq!(failing(&replicas(&behind)), Vec::<&str>::new());
        behind.groups[1].commit += 1;
        assert_eq!(failing(&replicas(&behind)), ["apply_lag"]);
        let mut stopped = well;
        stopped.groups[2].stopped = Some("disk".into());
        assert_eq!(failing(&replicas(&stopped)), ["groups"]);
        handle.shutdown().await;
    }

    #[test]
    fn an_election_does_not_count_as_cut_off_but_never_having_had_a_leader_does() {
        let health = NodeHealth::new("n".into());
        health.lock().insert(GroupId(1), None);
        assert_eq!(health.cut_off(), vec![1]);
        health.leader_known(GroupId(1), true);
        health.leader_known(GroupId(1), false);
        assert!(health.cut_off().is_empty());
        health.leader_known(GroupId(1), true);
        assert!(health.lock().is_empty());
    }
}
