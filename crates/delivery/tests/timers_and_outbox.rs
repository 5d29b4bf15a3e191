//! The pulse loop and the outbox pump on scripted groups, paused time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use async_trait::async_trait;
use baton_delivery::{AppliedFeed, DeliverySettings, Dispatcher, GroupService, LedGroup, Network};
use baton_protocol::proto::internal::{
    AgentRef, Done, OutboxMessage, Pulsed, Query, QueryReply, Rejection, Reply, Status, command, reply,
};
use baton_protocol::{ErrorCode, GroupId, IntentId, Route, ServiceError, Slot};
use baton_state_machine::{Applied, DeliveryRows, Effect};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{GROUP, START_MS, World, agent};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// A leader with timers and an outbox of its own making.
struct Script {
    start: Instant,
    timers: Mutex<BTreeSet<u64>>,
    outbox: Mutex<BTreeMap<u32, BTreeMap<u64, OutboxMessage>>>,
    pulses: Mutex<Vec<(u64, u32)>>,
    acknowledgements: Mutex<Vec<(u32, u64)>>,
    announce: broadcast::Sender<Arc<Applied>>,
}

impl Script {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            timers: Mutex::default(),
            outbox: Mutex::default(),
            pulses: Mutex::default(),
            acknowledgements: Mutex::default(),
            announce: broadcast::channel(64).0,
        })
    }

    fn announce(&self, effect: Effect) {
        let _ = self.announce.send(Arc::new(Applied {
            effects: vec![effect],
            ..Applied::default()
        }));
    }

    fn arm(&self, due_ms: u64) {
        self.timers.lock().unwrap().insert(due_ms);
        self.announce(Effect::Timer { due_ms });
    }

    fn put(&self, target: u32, seqs: std::ops::RangeInclusive<u64>) {
        for seq in seqs {
            let message = OutboxMessage {
                source_group: GROUP.0,
                target_group: target,
                seq,
                body: None,
            };
            let mut outbox = self.outbox.lock().unwrap();
            outbox.entry(target).or_default().insert(seq, message);
        }
        let target = GroupId(target);
        self.announce(Effect::Send { target });
    }

    fn waiting(&self) -> usize {
        self.outbox.lock().unwrap().values().map(BTreeMap::len).sum()
    }

    fn pulse(&self) -> reply::Outcome {
        let now = self.now_ms();
        let mut timers = self.timers.lock().unwrap();
        let due: Vec<u64> = timers.range(..=now).take(2).copied().collect();
        for due in &due {
            timers.remove(due);
        }
        let fired = u32::try_from(due.len()).unwrap();
        self.pulses.lock().unwrap().push((now, fired));
        reply::Outcome::Pulsed(Pulsed { fired })
    }
}

#[async_trait]
impl LedGroup for Script {
    fn group_id(&self) -> GroupId {
        GROUP
    }

    fn term(&self) -> u64 {
        1
    }

    fn owns(&self, _slot: Slot) -> bool {
        true
    }

    fn is_leader(&self) -> bool {
        true
    }

    async fn leadership_ended(&self) {
        std::future::pending().await
    }

    fn query(&self, _: &Query) -> Result<QueryReply, ServiceError> {
        Ok(QueryReply::default())
    }

    async fn propose(&self, body: command::Body) -> Result<Reply, ServiceError> {
        sleep(Duration::from_millis(1)).await;
        let outcome = if let command::Body::Acknowledge(ack) = body {
            let mut outbox = self.outbox.lock().unwrap();
            let rest = outbox
                .entry(ack.target_group)
                .or_default()
                .split_off(&(ack.seq + 1));
            outbox.insert(ack.target_group, rest);
            self.acknowledgements
                .lock()
                .unwrap()
                .push((ack.target_group, ack.seq));
            reply::Outcome::Done(Done {})
        } else {
            self.pulse()
        };
        Ok(Reply {
            replayed: false,
            outcome: Some(outcome),
        })
    }

    fn now_ms(&self) -> u64 {
        START_MS + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn next_due_ms(&self) -> Result<Option<u64>, ServiceError> {
        Ok(self.timers.lock().unwrap().first().copied())
    }

    fn outbox_head(&self, limit: usize) -> Result<Vec<(GroupId, Vec<OutboxMessage>)>, ServiceError> {
        let outbox = self.outbox.lock().unwrap();
        let head = |m: &BTreeMap<u64, OutboxMessage>| m.values().take(limit).cloned().collect();
        Ok(outbox.iter().map(|(t, m)| (GroupId(*t), head(m))).collect())
    }

    fn open_deliveries(&self, _: &AgentRef, _: u64, _: usize) -> Result<Vec<(u64, IntentId)>, ServiceError> {
        Ok(Vec::new())
    }

    fn delivery_rows(&self, ids: &[IntentId], _: usize) -> Result<Vec<Option<DeliveryRows>>, ServiceError> {
        Ok(vec![None; ids.len()])
    }

    fn applied(&self) -> Box<dyn AppliedFeed> {
        Box::new(self.announce.subscribe())
    }
}

/// Target groups behind a network that delays, loses requests and loses answers.
struct Targets {
    random: Mutex<u64>,
    failing_percent: u64,
    jitter_ms: u64,
    applied: Mutex<BTreeMap<u32, Vec<u64>>>,
    in_flight: Mutex<(usize, usize)>,
}

impl Targets {
    fn new(seed: u64, failing_percent: u64, jitter_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(seed),
            failing_percent,
            jitter_ms,
            applied: Mutex::default(),
            in_flight: Mutex::default(),
        })
    }

    fn draw(&self, n: u64) -> u64 {
        let mut random = self.random.lock().unwrap();
        *random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) % n
    }

    fn apply(&self, message: &OutboxMessage) -> reply::Outcome {
        let mut applied = self.applied.lock().unwrap();
        let seen = applied.entry(message.target_group).or_default();
        let expected = seen.len() as u64 + 1;
        if message.seq > expected {
            return reply::Outcome::Rejected(Rejection {
                code: ErrorCode::OutOfOrder.number(),
                message: format!("expected message {expected}"),
                existing_service_account: None,
            });
        }
        if message.seq == expected {
            seen.push(message.seq);
        }
        reply::Outcome::Done(Done {})
    }
}

/// Ends with the proposal, also when it is given up.
struct Flight<'a>(&'a Mutex<(usize, usize)>);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

#[async_trait]
impl Network for Targets {
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError> {
        let command::Body::Deliver(deliver) = body else {
            panic!("{body:?}");
        };
        let message = deliver.message.unwrap();
        assert_eq!(route, Route::Group(GroupId(message.target_group)));
        {
            let mut in_flight = self.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let _flight = Flight(&self.in_flight);
        let (delay, fate) = (5 + self.draw(self.jitter_ms), self.draw(100));
        sleep(Duration::from_millis(delay)).await;
        let unavailable = || ServiceError::new(ErrorCode::Unavailable, "lost");
        if fate < self.failing_percent {
            return Err(unavailable());
        }
        let outcome = Some(self.apply(&message));
        if fate < self.failing_percent * 2 {
            return Err(unavailable());
        }
        Ok(Reply {
            replayed: false,
            outcome,
        })
    }

    async fn open_stream(
        &self,
        _: GroupId,
        _: Bytes,
    ) -> Result<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>), ServiceError> {
        Err(ServiceError::new(ErrorCode::Unavailable, "no streams here"))
    }
}

fn start(led: &Arc<Script>, targets: &Arc<Targets>) -> CancellationToken {
    let stop = CancellationToken::new();
    let service = GroupService::new(
        led.clone(),
        targets.clone(),
        DeliverySettings::default(),
        Dispatcher::new(),
    );
    tokio::spawn(service.run(stop.clone()));
    stop
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_once_and_in_order_through_a_bad_network() {
    for seed in 1..=5 {
        let led = Script::new();
        let targets = Targets::new(seed, 15, 20);
        // Some wait before the leader starts, some come later.
        led.put(2, 1..=100);
        let stop = start(&led, &targets);
        led.put(3, 1..=50);
        sleep(Duration::from_secs(1)).await;
        led.put(2, 101..=200);
        for _ in 0..600 {
            sleep(Duration::from_secs(1)).await;
            if led.waiting() == 0 {
                break;
            }
        }
        stop.cancel();
        assert_eq!(led.waiting(), 0, "seed {seed}");
        let applied = targets.applied.lock().unwrap().clone();
        let expected = [(2, (1..=200).collect()), (3, (1..=50).collect())];
        assert_eq!(applied, BTreeMap::<u32, Vec<u64>>::from(expected), "seed {seed}");
        for (target, seq) in led.acknowledgements.lock().unwrap().iter() {
            assert!(applied[target].contains(seq), "acknowledged before it arrived");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_batched_and_messages_in_flight_bounded() {
    let led = Script::new();
    let targets = Targets::new(1, 0, 1);
    led.put(2, 1..=64);
    let stop = start(&led, &targets);
    while led.waiting() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    let most = targets.in_flight.lock().unwrap().1;
    assert_eq!(most, 16);
    assert_eq!(*led.acknowledgements.lock().unwrap(), [(2, 64)]);
}

#[tokio::test(start_paused = true)]
async fn a_pulse_fires_when_due_and_an_idle_group_proposes_nothing() {
    let led = Script::new();
    let stop = start(&led, &Targets::new(1, 0, 1));
    sleep(Duration::from_secs(3600)).await;
    assert!(led.pulses.lock().unwrap().is_empty(), "idle");
    let now = led.now_ms();
    led.arm(now + 60_000);
    sleep(Duration::from_secs(1)).await;
    // An earlier one arrives while the loop sleeps; five at once need three pulses of two.
    for n in 0..5 {
        led.arm(now + 10_000 + n);
    }
    sleep(Duration::from_secs(3600)).await;
    stop.cancel();
    let pulses = led.pulses.lock().unwrap().clone();
    let fired: u32 = pulses.iter().map(|(_, fired)| fired).sum();
    assert_eq!(fired, 6);
    assert!(pulses.iter().all(|(_, fired)| *fired > 0), "{pulses:?}");
    assert!(
        pulses[0].0 >= now + 10_000 && pulses[0].0 < now + 11_000,
        "{pulses:?}"
    );
    let last = pulses.last().unwrap().0;
    assert!(last >= now + 60_000 && last < now + 61_000, "{pulses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_times_the_intent_out() {
    let world = World::new();
    let deadline = world.group.now_ms() + 45_000;
    let id = world
        .group
        .submit_with(&agent("worker"), 1, |s| s.deadline_at_ms = deadline);
    sleep(Duration::from_secs(44)).await;
    assert_eq!(world.group.intent(id).status(), Status::Delivered);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.group.intent(id).status(), Status::TimedOut);
    let pulses = world.group.committed(|b| matches!(b, command::Body::Pulse(_)));
    assert_eq!(pulses, 1);
}
