//! One Raft group on this node.

use crate::apply_hub::ApplyHub;
use crate::cluster_time::ClusterTime;
use crate::config::ConsensusConfig;
use crate::leadership::{self, Leadership};
use crate::network::{Links, NetFactory};
use crate::proposer::Proposer;
use crate::reads::ReadIndexer;
use crate::sequence::Sequence;
use crate::vote_gate::VoteGate;
use baton_protocol::GroupId;
use baton_raft_storage::{
    DataDir, GroupLog, GroupMachine, LogEngine, MachineOptions, StorageWorkers, TableMemory, TablesHandle,
    TypeConfig,
};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, Raft, RaftLogReader as _, RaftMetrics};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// Feature level of this version, written into snapshots.
const FEATURE_LEVEL: u32 = 1;

pub(crate) type GroupRaft = Raft<TypeConfig, GroupMachine>;

/// A group's Raft object with everything of this node around it.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica_id: u64,
    pub(crate) raft: GroupRaft,
    pub(crate) log: GroupLog,
    pub(crate) tables: TablesHandle,
    pub(crate) proposer: Proposer,
    /// Numbers of what this node proposes, here or at the leader.
    pub(crate) sequence: Sequence,
    pub(crate) reads: ReadIndexer,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) gate: VoteGate,
    /// Last index when the log was opened.
    pub(crate) opened_at: u64,
    /// Leads without a majority and keeps still.
    pub(crate) silent: AtomicBool,
    /// Held while a snapshot is received.
    pub(crate) receiving: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What all groups of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<ConsensusConfig>,
    pub(crate) raft_config: Arc<openraft::Config>,
    pub(crate) links: Arc<Links>,
    pub(crate) time: Arc<ClusterTime>,
    pub(crate) hub: Arc<ApplyHub>,
    pub(crate) engine: LogEngine,
    /// The node got its identity in this start: nothing of its replicas can be missing.
    pub(crate) new_member: bool,
    pub(crate) workers: StorageWorkers,
    pub(crate) table_memory: TableMemory,
}

impl Group {
    /// Opens log and tables and starts the group's tasks on the current runtime.
    pub(crate) async fn open(id: GroupId, dir: &DataDir, shared: &Shared) -> Result<Self, String> {
        let directory = &shared.links.directory;
        let replica_id = directory
            .replica_on(id, directory.node_id)
            .ok_or_else(|| format!("this node has no replica of group {id}"))?;
        let mut log = shared.engine.group(id, replica_id).map_err(|e| e.to_string())?;
        let restarted = log.read_vote().await.map_err(|e| e.to_string())?.is_some();
        let opened_at = log.last_log_id().map_or(0, |id| id.index);
        let (machine, tables, recovered) =
            GroupMachine::open(machine_options(id, replica_id, dir, shared), &log)
                .map_err(|e| e.to_string())?;
        if let Some(because) = recovered.rebuilt_because {
            tracing::warn!(group_id = %id, because, "tables were rebuilt from snapshot and log");
        }
        let network = NetFactory {
            group: id,
            links: shared.links.clone(),
        };
        let raft = GroupRaft::new(
            replica_id,
            shared.raft_config.clone(),
            network,
            log.clone(),
            machine,
        )
        .await
        .map_err(|e| format!("group {id} cannot start: {e}"))?;
        let alone = directory.members.len() == 1;
        let suspect = suspect(id, &log, restarted, alone, shared)?;
        if suspect {
            raft.runtime_config().elect(false);
        }
        let window = if restarted && !alone {
            shared.config.timing.election_max()
        } else {
            Duration::ZERO
        };
        let leadership = leadership::follow(id, raft.clone(), directory.clone());
        Ok(Self {
            id,
            replica_id,
            proposer: Proposer::start(id, raft.clone(), shared.time.clone(), directory.clone()),
            sequence: Sequence::default(),
            reads: ReadIndexer::start(id, raft.clone(), shared.links.clone(), leadership.clone()),
            leadership,
            gate: VoteGate::new(shared.time.clock().monotonic() + window, suspect),
            silent: AtomicBool::new(false),
            opened_at,
            receiving: tokio::sync::Mutex::new(()),
            raft,
            log,
            tables,
        })
    }

    /// Waits until this replica has applied everything it had before it was started. openraft's own
    /// `wait_for_recovery` waits for a moment with nothing uncommitted, which may never come under load.
    pub(crate) async fn recovered(&self) -> Result<(), String> {
        let failed = |e| format!("group {} did not recover: {e}", self.id);
        let covered = |m: &RaftMetrics<TypeConfig>| {
            // What was never committed may have been replaced by less.
            let needed = self.opened_at.min(m.last_log_index.unwrap_or(0));
            let known = m.cluster_committed.is_some_and(|id| id.index >= needed);
            known && m.last_applied.is_some_and(|id| id.index >= needed)
        };
        let wait = self.raft.wait(None).metrics(covered, "recovery").await;
        wait.map(drop).map_err(failed)
    }

    pub(crate) fn lead(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// The term this node leads in, if a majority has confirmed it within `lease`.
    pub(crate) fn led_term(&self, lease: Duration) -> Option<u64> {
        let lead = self.lead();
        if !lead.am_leader {
            return None;
        }
        let metrics = self.raft.data_metrics().borrow_watched().clone();
        let voters = self.raft.voter_ids().count();
        let fresh = voters <= 1
            || metrics
                .last_quorum_acked
                .is_some_and(|at| at.into_inner().elapsed() <= lease);
        fresh.then_some(lead.term)
    }
}

/// Whether this replica may lack what it once acknowledged: a torn record was cut from its log, or the log is gone
/// although the node has been a member before.
fn suspect(
    id: GroupId,
    log: &GroupLog,
    restarted: bool,
    alone: bool,
    shared: &Shared,
) -> Result<bool, String> {
    if !restarted && !shared.new_member && !alone {
        log.mark_suspect().map_err(|e| e.to_string())?;
    }
    if !log.is_suspect() {
        return Ok(false);
    }
    if alone || shared.config.trust_cut_log {
        tracing::warn!(group_id = %id, "the log's torn end was cut; what is left is trusted");
        log.clear_suspect().map_err(|e| e.to_string())?;
        return Ok(false);
    }
    tracing::error!(
        group_id = %id,
        "the end of this replica's log was cut or its log is missing: it does not vote before it has caught up"
    );
    Ok(true)
}

fn machine_options(id: GroupId, replica_id: u64, dir: &DataDir, shared: &Shared) -> MachineOptions {
    let directory = &shared.links.directory;
    MachineOptions {
        dir: dir.replica_dir(id, replica_id),
        group: id,
        map: directory.map,
        settings: directory.settings,
        feature_level: FEATURE_LEVEL,
        memory: shared.table_memory.clone(),
        observer: shared.hub.clone(),
        workers: shared.workers.clone(),
    }
}
