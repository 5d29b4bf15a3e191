//! Who is in the cluster: nodes, their addresses, and the replica each holds of each group.

use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, GroupMap, ServiceError};
use baton_raft_storage::NodeStamp;
use baton_state_machine::Settings;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// Largest static cluster: every node votes in every group.
pub const CLUSTER_SIZE_MAX: u32 = 5;

/// The members as stamped in the data directory. Immutable while the node runs.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) cluster_id: Bytes,
    pub(crate) node_id: u64,
    pub(crate) map: GroupMap,
    pub(crate) settings: Settings,
    pub(crate) members: BTreeMap<u64, pb::NodeRecord>,
    /// (group, replica) → node.
    nodes: HashMap<(GroupId, u64), u64>,
    /// (group, node) → replica.
    replicas: HashMap<(GroupId, u64), u64>,
}

impl Directory {
    pub(crate) fn new(stamp: &NodeStamp) -> Result<Self, ServiceError> {
        let mut nodes = HashMap::new();
        let mut replicas = HashMap::new();
        for member in &stamp.members {
            for replica in &member.replicas {
                let group = GroupId(replica.group_id);
                nodes.insert((group, replica.replica_id), member.node_id);
                replicas.insert((group, member.node_id), replica.replica_id);
            }
        }
        let defaults = Settings::default();
        Ok(Self {
            cluster_id: stamp.cluster_id.clone(),
            node_id: stamp.node_id,
            map: GroupMap::new(stamp.shard_groups)?,
            settings: stamp.settings.as_ref().map_or(defaults, |s| Settings {
                command_dedup_ms: s.command_dedup_ms,
                idempotency_retention_ms: s.idempotency_retention_ms,
                terminal_retention_ms: s.terminal_retention_ms,
                audit_retention_ms: match s.audit_retention_ms {
                    0 => defaults.audit_retention_ms,
                    ms => ms,
                },
            }),
            members: stamp.members.iter().map(|m| (m.node_id, m.clone())).collect(),
            nodes,
            replicas,
        })
    }

    /// The node that holds this replica.
    pub(crate) fn node_of(&self, group: GroupId, replica: u64) -> Option<u64> {
        self.nodes.get(&(group, replica)).copied()
    }

    /// The replica of `group` on `node`.
    pub(crate) fn replica_on(&self, group: GroupId, node: u64) -> Option<u64> {
        self.replicas.get(&(group, node)).copied()
    }

    /// Every replica of `group`.
    pub(crate) fn replicas_of(&self, group: GroupId) -> Vec<u64> {
        self.members
            .keys()
            .filter_map(|node| self.replica_on(group, *node))
            .collect()
    }

    /// Ids of the other nodes.
    pub(crate) fn peers(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.keys().copied().filter(move |id| *id != self.node_id)
    }

    /// The node that should lead `group` when all are well: leaders spread over the nodes.
    pub(crate) fn preferred_node(&self, group: GroupId) -> u64 {
        let count = self.members.len().max(1);
        self.members
            .keys()
            .nth(group.0 as usize % count)
            .copied()
            .unwrap_or(self.node_id)
    }

    /// Header of a stream to `receiver`, for `group` when one is given.
    pub(crate) fn header(&self, receiver: u64, group: Option<GroupId>) -> pb::PeerHeader {
        pb::PeerHeader {
            cluster_id: self.cluster_id.clone(),
            sender_node: self.node_id,
            receiver_node: receiver,
            group: group.map(|group| {
                crate::peer::group_ref(
                    group,
                    self.replica_on(group, self.node_id).unwrap_or_default(),
                    self.replica_on(group, receiver).unwrap_or_default(),
                )
            }),
            stream_header: Bytes::new(),
        }
    }

    /// Whether a header comes from a member of this cluster and means this node. `Err` says what is wrong.
    pub(crate) fn check(&self, header: &pb::PeerHeader) -> Result<(), String> {
        if header.cluster_id != self.cluster_id {
            return Err("it belongs to another cluster".into());
        }
        if header.receiver_node != self.node_id {
            return Err(format!(
                "it is meant for node {}, this is node {}",
                header.receiver_node, self.node_id
            ));
        }
        let sender = header.sender_node;
        if sender == self.node_id || !self.members.contains_key(&sender) {
            return Err(format!("node {sender} is not a peer of this node"));
        }
        let Some(group) = &header.group else { return Ok(()) };
        let id = GroupId(group.group_id);
        if self.replica_on(id, self.node_id) != Some(group.receiver_replica) {
            return Err(format!(
                "replica {} of group {id} is not on this node",
                group.receiver_replica
            ));
        }
        if self.node_of(id, group.sender_replica) != Some(sender) {
            return Err(format!(
                "replica {} of group {id} is not on node {sender}",
                group.sender_replica
            ));
        }
        Ok(())
    }
}
