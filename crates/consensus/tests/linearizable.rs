//! Submits, resolves and reads of shared intents at all nodes while the network breaks: what one client has been
//! told, no later answer to anybody takes back. Set `BATON_SEEDS=from..to` for more than the default seeds.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]
#![expect(clippy::wildcard_enum_match_arm, reason = "one outcome is looked for")]

mod common;

use baton_consensus::ConsensusHandle;
use baton_protocol::proto::internal as pb;
use baton_protocol::{ErrorCode, GroupId, IntentId, Route};
use common::{Cluster, get, submit};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const GROUPS: [GroupId; 3] = [GroupId(0), GroupId(1), GroupId(2)];
const CLIENTS: u64 = 6;
const STEPS: usize = 5;
/// Intents that clients meet on at one time; the window moves on with their operations.
const WINDOW: u64 = 8;
const OPERATIONS_PER_INTENT: u64 = 40;
const INTENTS_MAX: u64 = 10_000;
/// A client gives up on an answer, whose outcome it then does not know.
const CLIENT_PATIENCE: Duration = Duration::from_millis(1_500);
/// Events of a new intent.
const BORN: u64 = 3;

/// One intent. Its number of events only ever goes up: 0 while it does not exist, 3 once submitted, more once it
/// has ended. So a history is linearizable exactly when no answer is below what an earlier answer said, nor above
/// what anybody has asked for.
struct Register {
    route: Route,
    id: IntentId,
    /// Largest number of events that a finished call was told.
    told: AtomicU64,
    submitting: AtomicBool,
    resolving: AtomicBool,
}

impl Register {
    fn observe(&self, events: u64, floor: u64) {
        assert!(
            events >= floor,
            "{} has {events} events after {floor} were told",
            self.id
        );
        assert!(events == 0 || self.submitting.load(Ordering::SeqCst));
        assert!(events <= BORN || self.resolving.load(Ordering::SeqCst));
        self.told.fetch_max(events, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Tally {
    operations: AtomicU64,
    submits: AtomicU64,
    resolves: AtomicU64,
    reads: AtomicU64,
    unknown: AtomicU64,
}

struct Run {
    registers: Vec<(Register, u64)>,
    tally: Tally,
    stop: AtomicBool,
}

impl Run {
    fn new() -> Self {
        let register = |n: u64| {
            let (route, id, _) = submit(n);
            let register = Register {
                route,
                id,
                told: AtomicU64::new(0),
                submitting: AtomicBool::new(false),
                resolving: AtomicBool::new(false),
            };
            (register, n)
        };
        Self {
            registers: (0..INTENTS_MAX).map(register).collect(),
            tally: Tally::default(),
            stop: AtomicBool::new(false),
        }
    }

    async fn client(self: Arc<Self>, nodes: Vec<ConsensusHandle>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        while !self.stop.load(Ordering::Relaxed) {
            let operation = self.tally.operations.fetch_add(1, Ordering::Relaxed);
            let at = (operation / OPERATIONS_PER_INTENT + rng.random_range(0..WINDOW)) % INTENTS_MAX;
            let (register, n) = &self.registers[at as usize];
            let node = &nodes[rng.random_range(0..nodes.len())];
            let floor = register.told.load(Ordering::SeqCst);
            let work = async {
                match rng.random_range(0..6) {
                    0 => self.submit(register, *n, node, floor).await,
                    1 => self.resolve(register, node, floor).await,
                    _ => self.read(register, node, floor).await,
                }
            };
            if tokio::time::timeout(CLIENT_PATIENCE, work)
                .await
                .unwrap_or(None)
                .is_none()
            {
                self.tally.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn submit(&self, register: &Register, n: u64, node: &ConsensusHandle, floor: u64) -> Option<()> {
        register.submitting.store(true, Ordering::SeqCst);
        let (route, _, body) = submit(n);
        common::submitted(node.propose(route, body).await.ok()?);
        // Of an intent that has ended meanwhile it says no more than that it exists.
        register.observe(BORN.max(floor), floor);
        self.tally.submits.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    async fn resolve(&self, register: &Register, node: &ConsensusHandle, floor: u64) -> Option<()> {
        register.resolving.store(true, Ordering::SeqCst);
        let body = pb::command::Body::Resolve(pb::ResolveIntent {
            intent_id: register.id.to_bytes(),
            status: pb::Status::Completed.into(),
            ..Default::default()
        });
        let reply = node.propose(register.route, body).await.ok()?;
        let events = match reply.outcome? {
            pb::reply::Outcome::Transitioned(done) => {
                assert!(floor <= BORN, "{} ended twice", register.id);
                u64::from(done.intent?.last_seq)
            }
            pb::reply::Outcome::Rejected(refusal) => match ErrorCode::from_number(refusal.code) {
                ErrorCode::NotFound => 0,
                ErrorCode::IntentTerminal => floor.max(BORN + 1),
                other => panic!("{other:?}: {}", refusal.message),
            },
            other => panic!("no answer to a resolve: {other:?}"),
        };
        register.observe(events, floor);
        self.tally.resolves.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    async fn read(&self, register: &Register, node: &ConsensusHandle, floor: u64) -> Option<()> {
        let reply = node.read(register.route, get(register.id)).await.ok()?;
        let events = match reply.outcome? {
            pb::query_reply::Outcome::Intent(view) => u64::from(view.intent?.last_seq),
            _ => 0,
        };
        register.observe(events, floor);
        self.tally.reads.fetch_add(1, Ordering::Relaxed);
        Some(())
    }
}

/// Breaks the network in one way. The leader of a group is the victim more often than chance would have it.
async fn step(cluster: &Cluster, rng: &mut StdRng) {
    let victim = if rng.random_range(0..2) == 0 {
        cluster.leader_of(GROUPS[1], &[0, 1, 2]).await
    } else {
        rng.random_range(0..3)
    };
    let other = (victim + rng.random_range(1..3)) % 3;
    let (victim, other) = (cluster.address(victim), cluster.address(other));
    match rng.random_range(0..5) {
        0 | 1 => cluster.network.isolate(victim),
        2 => cluster.network.partition(victim, other),
        3 => cluster.network.partition(other, victim),
        _ => cluster.network.delay_ms(0, rng.random_range(1..60)),
    }
}

async fn one_seed(seed: u64) {
    let cluster = Cluster::start(3, seed).await;
    let run = Arc::new(Run::new());
    let nodes: Vec<ConsensusHandle> = cluster.running().cloned().collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| tokio::spawn(run.clone().client(nodes.clone(), seed * 100 + i)))
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..STEPS {
        step(&cluster, &mut rng).await;
        // Long enough for the others to elect a new leader and to go on.
        tokio::time::sleep(Duration::from_millis(rng.random_range(1_500..3_500))).await;
        cluster.network.heal();
        cluster.network.delay_ms(0, 0);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..800))).await;
    }
    run.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    for group in GROUPS {
        cluster.assert_converged(group).await;
    }
    for (register, _) in &run.registers {
        let told = register.told.load(Ordering::SeqCst);
        for node in nodes.iter().filter(|_| told > 0) {
            let local = node.read_local(register.route, &get(register.id)).unwrap();
            let Some(pb::query_reply::Outcome::Intent(view)) = local.outcome else {
                panic!("seed {seed}: {} is lost", register.id);
            };
            register.observe(u64::from(view.intent.unwrap().last_seq), told);
        }
    }
    let count = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
    let (submits, resolves, reads) = (
        count(&run.tally.submits),
        count(&run.tally.resolves),
        count(&run.tally.reads),
    );
    eprintln!(
        "seed {seed}: {submits} submits, {resolves} resolves, {reads} reads, {} unknown",
        count(&run.tally.unknown)
    );
    assert!(
        submits > 50 && resolves > 50 && reads > 200,
        "seed {seed}: too little was tried"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_takes_back_what_an_earlier_one_told() {
    let seeds = std::env::var("BATON_SEEDS").unwrap_or_else(|_| "201..203".into());
    let (from, to) = seeds.split_once("..").expect("BATON_SEEDS=from..to");
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        one_seed(seed).await;
    }
}
