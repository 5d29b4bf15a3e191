//! Whole nodes in one process over a simulated network.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "shared by several test files, none of which uses all of it"
)]

use baton_consensus::{
    Clock, ConsensusConfig, ConsensusHandle, Node, NodeAddress, RaftTiming, SeededEntropy, SimNetwork,
    SystemClock, Transport,
};
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, IntentId, Route};
use baton_raft_storage::DiskSpace;
use baton_state_machine::testing;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The machine's clocks, with a wall clock that is set wrong and a monotonic one that can be stopped.
#[derive(Debug, Default)]
pub struct TestClock {
    real: SystemClock,
    pub wall_offset_ms: AtomicI64,
    pub frozen: AtomicBool,
}

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        self.real
            .wall_ms()
            .saturating_add_signed(self.wall_offset_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        if self.frozen.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            self.real.monotonic()
        }
    }
}

/// A disk that a test fills.
#[derive(Debug)]
pub struct TestDisk(pub AtomicU64);

impl DiskSpace for TestDisk {
    fn free_bytes(&self) -> std::io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

pub struct Member {
    pub config: ConsensusConfig,
    pub disk: Arc<TestDisk>,
    pub clock: Arc<TestClock>,
    pub dir: TempDir,
    pub handle: Option<ConsensusHandle>,
}

pub struct Cluster {
    pub network: SimNetwork,
    pub members: Vec<Member>,
}

pub fn config(
    dir: &Path,
    peers: &[NodeAddress],
    ordinal: usize,
    seed: u64,
    clock: Arc<TestClock>,
    transport: Arc<dyn Transport>,
) -> ConsensusConfig {
    let bootstrap = |cluster, nodes| {
        Ok(pb::BootstrapCluster {
            cluster: Some(cluster),
            nodes,
            ..Default::default()
        })
    };
    let fatal = |message: &str| eprintln!("fatal: {message}");
    let base = ConsensusConfig::new(
        dir.to_path_buf(),
        peers.to_vec(),
        ordinal,
        None,
        Arc::new(bootstrap),
        Arc::new(fatal),
    )
    .unwrap();
    ConsensusConfig {
        shard_groups: 2,
        clock,
        entropy: Arc::new(SeededEntropy::new(seed * 1_000 + ordinal as u64)),
        transport,
        ..base
    }
}

impl Cluster {
    /// `size` nodes that have not been started.
    pub fn prepare(size: usize, seed: u64) -> Self {
        // RUST_LOG=baton=debug shows what the nodes do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let network = SimNetwork::new(seed);
        let peers: Vec<NodeAddress> = (0..size).map(|n| format!("node-{n}:1")).collect();
        let members = (0..size).map(|ordinal| {
            let dir = TempDir::new().unwrap();
            let clock = Arc::new(TestClock::default());
            let transport = network.transport(peers[ordinal].clone());
            let disk = Arc::new(TestDisk(AtomicU64::new(u64::MAX)));
            let config = ConsensusConfig {
                disk: disk.clone(),
                ..config(dir.path(), &peers, ordinal, seed, clock.clone(), transport)
            };
            Member {
                config,
                disk,
                clock,
                dir,
                handle: None,
            }
        });
        let members = members.collect();
        Self { network, members }
    }

    pub fn timing(&mut self, timing: RaftTiming) {
        for member in &mut self.members {
            member.config.timing = timing;
        }
    }

    pub async fn start_all(&mut self) {
        let starts = self.members.iter().map(|m| Node::start(m.config.clone()));
        let handles = tokio::time::timeout(PATIENCE, futures::future::join_all(starts))
            .await
            .expect("start");
        for (member, handle) in self.members.iter_mut().zip(handles) {
            member.handle = Some(handle.unwrap());
        }
    }

    pub async fn start(size: usize, seed: u64) -> Self {
        let mut cluster = Self::prepare(size, seed);
        cluster.start_all().await;
        cluster
    }

    pub async fn restart(&mut self, ordinal: usize) {
        let handle = start_again(self.members[ordinal].config.clone()).await;
        self.members[ordinal].handle = Some(handle);
    }

    pub fn node(&self, ordinal: usize) -> &ConsensusHandle {
        self.members[ordinal].handle.as_ref().expect("running")
    }

    pub fn address(&self, ordinal: usize) -> &str {
        &self.members[ordinal].config.peers[ordinal]
    }

    pub fn running(&self) -> impl Iterator<Item = &ConsensusHandle> {
        self.members.iter().filter_map(|m| m.handle.as_ref())
    }

    /// Ordinal of the node that leads `group`, once one does.
    pub async fn leader_of(&self, group: GroupId, among: &[usize]) -> usize {
        eventually("a leader", || {
            among
                .iter()
                .copied()
                .find(|n| self.node(*n).status().group(group).is_some_and(|g| g.am_leader))
        })
        .await
    }

    /// Waits until every running replica of `group` has applied the same index, then compares state hashes.
    pub async fn assert_converged(&self, group: GroupId) {
        let hashes = eventually("replicas to converge", || {
            let applied: Vec<u64> = self
                .running()
                .map(|n| n.status().group(group).unwrap().applied)
                .collect();
            let last: Vec<u64> = self
                .running()
                .map(|n| n.status().group(group).unwrap().last_log)
                .collect();
            let same = applied.iter().chain(&last).all(|index| *index == applied[0]);
            same.then(|| {
                self.running()
                    .map(|n| stats(n, group).state_hash)
                    .collect::<Vec<_>>()
            })
        })
        .await;
        assert!(
            hashes.iter().all(|hash| *hash == hashes[0]),
            "state hashes differ: {hashes:?}"
        );
    }

    pub async fn stop(self) {
        for node in self.running() {
            node.abort().await;
        }
    }
}

/// Starts a node whose former self may still hold on to its log for a moment.
pub async fn start_again(config: ConsensusConfig) -> ConsensusHandle {
    let start = async {
        loop {
            match Node::start(config.clone()).await {
                Err(error) if error.to_string().contains("lock file") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                started => return started,
            }
        }
    };
    tokio::time::timeout(PATIENCE, start)
        .await
        .expect("restart")
        .unwrap()
}

/// Polls until `check` gives something.
pub async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub fn stats(node: &ConsensusHandle, group: GroupId) -> pb::Stats {
    let query = query(pb::query::Body::GetStats(pb::GetStats {}));
    match node.read_local(Route::Group(group), &query).unwrap().outcome {
        Some(pb::query_reply::Outcome::Stats(stats)) => stats,
        other => panic!("not stats: {other:?}"),
    }
}

pub fn query(body: pb::query::Body) -> pb::Query {
    pb::Query {
        actor: None,
        body: Some(body),
    }
}

/// A submit of intent number `n`, with its route and id.
pub fn submit(n: u64) -> (Route, IntentId, pb::command::Body) {
    let command = testing::submit(&format!("agent-{}", n % 7), n);
    let id = IntentId::from_slice(&command.intent_id).unwrap();
    (Route::Slot(id.slot()), id, pb::command::Body::Submit(command))
}

pub async fn submit_at(node: &ConsensusHandle, n: u64) -> (Route, IntentId, pb::Submitted) {
    let (route, id, body) = submit(n);
    let reply = node.propose(route, body).await.unwrap();
    (route, id, submitted(reply))
}

pub fn submitted(reply: pb::Reply) -> pb::Submitted {
    match reply.outcome {
        Some(pb::reply::Outcome::Submitted(submitted)) => submitted,
        other => panic!("not submitted: {other:?}"),
    }
}

/// A command that is not idempotent: each application raises the intent's generation by one.
pub fn increment(id: IntentId) -> pb::command::Body {
    pb::command::Body::Controls(pb::UpdateControls {
        intent_id: id.to_bytes(),
        patch: vec![pb::Member {
            key: "n".into(),
            value: bytes::Bytes::from_static(b"1"),
        }],
        ..Default::default()
    })
}

pub fn get(id: IntentId) -> pb::Query {
    query(pb::query::Body::GetIntent(pb::GetIntent {
        intent_id: id.to_bytes(),
        with_payload: false,
    }))
}

/// How often an intent was incremented, from the answer to [`get`].
pub fn generation(view: Option<pb::query_reply::Outcome>) -> u64 {
    match view {
        Some(pb::query_reply::Outcome::Intent(view)) => view.intent.unwrap().policy_generation,
        other => panic!("intent is lost: {other:?}"),
    }
}

pub async fn read_intent(node: &ConsensusHandle, route: Route, id: IntentId) -> Option<pb::Intent> {
    let reply = node.read(route, get(id)).await.unwrap();
    match reply.outcome {
        Some(pb::query_reply::Outcome::Intent(view)) => view.intent,
        _ => None,
    }
}
