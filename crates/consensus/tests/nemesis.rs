//! Random partitions, crashes and restarts under load. Set `BATON_SEEDS=from..to` for more than the default seeds.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, IntentId, Route};
use common::{Cluster, generation, get, increment, start_again, submit_at};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const GROUPS: [GroupId; 3] = [GroupId(0), GroupId(1), GroupId(2)];
const COUNTERS: u64 = 8;
const STEPS: usize = 8;

/// An intent whose generation counts how often a command that is not idempotent was applied to it.
struct Counter {
    route: Route,
    id: IntentId,
    acknowledged: AtomicU64,
    tried: AtomicU64,
    /// Largest generation that an answer named.
    seen: AtomicU64,
}

/// One writer per counter through changing nodes; every few writes a linearizable read elsewhere.
async fn write(
    counters: Arc<Vec<Counter>>,
    index: usize,
    mut nodes: tokio::sync::watch::Receiver<Vec<Option<baton_consensus::ConsensusHandle>>>,
    stop: Arc<AtomicBool>,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let counter = &counters[index];
    while !stop.load(Ordering::Relaxed) {
        let node = nodes.borrow_and_update()[rng.random_range(0..3)].clone();
        let Some(node) = node else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        if rng.random_range(0..4) == 0 {
            let floor = counter.seen.load(Ordering::Acquire);
            let read = tokio::select! {
                read = node.read(counter.route, get(counter.id)) => read,
                _ = nodes.changed() => continue,
            };
            if let Ok(reply) = read {
                let read = generation(reply.outcome);
                assert!(read >= floor, "stale read: {read} after {floor}");
                counter.seen.fetch_max(read, Ordering::AcqRel);
            }
            continue;
        }
        counter.tried.fetch_add(1, Ordering::AcqRel);
        // A node that stops takes its unanswered calls with it.
        let done = tokio::select! {
            done = node.propose(counter.route, increment(counter.id)) => done,
            _ = nodes.changed() => continue,
        };
        match done.map(|reply| reply.outcome) {
            Ok(Some(pb::reply::Outcome::Transitioned(done))) => {
                counter.acknowledged.fetch_add(1, Ordering::AcqRel);
                counter.seen.fetch_max(done.policy_generation, Ordering::AcqRel);
            }
            Ok(other) => panic!("refused: {other:?}"),
            Err(_) => {}
        }
    }
}

async fn one_seed(seed: u64) {
    let mut cluster = Cluster::prepare(3, seed);
    for member in &mut cluster.members {
        member.config.snapshot_log_bytes_min = 64 * 1024;
    }
    cluster.start_all().await;
    let mut counters = Vec::new();
    for n in 0..COUNTERS {
        let (route, id, _) = submit_at(cluster.node(0), n).await;
        counters.push(Counter {
            route,
            id,
            acknowledged: AtomicU64::new(0),
            tried: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        });
    }
    let counters = Arc::new(counters);
    let handles = |c: &Cluster| c.members.iter().map(|m| m.handle.clone()).collect::<Vec<_>>();
    let (tell, nodes) = tokio::sync::watch::channel(handles(&cluster));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..counters.len())
        .map(|i| {
            let seed = seed * 100 + i as u64;
            tokio::spawn(write(counters.clone(), i, nodes.clone(), stop.clone(), seed))
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..STEPS {
        step(&mut cluster, &mut rng, &tell).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..1_500))).await;
        cluster.network.heal();
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
        restart_stopped(&mut cluster).await;
        tell.send_replace(handles(&cluster));
    }
    cluster.network.delay_ms(0, 0);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    for group in GROUPS {
        cluster.assert_converged(group).await;
    }
    check(&cluster, &counters, seed).await;
    cluster.stop().await;
}

async fn step(
    cluster: &mut Cluster,
    rng: &mut StdRng,
    tell: &tokio::sync::watch::Sender<Vec<Option<baton_consensus::ConsensusHandle>>>,
) {
    let victim = rng.random_range(0..3);
    let other = (victim + rng.random_range(1..3)) % 3;
    match rng.random_range(0..6) {
        0 => cluster.network.isolate(cluster.address(victim)),
        1 => cluster
            .network
            .partition(cluster.address(victim), cluster.address(other)),
        2 => cluster.network.delay_ms(0, rng.random_range(1..40)),
        kind => {
            let all = kind == 5;
            let gone: Vec<usize> = if all { vec![0, 1, 2] } else { vec![victim] };
            let mut stopping = Vec::new();
            for ordinal in gone {
                let handle = cluster.members[ordinal].handle.take().unwrap();
                tell.send_modify(|nodes| nodes[ordinal] = None);
                let graceful = kind == 4;
                stopping.push(async move {
                    if graceful {
                        handle.shutdown().await;
                    } else {
                        handle.abort().await;
                    }
                });
            }
            futures::future::join_all(stopping).await;
            if all && rng.random_range(0..2) == 0 {
                // Power went everywhere at once and tore every log.
                for member in &cluster.members {
                    std::fs::write(member.dir.path().join("log/CUT"), b"").unwrap();
                }
            }
        }
    }
}

async fn restart_stopped(cluster: &mut Cluster) {
    let starts = cluster
        .members
        .iter()
        .enumerate()
        .filter(|(_, m)| m.handle.is_none())
        .map(|(o, m)| async move { (o, start_again(m.config.clone()).await) });
    let started: Vec<_> = futures::future::join_all(starts).await;
    for (ordinal, handle) in started {
        cluster.members[ordinal].handle = Some(handle);
    }
}

async fn check(cluster: &Cluster, counters: &[Counter], seed: u64) {
    let mut total = 0;
    for counter in counters {
        let acknowledged = counter.acknowledged.load(Ordering::Acquire);
        let tried = counter.tried.load(Ordering::Acquire);
        total += acknowledged;
        for node in cluster.running() {
            let local = node.read_local(counter.route, &get(counter.id)).unwrap();
            let applied = generation(local.outcome);
            assert!(
                applied >= acknowledged,
                "seed {seed}: {acknowledged} acknowledged, {applied} left"
            );
            assert!(applied <= tried, "seed {seed}: {tried} tried, {applied} applied");
            assert!(
                applied >= counter.seen.load(Ordering::Acquire),
                "seed {seed}: a seen write is gone"
            );
        }
    }
    eprintln!("seed {seed}: {total} acknowledged");
    assert!(total > 50, "seed {seed}: only {total} writes were acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_stale_under_random_faults() {
    let seeds = std::env::var("BATON_SEEDS").unwrap_or_else(|_| "101..103".into());
    let (from, to) = seeds.split_once("..").expect("BATON_SEEDS=from..to");
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        one_seed(seed).await;
    }
}
