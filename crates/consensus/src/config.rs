//! What a node is started with.

use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::directory::CLUSTER_SIZE_MAX;
use crate::peer::{NodeAddress, PeerTls, TonicTransport, Transport};
use baton_protocol::proto::internal as pb;
use baton_protocol::slot::SHARD_GROUPS_DEFAULT;
use baton_raft_storage::{DiskSpace, LogOptions, MountedDisk, NodeStamp};
use baton_state_machine::Settings;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Largest distance between cluster time and the voters' median, and between it and the wall clock of a leader.
pub const CLOCK_SKEW_MAX_MS: u64 = 500;
/// Default of [`ConsensusConfig::snapshot_log_bytes_min`].
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 << 20;
/// Default of [`ConsensusConfig::disk_free_min_bytes`].
pub const DISK_FREE_MIN_BYTES: u64 = 512 << 20;
/// Smallest heartbeat interval that leaves room for a slow tick.
pub const HEARTBEAT_MIN_MS: u64 = 100;

/// Builds the first command of a new cluster: tenants and keys around the given member records. Called again when the
/// outcome of a proposal is unknown. An error, one line for the operator, ends the start; nothing is committed then.
pub type BootstrapCommand =
    Arc<dyn Fn(pb::ClusterRecord, Vec<pb::NodeRecord>) -> Result<pb::BootstrapCluster, String> + Send + Sync>;
/// Called once when a group can no longer run on this node; the node must stop.
pub type FatalHandler = Arc<dyn Fn(&str) + Send + Sync>;

/// Raft's intervals, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftTiming {
    pub heartbeat_ms: u64,
    /// Traffic within this time replaces a heartbeat.
    pub heartbeat_min_ms: u64,
    pub election_min_ms: u64,
    /// Also the leader lease, and the time a restarted voter refuses votes.
    pub election_max_ms: u64,
}

impl Default for RaftTiming {
    fn default() -> Self {
        Self {
            heartbeat_ms: 150,
            heartbeat_min_ms: 100,
            election_min_ms: 500,
            election_max_ms: 800,
        }
    }
}

impl RaftTiming {
    /// The longest election timeout.
    #[must_use]
    pub fn election_max(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }

    pub(crate) fn raft_config(&self, cluster: &str) -> Result<openraft::Config, openraft::ConfigError> {
        openraft::Config {
            cluster_name: cluster.to_owned(),
            heartbeat_interval: self.heartbeat_ms.max(HEARTBEAT_MIN_MS),
            heartbeat_min_interval: Some(self.heartbeat_min_ms),
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            enable_pre_vote: Some(true),
            // A restarted leader must not take its office back from lazily saved state.
            enable_leader_restore: Some(false),
            max_payload_entries: 64,
            max_in_snapshot_log_to_keep: 2_000,
            purge_batch_size: 256,
            snapshot_policy: openraft::SnapshotPolicy::Never,
            // The default of 200 ms is meant for chunks; ours is the deadline of a whole transfer.
            install_snapshot_timeout: 600_000,
            // A replica that lost the end of its log is sent it again; the vote gate keeps it from doing harm meanwhile.
            // Without this its leader would wait for ever for entries that it believes to be there.
            allow_log_reversion: Some(true),
            ..openraft::Config::default()
        }
        .validate()
    }
}

/// Everything a node needs. Clock, randomness, transport, free space and handlers are injected.
#[derive(Clone)]
pub struct ConsensusConfig {
    pub data_dir: PathBuf,
    /// Peer address of every node of the cluster to be; the index is the ordinal. One entry: a cluster of one.
    pub peers: Vec<NodeAddress>,
    /// Which of `peers` this node is.
    pub ordinal: usize,
    /// Where to listen for peers when that differs from the own entry of `peers`.
    pub peer_listen: Option<NodeAddress>,
    /// Client address of this node, for the member record.
    pub client_address: String,
    /// Name of this node, for the member record.
    pub name: String,
    /// Shard groups of a new cluster.
    pub shard_groups: u32,
    /// Durations of a new cluster.
    pub settings: Settings,
    pub timing: RaftTiming,
    pub clock_skew_max_ms: u64,
    pub log: LogOptions,
    /// Caches and overlays of all groups' tables together, bytes.
    pub table_memory_bytes: u64,
    /// Log bytes of a group below which no snapshot is taken.
    pub snapshot_log_bytes_min: u64,
    /// Trust the log although opening cut its torn end. Only for a cluster that lost power as a whole.
    pub trust_cut_log: bool,
    /// Free bytes on the disk of `data_dir` below which this node has no room for more writes; 0 = never.
    pub disk_free_min_bytes: u64,
    pub disk: Arc<dyn DiskSpace>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub transport: Arc<dyn Transport>,
    pub bootstrap: BootstrapCommand,
    pub fatal: FatalHandler,
}

impl std::fmt::Debug for ConsensusConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsensusConfig")
            .field("data_dir", &self.data_dir)
            .field("peers", &self.peers)
            .field("ordinal", &self.ordinal)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl ConsensusConfig {
    /// A node with system clock, randomness and HTTP/2 transport. `peers` of length one is a cluster of one.
    ///
    /// # Errors
    /// When a TLS file cannot be read.
    pub fn new(
        data_dir: PathBuf,
        peers: Vec<NodeAddress>,
        ordinal: usize,
        tls: Option<&PeerTls>,
        bootstrap: BootstrapCommand,
        fatal: FatalHandler,
    ) -> std::io::Result<Self> {
        Ok(Self {
            disk_free_min_bytes: DISK_FREE_MIN_BYTES,
            disk: Arc::new(MountedDisk::new(data_dir.clone())),
            data_dir,
            name: format!("node-{ordinal}"),
            peers,
            ordinal,
            peer_listen: None,
            client_address: String::new(),
            shard_groups: SHARD_GROUPS_DEFAULT,
            settings: Settings::default(),
            timing: RaftTiming::default(),
            clock_skew_max_ms: CLOCK_SKEW_MAX_MS,
            log: LogOptions::default(),
            table_memory_bytes: 256 << 20,
            snapshot_log_bytes_min: SNAPSHOT_LOG_BYTES_MIN,
            trust_cut_log: false,
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            transport: Arc::new(TonicTransport::new(tls)?),
            bootstrap,
            fatal,
        })
    }

    /// Whether a directory with this stamp may run under this configuration. One of another node or cluster must not
    /// serve under this node's address: its peers would refuse it, or, worse, the addresses of its stamp would be
    /// dialled instead of the configured ones.
    ///
    /// # Errors
    /// One line that says whose directory it is and what to do.
    pub fn check_stamp(&self, stamp: &NodeStamp) -> Result<(), String> {
        let stamped: Vec<&str> = stamp.members.iter().map(|m| m.peer_address.as_str()).collect();
        let alone = stamped.len() == 1 && self.peers.len() == 1;
        let own = stamp.members.iter().find(|m| m.node_id == stamp.node_id);
        let own = own.map_or("an unknown address", |m| m.peer_address.as_str());
        if alone || (own == self.own_address() && stamped == self.peers) {
            return Ok(());
        }
        Err(format!(
            "{} belongs to node {} at {own} of the cluster {}, but this node is configured as {} of {}; use that \
             node's own directory, or the peers and ordinal the directory was made with",
            self.data_dir.display(),
            stamp.node_id,
            stamped.join(","),
            self.own_address(),
            self.peers.join(","),
        ))
    }

    /// Own peer address.
    pub(crate) fn own_address(&self) -> &NodeAddress {
        &self.peers[self.ordinal]
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        let size = self.peers.len();
        if size == 0 || size > CLUSTER_SIZE_MAX as usize {
            return Err(format!(
                "peers must name 1 to {CLUSTER_SIZE_MAX} nodes, got {size}"
            ));
        }
        if self.ordinal >= size {
            return Err(format!(
                "ordinal {} has no entry among {size} peers",
                self.ordinal
            ));
        }
        let mut unique = self.peers.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() != size {
            return Err("peers names an address twice".into());
        }
        if self.settings.command_dedup_ms <= baton_protocol::limits::COMMAND_EXPIRY_MS {
            return Err("command_dedup_ms must be longer than the command expiry".into());
        }
        self.timing
            .raft_config("check")
            .map(drop)
            .map_err(|e| format!("raft timing: {e}"))
    }
}
