//! How a node gets its identity: from its stamp, by creating a cluster, or by being adopted into one.
//!
//! Silence is never emptiness: the node with ordinal 0 creates a cluster only after every configured peer has
//! answered that its data directory is empty. A node whose directory was wiped is not its former self: it waits,
//! and says so.

use crate::clock::random_id;
use crate::config::ConsensusConfig;
use crate::core::Core;
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::node::StartError;
use crate::peer::{LogLimit, PeerClient, PeerError};
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupMap, Route};
use baton_raft_storage::{DataDir, NodeStamp};
use bytes::Bytes;
use openraft::EmptyNode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const FORMAT_VERSION: u32 = 1;
/// As long as the hash that tokens are derived with.
const TOKEN_SECRET_BYTES: usize = 32;
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const WAITING_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// A request to become a member, on its way to the start-up task.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) request: pb::AdoptRequest,
    pub(crate) answer: oneshot::Sender<Result<(), String>>,
}

type Peers = Vec<(usize, Arc<dyn PeerClient>)>;

/// Waits until this directory has an identity.
pub(crate) async fn identity(
    config: &ConsensusConfig,
    dir: &mut DataDir,
    endpoint: &Endpoint,
    adoptions: &mut mpsc::Receiver<Adoption>,
) -> Result<NodeStamp, String> {
    if let Some(stamp) = dir.stamp() {
        return Ok(stamp.clone());
    }
    let peers: Peers = config
        .peers
        .iter()
        .enumerate()
        .filter(|(ordinal, _)| *ordinal != config.ordinal)
        .map(|(ordinal, address)| (ordinal, config.transport.connect(address)))
        .collect();
    let waiting = LogLimit::new(WAITING_LOG_INTERVAL);
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    loop {
        tokio::select! {
            adoption = adoptions.recv() => {
                let Some(adoption) = adoption else { return Err("the peer listener ended".into()) };
                if let Some(stamp) = adopted(config, dir, endpoint, adoption) {
                    return Ok(stamp);
                }
            }
            _ = ticks.tick() => {
                let answers = probe_all(config, &peers).await;
                if let Some(stamp) = consider(config, &answers, &waiting) {
                    dir.write_stamp(stamp.clone()).map_err(|e| e.to_string())?;
                    endpoint.set_stamp(stamp.clone());
                    return Ok(stamp);
                }
            }
        }
    }
}

async fn probe_all(config: &ConsensusConfig, peers: &Peers) -> Vec<(usize, Option<pb::ProbeReply>)> {
    let request = pb::ProbeRequest {
        asker_address: config.own_address().clone(),
    };
    let probes = peers.iter().map(|(ordinal, client)| {
        let request = request.clone();
        async move {
            let answer = tokio::time::timeout(PROBE_TIMEOUT, client.probe(request)).await;
            (*ordinal, answer.ok().and_then(Result::ok))
        }
    });
    futures::future::join_all(probes).await
}

/// The stamp of a new cluster, if this node is the one to create it and may.
fn consider(
    config: &ConsensusConfig,
    answers: &[(usize, Option<pb::ProbeReply>)],
    waiting: &LogLimit,
) -> Option<NodeStamp> {
    let size = u32::try_from(config.peers.len()).unwrap_or(u32::MAX);
    let heard: Vec<&pb::ProbeReply> = answers.iter().filter_map(|(_, a)| a.as_ref()).collect();
    if let Some(member) = heard
        .iter()
        .find(|a| !a.cluster_id.is_empty() && a.asker_node_id != 0)
    {
        if waiting.pass().is_some() {
            tracing::error!(
                address = config.own_address(),
                node_id = member.asker_node_id,
                "this address belonged to node {} of an existing cluster, but its data directory is empty; a lost node does not come back as its former self: re-add it as a new node",
                member.asker_node_id
            );
        }
        return None;
    }
    if config.ordinal != 0 {
        if waiting.pass().is_some() {
            tracing::info!(
                creator = config.peers[0],
                "data directory is empty; waiting to be made a member"
            );
        }
        return None;
    }
    if heard.iter().any(|a| !a.cluster_id.is_empty()) {
        if waiting.pass().is_some() {
            tracing::error!("a peer already belongs to a cluster; this node does not create another");
        }
        return None;
    }
    if let Some(other) = heard.iter().find(|a| a.cluster_size != size) {
        if waiting.pass().is_some() {
            tracing::error!(
                own = size,
                peer = other.cluster_size,
                "peers are configured with different cluster sizes"
            );
        }
        return None;
    }
    if heard.len() < answers.len() {
        if waiting.pass().is_some() {
            let silent: Vec<&str> = answers
                .iter()
                .filter(|(_, a)| a.is_none())
                .map(|(o, _)| config.peers[*o].as_str())
                .collect();
            tracing::info!(
                ?silent,
                "waiting for every peer to answer before creating the cluster"
            );
        }
        return None;
    }
    Some(new_cluster(config, answers))
}

fn new_cluster(config: &ConsensusConfig, answers: &[(usize, Option<pb::ProbeReply>)]) -> NodeStamp {
    let cluster_id = Bytes::copy_from_slice(&random_id(config.entropy.as_ref()));
    let groups = config.shard_groups + 1;
    let mut next_replica = 1;
    let members = config.peers.iter().enumerate().map(|(ordinal, address)| {
        let answer = answers
            .iter()
            .find(|(o, _)| *o == ordinal)
            .and_then(|(_, a)| a.as_ref());
        let replicas = (0..groups)
            .map(|group_id| {
                let replica_id = next_replica;
                next_replica += 1;
                pb::ReplicaRecord { group_id, replica_id }
            })
            .collect();
        pb::NodeRecord {
            node_id: ordinal as u64 + 1,
            peer_address: address.clone(),
            client_address: answer
                .map_or(&config.client_address, |a| &a.client_address)
                .clone(),
            name: answer.map_or(&config.name, |a| &a.name).clone(),
            replicas,
        }
    });
    let members = members.collect();
    NodeStamp {
        format_version: FORMAT_VERSION,
        cluster_id,
        node_id: config.ordinal as u64 + 1,
        name: config.name.clone(),
        shard_groups: config.shard_groups,
        settings: Some(pb::ClusterSettings {
            command_dedup_ms: config.settings.command_dedup_ms,
            idempotency_retention_ms: config.settings.idempotency_retention_ms,
            terminal_retention_ms: config.settings.terminal_retention_ms,
            audit_retention_ms: config.settings.audit_retention_ms,
        }),
        members,
    }
}

fn cluster_record(stamp: &NodeStamp) -> pb::ClusterRecord {
    let replicas = stamp
        .members
        .iter()
        .flat_map(|m| &m.replicas)
        .map(|r| r.replica_id);
    pb::ClusterRecord {
        cluster_id: stamp.cluster_id.clone(),
        shard_groups: stamp.shard_groups,
        next_node_id: stamp.members.iter().map(|m| m.node_id).max().unwrap_or(0) + 1,
        next_replica_id: replicas.max().unwrap_or(0) + 1,
        // Drawn with the first command; peers have no use for it before.
        token_secret: Bytes::new(),
    }
}

/// Answers an adoption; the stamp when it was accepted.
fn adopted(
    config: &ConsensusConfig,
    dir: &mut DataDir,
    endpoint: &Endpoint,
    adoption: Adoption,
) -> Option<NodeStamp> {
    let stamp = match stamp_of(config, adoption.request) {
        Ok(stamp) => stamp,
        Err(reason) => {
            tracing::error!(reason, "refused to become a member");
            let _ = adoption.answer.send(Err(reason));
            return None;
        }
    };
    let written = dir.write_stamp(stamp.clone()).map_err(|e| e.to_string());
    if written.is_ok() {
        endpoint.set_stamp(stamp.clone());
        tracing::info!(node_id = stamp.node_id, "became a member of a new cluster");
    }
    let ok = written.is_ok();
    // The creator asks again if it misses the answer.
    let _ = adoption.answer.send(written);
    ok.then_some(stamp)
}

fn stamp_of(config: &ConsensusConfig, request: pb::AdoptRequest) -> Result<NodeStamp, String> {
    let cluster = request.cluster.ok_or("adoption names no cluster")?;
    GroupMap::new(cluster.shard_groups).map_err(|e| e.to_string())?;
    let own = request.nodes.iter().find(|n| n.node_id == request.node_id);
    let own = own.ok_or("adoption does not list this node")?;
    if own.peer_address != *config.own_address() {
        return Err(format!(
            "adoption is for {}, this node is {}",
            own.peer_address,
            config.own_address()
        ));
    }
    Ok(NodeStamp {
        format_version: FORMAT_VERSION,
        cluster_id: cluster.cluster_id,
        node_id: request.node_id,
        name: config.name.clone(),
        shard_groups: cluster.shard_groups,
        settings: Some(pb::ClusterSettings {
            command_dedup_ms: request.command_dedup_ms,
            idempotency_retention_ms: request.idempotency_retention_ms,
            terminal_retention_ms: request.terminal_retention_ms,
            audit_retention_ms: request.audit_retention_ms,
        }),
        members: request.nodes,
    })
}

/// The creator's second half, also after a crash in between: adopts the peers, initializes the groups, commits the
/// first command. Does nothing once that is done.
pub(crate) async fn finish_creation(core: &Core, stamp: &NodeStamp) -> Result<(), StartError> {
    let mut fresh = Vec::new();
    for group in core.groups.values() {
        let initialized = group.raft.is_initialized().await;
        if !initialized.map_err(|e| StartError::Failed(e.to_string()))? {
            fresh.push(group);
        }
    }
    if fresh.len() == core.groups.len() {
        // Nothing was ever voted on, so a member that lost its directory since is no danger.
        adopt_all(core, stamp).await;
    }
    for group in fresh {
        let members: BTreeMap<u64, EmptyNode> = core
            .directory
            .replicas_of(group.id)
            .into_iter()
            .map(|id| (id, EmptyNode::new()))
            .collect();
        if let Err(error) = group.raft.initialize(members).await {
            // A leader's entries may have arrived in this moment: this node had lost its log, not its cluster.
            if !group.raft.is_initialized().await.unwrap_or(false) {
                return Err(StartError::Failed(format!("group {}: {error}", group.id)));
            }
        }
    }
    Box::pin(commit_first_command(core, stamp)).await
}

async fn adopt_all(core: &Core, stamp: &NodeStamp) {
    let settings = stamp.settings.unwrap_or_default();
    let waiting = LogLimit::new(WAITING_LOG_INTERVAL);
    for node_id in core.directory.peers() {
        loop {
            let request = pb::AdoptRequest {
                cluster: Some(cluster_record(stamp)),
                nodes: stamp.members.clone(),
                node_id,
                command_dedup_ms: settings.command_dedup_ms,
                idempotency_retention_ms: settings.idempotency_retention_ms,
                terminal_retention_ms: settings.terminal_retention_ms,
                audit_retention_ms: settings.audit_retention_ms,
            };
            match adopt(core, node_id, request).await {
                Ok(()) => break,
                Err(error) => {
                    if waiting.pass().is_some() {
                        tracing::warn!(node_id, %error, "a peer has not become a member yet");
                    }
                    tokio::time::sleep(PROBE_INTERVAL).await;
                }
            }
        }
    }
}

async fn adopt(core: &Core, node_id: u64, request: pb::AdoptRequest) -> Result<(), PeerError> {
    let client = core.links.client(node_id)?;
    tokio::time::timeout(PROBE_TIMEOUT, client.adopt(request))
        .await
        .map_err(|_| PeerError::Lost("no answer in time".into()))?
        .map(drop)
}

/// Proposes until the cluster has its first row. The next start tries again when this one cannot make the command.
async fn commit_first_command(core: &Core, stamp: &NodeStamp) -> Result<(), StartError> {
    let get = pb::Query {
        actor: None,
        body: Some(pb::query::Body::GetCluster(pb::GetCluster {})),
    };
    loop {
        let proposed = match core.read(Route::Meta, &get).await {
            Ok(view) if matches!(view.outcome, Some(pb::query_reply::Outcome::Cluster(_))) => return Ok(()),
            Ok(_) => core.propose(Route::Meta, first_command(core, stamp)?).await,
            Err(error) => Err(error),
        };
        match proposed {
            Ok(reply) => {
                if let Some(pb::reply::Outcome::Rejected(rejection)) = reply.outcome {
                    tracing::error!(reason = rejection.message, "the first command was rejected");
                }
                return Ok(());
            }
            Err(error) => {
                tracing::info!(%error, "cluster is not ready for its first command yet");
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
        }
    }
}

fn first_command(core: &Core, stamp: &NodeStamp) -> Result<pb::command::Body, StartError> {
    let mut cluster = cluster_record(stamp);
    let mut secret = [0; TOKEN_SECRET_BYTES];
    core.config.entropy.fill(&mut secret);
    cluster.token_secret = Bytes::copy_from_slice(&secret);
    let first = (core.config.bootstrap)(cluster, stamp.members.clone()).map_err(StartError::Bootstrap)?;
    Ok(pb::command::Body::Bootstrap(first))
}

/// Whether this node is the one that creates the cluster of `directory`.
pub(crate) fn is_creator(directory: &Directory) -> bool {
    directory.node_id == 1
}
