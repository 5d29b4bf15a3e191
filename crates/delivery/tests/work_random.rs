//! Workers that do whatever they please: every item still ends once, one worker has it at a time, and nobody gets
//! more than it asked for.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_protocol::proto::internal::{AttemptVerdict, Event, Status, command};
use baton_protocol::{ErrorCode, IntentId, WorkInput, WorkItem};
use std::collections::HashMap;
use std::time::Duration;
use support::work::{Hand, WorkNode, order, report};
use support::{World, agent};
use tokio::time::{sleep, timeout};

const INTENTS: u64 = 60;
const STEPS: usize = 400;
const ATTEMPTS: u32 = 100;

/// Numbers from a seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct Member {
    hand: Hand,
    node: usize,
    credits: u32,
    items: Vec<WorkItem>,
}

struct Play {
    world: World,
    nodes: Vec<WorkNode>,
    members: Vec<Member>,
    /// The newest fence that any worker has seen for an intent.
    newest: HashMap<Vec<u8>, (u64, u64)>,
    draw: Draw,
}

impl Play {
    async fn new(seed: u64) -> Self {
        let world = World::new();
        sleep(Duration::from_millis(1_200)).await;
        let nodes = vec![WorkNode::new(&world), WorkNode::new(&world)];
        Self {
            world,
            nodes,
            members: Vec::new(),
            newest: HashMap::new(),
            draw: Draw(seed),
        }
    }

    async fn enter(&mut self) {
        let node = self.draw.below(2) as usize;
        let credits = self.draw.below(6) as u32;
        let hand = self.nodes[node]
            .worker_with(&agent("worker"), credits, 1_000)
            .await;
        self.members.push(Member {
            hand,
            node,
            credits,
            items: Vec::new(),
        });
    }

    /// Takes whatever is there.
    async fn read(&mut self, at: usize) {
        let member = &mut self.members[at];
        while let Ok(Some(Ok(batch))) = timeout(Duration::from_millis(1), member.hand.worker.next()).await {
            for item in batch.items {
                assert!(member.credits > 0, "more items than credits");
                member.credits -= 1;
                let fence = order(item.fence);
                let before = self.newest.insert(item.intent_id.to_vec(), fence);
                assert!(before.is_none_or(|b| b < fence), "{before:?} {fence:?}");
                member.items.push(item);
            }
            for error in batch.receipts.into_iter().filter_map(|r| r.error) {
                let expected = matches!(
                    error.code,
                    ErrorCode::StaleAttempt | ErrorCode::IntentTerminal | ErrorCode::Conflict
                );
                assert!(expected || error.code.retryable(), "{error:?}");
            }
        }
    }

    async fn speak(&mut self, at: usize) {
        let verdicts = [
            AttemptVerdict::Progress,
            AttemptVerdict::Nak,
            AttemptVerdict::Complete,
            AttemptVerdict::Complete,
            AttemptVerdict::Fail,
            AttemptVerdict::Terminate,
        ];
        let member = &mut self.members[at];
        let mut reports = Vec::new();
        for item in &member.items {
            if self.draw.one_in(2) {
                let mut said = report(item, verdicts[self.draw.below(6) as usize]);
                said.delay_ms = self.draw.below(3) as u32 * 400;
                // Sometimes twice, sometimes long after the item is gone.
                for _ in 0..=self.draw.below(2) {
                    reports.push(said.clone());
                }
            }
        }
        if self.draw.one_in(3) {
            member.items.clear();
        }
        let credits = self.draw.below(4) as u32;
        member.credits += credits;
        let input = WorkInput {
            credits,
            reports,
            ..WorkInput::default()
        };
        member.hand.say(input).await;
    }

    async fn step(&mut self) {
        let choice = self.draw.below(24);
        let at = (!self.members.is_empty()).then(|| self.draw.below(self.members.len() as u64) as usize);
        match (choice, at) {
            (0..=2, _) if self.members.len() < 8 => self.enter().await,
            (3, Some(at)) => drop(self.members.swap_remove(at)),
            (4, Some(at)) => {
                self.members[at].hand.drain().await;
                self.read(at).await;
                self.members.swap_remove(at);
            }
            (5, _) => sleep(Duration::from_millis(self.draw.below(1_500))).await,
            (6, _) if self.draw.one_in(4) => {
                self.world.depose().await;
                sleep(Duration::from_millis(self.draw.below(800))).await;
                self.world.elect();
            }
            (7, _) if self.draw.one_in(4) => {
                let dead = self.draw.below(2) as usize;
                self.members.retain(|m| m.node != dead);
                self.nodes[dead] = WorkNode::new(&self.world);
            }
            (8..=14, Some(at)) => self.speak(at).await,
            (_, Some(at)) => self.read(at).await,
            (_, None) => {}
        }
    }

    /// Somebody reliable does the rest.
    async fn finish(&mut self) {
        self.members.clear();
        let hand = self.nodes[0].worker(&agent("worker"), 200).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        while tokio::time::Instant::now() < deadline {
            let Ok(Some(Ok(batch))) = timeout(Duration::from_secs(10), hand.worker.next()).await else {
                break;
            };
            let reports: Vec<_> = batch
                .items
                .iter()
                .map(|item| report(item, AttemptVerdict::Complete))
                .collect();
            let credits = reports.len() as u32;
            hand.say(WorkInput {
                credits,
                reports,
                ..WorkInput::default()
            })
            .await;
        }
    }

    fn check(&self, ids: &[IntentId]) {
        for id in ids {
            let events = self.world.group.events(*id);
            let terminal = |e: &&Event| e.status().is_terminal();
            assert_eq!(events.iter().filter(terminal).count(), 1, "{id}: {events:?}");
            let last = events.last().unwrap();
            assert!(matches!(last.status(), Status::Completed | Status::Failed));
            assert!(events.iter().map(|e| e.seq).eq(1..=events.len() as u32));
        }
    }
}

async fn play(seed: u64) {
    let mut play = Play::new(seed).await;
    let mut ids = Vec::new();
    for n in 0..INTENTS {
        ids.push(
            play.world
                .group
                .submit_with(&agent("worker"), n, |s| s.max_delivery_attempts = ATTEMPTS),
        );
        for _ in 0..STEPS / INTENTS as usize {
            play.step().await;
        }
    }
    play.finish().await;
    play.check(&ids);
    let finishes = play
        .world
        .group
        .committed(|b| matches!(b, command::Body::FinishAttempt(_)));
    assert!(finishes >= 1, "seed {seed} ended nothing");
}

#[test]
fn every_item_ends_once_whatever_workers_do() {
    for seed in 0..40 {
        println!("seed {seed}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(seed));
    }
}
