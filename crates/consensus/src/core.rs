//! The running node: what handle, router, endpoint and duties share.

use crate::apply_hub::ApplyHub;
use crate::clock::random_origin;
use crate::cluster_time::ClusterTime;
use crate::config::ConsensusConfig;
use crate::directory::Directory;
use crate::disk_watch::DiskWatch;
use crate::group::Group;
use crate::meta_freshness::MetaFreshness;
use crate::network::Links;
use crate::status::Heartbeats;
use crate::streams::StreamHandler;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use baton_raft_storage::LogEngine;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// How a node is told to end; the sender is dropped or used when it has.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Hands leadership over, marks the tables clean.
    Graceful(oneshot::Sender<()>),
    /// As if the process had been killed.
    Abrupt(oneshot::Sender<()>),
}

pub(crate) struct Core {
    engine: LogEngine,
    /// Names this start of this node in the commands it proposes.
    pub(crate) origin: u64,
    pub(crate) config: Arc<ConsensusConfig>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) time: Arc<ClusterTime>,
    pub(crate) links: Arc<Links>,
    pub(crate) groups: BTreeMap<GroupId, Arc<Group>>,
    pub(crate) hub: Arc<ApplyHub>,
    pub(crate) meta: MetaFreshness,
    pub(crate) disk: Arc<DiskWatch>,
    pub(crate) stream_handler: RwLock<Option<Arc<dyn StreamHandler>>>,
    /// Peers that answered the last time exchange, and whether they may lead.
    heard: Mutex<HashMap<u64, bool>>,
    stopping: AtomicBool,
    /// When the consensus thread last showed that it moves.
    beat: Mutex<Instant>,
    pub(crate) stop: mpsc::Sender<Stop>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("node_id", &self.directory.node_id)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        config: Arc<ConsensusConfig>,
        links: Arc<Links>,
        time: Arc<ClusterTime>,
        hub: Arc<ApplyHub>,
        groups: BTreeMap<GroupId, Arc<Group>>,
        engine: LogEngine,
        stop: mpsc::Sender<Stop>,
    ) -> Self {
        let disk = DiskWatch::new(
            links.directory.node_id,
            config.disk.clone(),
            config.disk_free_min_bytes,
        );
        Self {
            engine,
            origin: random_origin(config.entropy.as_ref()),
            disk: Arc::new(disk),
            config,
            directory: links.directory.clone(),
            time,
            links,
            groups,
            hub,
            meta: MetaFreshness::default(),
            stream_handler: RwLock::new(None),
            heard: Mutex::default(),
            stopping: AtomicBool::new(false),
            beat: Mutex::new(Instant::now()),
            stop,
        }
    }

    pub(crate) fn group(&self, group: GroupId) -> Result<&Arc<Group>, ServiceError> {
        self.groups.get(&group).ok_or_else(|| {
            ServiceError::new(
                ErrorCode::NotFound,
                format!("group {group} has no replica on this node"),
            )
        })
    }

    /// The consensus thread moves.
    pub(crate) fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(crate) fn heartbeats(&self) -> Heartbeats {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        Heartbeats {
            consensus: beat.elapsed(),
            log_writer: self.engine.write_stalled_for(),
        }
    }

    /// Replicas whose snapshot lets the log engine drop old files.
    pub(crate) fn replicas_holding_old_files(&self) -> Vec<u64> {
        self.engine.replicas_holding_old_files()
    }

    /// Whether this node may be or become a leader.
    pub(crate) fn may_lead(&self) -> bool {
        self.time.may_lead() && !self.is_stopping()
    }

    /// Whether others should hand their groups to this node. With a low disk it may lead, for want of a better one.
    pub(crate) fn may_take_over(&self) -> bool {
        self.may_lead() && !self.disk.is_low()
    }

    /// Refuses commands that a majority of the group's voters have no room for.
    pub(crate) fn admit(&self, group: &Group) -> Result<(), ServiceError> {
        if !self.disk.any_low() {
            return Ok(());
        }
        let nodes = group.raft.voter_ids();
        self.disk
            .admit(nodes.filter_map(|replica| self.directory.node_of(group.id, replica)))
    }

    /// What a peer said about leading; `None` when it did not answer.
    pub(crate) fn note_peer(&self, node: u64, may_lead: Option<bool>) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match may_lead {
            Some(may_lead) => heard.insert(node, may_lead),
            None => heard.remove(&node),
        };
    }

    /// This node and the peers that answer.
    pub(crate) fn live_nodes(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len() + 1
    }

    /// Whether `node` answered lately and said that it may lead.
    pub(crate) fn peer_may_lead(&self, node: u64) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&node).copied().unwrap_or(false)
    }

    /// Whether `node` answered when it was last asked.
    pub(crate) fn peer_answers(&self, node: u64) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        node == self.directory.node_id || heard.contains_key(&node)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}
