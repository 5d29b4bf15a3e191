//! What a node knows of its groups, for operators and tests.

use crate::core::Core;
use crate::group::Group;
use baton_protocol::GroupId;
use openraft::async_runtime::watch::WatchReceiver as _;

/// How long this node's own threads have not moved. Says nothing about peers or quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeats {
    /// Since the consensus thread last ran its supervision, twice a second.
    pub consensus: std::time::Duration,
    /// Time the log writer has spent on its current batch; zero while it waits for work.
    pub log_writer: std::time::Duration,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    pub node_id: u64,
    /// The node's clock allows it to lead and it is not stopping.
    pub may_lead: bool,
    pub meta_fresh: bool,
    /// Every node of the cluster, this one included.
    pub nodes: Vec<PeerStatus>,
    /// Its disk has no room for more writes.
    pub disk_low: bool,
    /// Its disk has no room at all, and writes go on at other nodes without its replicas.
    pub left_behind: bool,
    pub groups: Vec<GroupStatus>,
}

/// One node as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub node_id: u64,
    /// It answered when it was last asked.
    pub reachable: bool,
    /// How far its wall clock is ahead of cluster time, milliseconds; 0 while it has not been heard.
    pub clock_offset_ms: i64,
}

/// One group as its replica on this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    pub group: GroupId,
    pub replica_id: u64,
    pub term: u64,
    /// Node id.
    pub leader_node: Option<u64>,
    pub am_leader: bool,
    /// Last log index here.
    pub last_log: u64,
    /// Committed as far as this replica knows.
    pub commit: u64,
    pub applied: u64,
    /// Index up to which the log here is on stable storage.
    pub synced: u64,
    /// Last index covered by a snapshot.
    pub snapshot: u64,
    pub log_bytes: u64,
    /// Node ids.
    pub voters: Vec<u64>,
    /// Why the group no longer runs here.
    pub stopped: Option<String>,
}

impl NodeStatus {
    /// The group with this id.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<&GroupStatus> {
        self.groups.iter().find(|g| g.group == group)
    }
}

pub(crate) fn node_status(core: &Core) -> NodeStatus {
    NodeStatus {
        node_id: core.directory.node_id,
        may_lead: core.may_lead(),
        meta_fresh: core.meta_fresh(),
        nodes: core
            .directory
            .members
            .keys()
            .map(|node| PeerStatus {
                node_id: *node,
                reachable: core.peer_answers(*node),
                clock_offset_ms: core.time.offset_of(*node).unwrap_or(0),
            })
            .collect(),
        disk_low: core.disk.is_low(),
        left_behind: core.disk.left_behind(core.directory.members.len()),
        groups: core
            .groups
            .values()
            .map(|group| group_status(core, group))
            .collect(),
    }
}

fn group_status(core: &Core, group: &Group) -> GroupStatus {
    let raft = group.raft.metrics().borrow_watched().clone();
    let lead = group.lead();
    GroupStatus {
        group: group.id,
        replica_id: group.replica_id,
        term: lead.term,
        leader_node: lead.leader_node,
        am_leader: lead.am_leader,
        last_log: raft.last_log_index.unwrap_or(0),
        commit: raft.local_committed.map_or(0, |id| id.index),
        applied: group.tables.applied_index(),
        synced: group.log.synced_index(),
        snapshot: raft.snapshot.map_or(0, |id| id.index),
        log_bytes: group.log.log_bytes(),
        voters: group
            .raft
            .voter_ids()
            .filter_map(|id| core.directory.node_of(group.id, id))
            .collect(),
        stopped: raft.running_state.err().map(|e| e.to_string()),
    }
}
