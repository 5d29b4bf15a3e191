//! A leader that has been replaced without knowing it answers no read with what was true before.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_consensus::{ConsensusHandle, RaftTiming};
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, IntentId, Route, ServiceError};
use common::{
    Cluster, PATIENCE, eventually, generation, get, increment, start_again, stats, submit, submit_at,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const GROUP: GroupId = GroupId(1);
/// Reads started at the old leader before and after the change is acknowledged.
const READ_EVERY: Duration = Duration::from_millis(20);
const READS_AFTER: usize = 20;

/// A value that only goes up, and how far it has been acknowledged.
struct Counter {
    route: Route,
    id: IntentId,
    acknowledged: AtomicU64,
}

impl Counter {
    async fn create(cluster: &Cluster) -> Arc<Self> {
        let map = cluster.node(0).group_map();
        let n = (0..1_000).find(|n| submit(*n).0.group(map) == GROUP).unwrap();
        let (route, id, _) = submit_at(cluster.node(0), n).await;
        let counter = Self {
            route,
            id,
            acknowledged: AtomicU64::new(0),
        };
        counter.raise(cluster.node(0)).await;
        Arc::new(counter)
    }

    /// Raises it at `node`, which may have to wait for an election.
    async fn raise(&self, node: &ConsensusHandle) {
        let reply = node.propose(self.route, increment(self.id)).await.unwrap();
        let Some(pb::reply::Outcome::Transitioned(done)) = reply.outcome else {
            panic!("refused: {reply:?}");
        };
        self.acknowledged
            .fetch_max(done.policy_generation, Ordering::SeqCst);
    }

    /// A read at `node`. An error is an honest answer, an old value is not.
    async fn read(&self, node: &ConsensusHandle) -> Result<u64, ServiceError> {
        let floor = self.acknowledged.load(Ordering::SeqCst);
        let read = generation(node.read(self.route, get(self.id)).await?.outcome);
        assert!(read >= floor, "stale read: {read} after {floor} was acknowledged");
        Ok(read)
    }
}

/// Starts a read at `node` every now and then until dropped.
fn keep_reading(counter: &Arc<Counter>, node: &ConsensusHandle) -> JoinSet<()> {
    let (counter, node) = (counter.clone(), node.clone());
    let mut keeper = JoinSet::new();
    keeper.spawn(async move {
        let mut reads = JoinSet::new();
        loop {
            let (counter, node) = (counter.clone(), node.clone());
            reads.spawn(async move { counter.read(&node).await });
            // A stale one ends the keeper with its panic.
            while let Some(done) = reads.try_join_next() {
                let _ = done.unwrap();
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    });
    keeper
}

/// The leader keeps its majority through one follower only. That one restarts, so it has forgotten the lease it
/// granted, while the other has long been ready to lead.
async fn voter_restarts_inside_the_lease(cluster: &mut Cluster, counter: &Arc<Counter>) {
    let old = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let (restarted, next) = ((old + 1) % 3, (old + 2) % 3);
    for (from, to) in [(old, next), (next, old)] {
        cluster
            .network
            .partition(cluster.address(from), cluster.address(to));
    }
    tokio::time::sleep(RaftTiming::default().election_max() * 2).await;
    let old_node = cluster.node(old).clone();
    counter.raise(&old_node).await;

    let mut reading = keep_reading(counter, &old_node);
    cluster.network.isolate(cluster.address(old));
    // The handle goes with it: what it holds keeps the log locked.
    cluster.members[restarted].handle.take().unwrap().abort().await;
    let restart = start_again(cluster.members[restarted].config.clone());
    let change = counter.raise(cluster.node(next));
    let (handle, ()) = tokio::join!(restart, change);
    cluster.members[restarted].handle = Some(handle);

    let believes = old_node.status().group(GROUP).unwrap().am_leader;
    assert!(believes, "the old leader knows already: nothing was tried");
    let mut after = JoinSet::new();
    for _ in 0..READS_AFTER {
        let (counter, node) = (counter.clone(), old_node.clone());
        after.spawn(async move { counter.read(&node).await });
        tokio::time::sleep(READ_EVERY).await;
    }
    let cut_off = counter.read(&old_node).await;
    assert!(
        cut_off.is_err(),
        "a leader without a majority answered a read: {cut_off:?}"
    );
    // These began while it was cut off and end when it is not.
    for _ in 0..READS_AFTER {
        let (counter, node) = (counter.clone(), old_node.clone());
        after.spawn(async move { counter.read(&node).await });
    }
    cluster.network.heal();
    let mut answered = 0;
    while let Some(read) = after.join_next().await {
        answered += usize::from(read.unwrap().is_ok());
    }
    assert!(
        answered >= READS_AFTER,
        "healing did not help the reads that waited"
    );
    assert!(
        reading.try_join_next().is_none(),
        "a read while the lease ran was stale"
    );
    reading.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_leader_never_answers_with_the_old_value() {
    let mut cluster = Cluster::start(3, 41).await;
    eventually("each node to lead one group", || {
        let leads = |n: &ConsensusHandle| n.status().groups.iter().any(|g| g.am_leader);
        cluster.running().all(leads).then_some(())
    })
    .await;
    let counter = Counter::create(&cluster).await;
    for _ in 0..2 {
        voter_restarts_inside_the_lease(&mut cluster, &counter).await;
        cluster.assert_converged(GROUP).await;
    }
    for node in cluster.running() {
        let read = tokio::time::timeout(PATIENCE, counter.read(node)).await.unwrap();
        assert_eq!(read.unwrap(), counter.acknowledged.load(Ordering::SeqCst));
    }
    assert_eq!(stats(cluster.node(0), GROUP).intents, 1);
    cluster.stop().await;
}
