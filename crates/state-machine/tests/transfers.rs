//! Intents that go from agent to agent across groups, while messages between the groups are late, are sent twice and
//! arrive in the wrong order.

#![expect(clippy::unwrap_used, reason = "tests fail on what they do not expect")]

use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::resume_intent::Kind;
use baton_protocol::proto::internal::{
    AcknowledgeAttempt, AcknowledgeOutbox, AgentRef, AttemptFence, DeliverMessage, EnvelopeLimits, Event,
    FailAttempt, FinishAttempt, Intent, KeyKind, ListMailbox, Member, OutboxMessage, Pulse, RedeliverIntent,
    Reply, ResolveIntent, ResumeIntent, StartAttempt, Status, SubmitIntent, UpdatePolicy, WaitingReason,
    query, query_reply,
};
use baton_protocol::{ErrorCode, IntentId};
use baton_state_machine::testing::{Replica, actor, agent, intent_id, json, pushed, refusal, settle, submit};
use baton_state_machine::{next_due_ms, outbox_head};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SHARD_GROUPS: u32 = 4;
const INTENTS: u64 = 3;

/// Two agents in each of the shard groups.
fn agents() -> Vec<String> {
    let map = Replica::new(1, SHARD_GROUPS).ctx.map;
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for n in 0..200 {
        let name = format!("t{n}");
        let of_group = found.entry(map.group_of(slot_of(&agent(&name))).0).or_default();
        if of_group.len() < 2 {
            of_group.push(name);
        }
    }
    assert_eq!(found.len(), SHARD_GROUPS as usize);
    found.into_values().flatten().collect()
}

struct World {
    groups: Vec<Replica>,
    agents: Vec<String>,
    ids: Vec<IntentId>,
    /// Every message that was ever seen in an outbox, to be sent again.
    seen: Vec<OutboxMessage>,
    ended: BTreeMap<IntentId, Event>,
    /// Attempts whose end was answered as having taken effect, by handler generation and cursor.
    finishes: BTreeMap<IntentId, BTreeSet<(u64, u64)>>,
}

impl World {
    fn new() -> Self {
        let agents = agents();
        let mut world = Self {
            groups: (0..=SHARD_GROUPS)
                .map(|g| Replica::new(g, SHARD_GROUPS))
                .collect(),
            ids: Vec::new(),
            seen: Vec::new(),
            ended: BTreeMap::new(),
            finishes: BTreeMap::new(),
            agents,
        };
        for n in 0..INTENTS {
            let to = world.agents[n as usize * 2].clone();
            let id = intent_id(&agent(&to), n);
            let command = SubmitIntent {
                deadline_at_ms: if n == 1 {
                    world.groups[0].now_ms + 400_000
                } else {
                    0
                },
                ..submit(&to, n)
            };
            world.run(world.home(id), Body::Submit(command));
            world.ids.push(id);
        }
        world
    }

    fn home(&self, id: IntentId) -> usize {
        self.groups[0].ctx.map.group_of(id.slot()).0 as usize
    }

    fn group_of(&self, holder: &AgentRef) -> usize {
        self.groups[0].ctx.map.group_of(slot_of(holder)).0 as usize
    }

    fn run(&mut self, group: usize, body: Body) -> Reply {
        let reply = self.groups[group].run(body);
        assert_eq!(self.groups[group].hash(), self.groups[group].hash_from_scratch());
        for (_, messages) in outbox_head(&self.groups[group].tables, usize::MAX).unwrap() {
            for message in messages {
                if !self.seen.contains(&message) {
                    self.seen.push(message);
                }
            }
        }
        reply
    }

    /// The open deliveries of an intent, wherever they are.
    fn open(&self, id: IntentId) -> Vec<(usize, AgentRef, Intent)> {
        let mut found = Vec::new();
        for (group, replica) in self.groups.iter().enumerate().skip(1) {
            for name in &self.agents {
                let q = ListMailbox {
                    agent: Some(agent(name)),
                    payload_bytes_max: 4_096,
                    ..ListMailbox::default()
                };
                let query_reply::Outcome::Mailbox(page) = replica.ask(query::Body::ListMailbox(q)) else {
                    panic!("no mailbox")
                };
                for item in page.items {
                    let intent = item.intent.unwrap();
                    assert_eq!(intent.mailbox_cursor, item.cursor);
                    if intent.intent_id == id.to_bytes() {
                        assert_eq!(
                            item.payload,
                            Some(json("{\"amount\":1}")),
                            "what is delivered is whole"
                        );
                        found.push((group, agent(name), intent));
                    }
                }
            }
        }
        found
    }

    fn resume(&mut self, id: IntentId, next: Option<&str>) {
        let command = ResumeIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: id.to_bytes(),
            kind: Kind::Control.into(),
            approve: true,
            next_handler: next.map(agent),
            ..ResumeIntent::default()
        };
        self.run(self.home(id), Body::Resume(command));
    }

    /// The handler says something about one of the deliveries, which may be an old one.
    fn attempt(&mut self, id: IntentId, what: u64, pick: u64) {
        let open = self.open(id);
        let Some((group, holder, intent)) = open.get(pick as usize % open.len().max(1)).cloned() else {
            return;
        };
        let name = holder.address.rsplit('/').next().unwrap().to_owned();
        let (intent_id, cursor) = (id.to_bytes(), intent.mailbox_cursor);
        let push = Some(pushed(&name, 500, 1_000));
        let body = match what {
            0 => Body::Redeliver(RedeliverIntent { intent_id, cursor }),
            1 => Body::FailAttempt(FailAttempt {
                intent_id,
                cursor,
                push,
            }),
            2 => Body::AcknowledgeAttempt(AcknowledgeAttempt {
                intent_id,
                cursor,
                push: Some(pushed(&name, 200, 0)),
            }),
            3 => {
                let handler_generation = if intent.reference {
                    intent.handler_generation
                } else {
                    0
                };
                let command = FinishAttempt {
                    actor: Some(actor(KeyKind::Agent, &name)),
                    intent_id,
                    cursor,
                    fence: Some(AttemptFence {
                        term: 1,
                        counter: cursor,
                    }),
                    status: Status::Completed.into(),
                    body: Some(json("{\"ok\":true}")),
                    handler_generation,
                    ..FinishAttempt::default()
                };
                let home = self.home(id);
                let first = self.run(home, Body::FinishAttempt(command.clone()));
                let again = self.run(home, Body::FinishAttempt(command));
                assert_eq!(refusal(&first), refusal(&again), "said twice, answered alike");
                if refusal(&first).is_none() {
                    let attempt = (intent.handler_generation, cursor);
                    self.finishes.entry(id).or_default().insert(attempt);
                }
                return;
            }
            4 => Body::StartAttempt(StartAttempt { intent_id, cursor }),
            _ => Body::FailAttempt(FailAttempt {
                intent_id,
                cursor,
                push: None,
            }),
        };
        let reply = self.run(group, body);
        assert!(matches!(refusal(&reply), None | Some(ErrorCode::StaleAttempt)));
    }

    /// The result of the agent that has the delivery, without a fence.
    fn result(&mut self, id: IntentId, pick: u64) {
        let open = self.open(id);
        let Some((_, holder, _)) = open.get(pick as usize % open.len().max(1)) else {
            return;
        };
        let name = holder.address.rsplit('/').next().unwrap();
        let command = ResumeIntent {
            actor: Some(actor(KeyKind::Agent, name)),
            intent_id: id.to_bytes(),
            kind: Kind::Result.into(),
            result: Some(json("{\"ok\":true}")),
            ..ResumeIntent::default()
        };
        let header = self.groups[self.home(id)].intent(id).unwrap();
        let holds = header.holder().unwrap().key == holder.key && !header.status().is_terminal();
        let reply = self.run(self.home(id), Body::Resume(command));
        assert_eq!(
            refusal(&reply).is_none(),
            holds,
            "the present handler's result counts, nobody else's"
        );
    }

    /// Whoever has it waits for something outside.
    fn wait(&mut self, id: IntentId) {
        let command = ResumeIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: id.to_bytes(),
            kind: Kind::Wait.into(),
            waits_for: "a tool".into(),
            ..ResumeIntent::default()
        };
        self.run(self.home(id), Body::Resume(command));
    }

    fn limit(&mut self, id: IntentId, pick: u64) {
        let some = |on: u64, value: u64| (pick & on != 0).then_some(value as u32);
        let command = UpdatePolicy {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: id.to_bytes(),
            envelope: vec![Member::default()],
            limits: Some(EnvelopeLimits {
                max_retry_count: some(1, pick >> 8 & 3),
                retry_backoff_seconds: some(2, 1 + (pick >> 10 & 1)),
                execution_timeout_seconds: some(4, 1 + (pick >> 12 & 3)),
                ..EnvelopeLimits::default()
            }),
            ..UpdatePolicy::default()
        };
        self.run(self.home(id), Body::Policy(command));
    }

    fn waits(&self, id: IntentId) -> bool {
        let header = self.groups[self.home(id)].intent(id).unwrap();
        header.waiting_reason() == WaitingReason::Tool
    }

    /// One of the messages that wait, or one from before: also one that is not the next.
    fn message(&mut self, pick: u64) {
        let Some(message) = self.seen.get(pick as usize % self.seen.len().max(1)).cloned() else {
            return;
        };
        let deliver = DeliverMessage {
            message: Some(message.clone()),
        };
        let reply = self.run(message.target_group as usize, Body::Deliver(deliver));
        // The acknowledgement may get lost with its leader.
        if refusal(&reply).is_none() && !pick.is_multiple_of(3) {
            let acknowledge = AcknowledgeOutbox {
                target_group: message.target_group,
                seq: message.seq,
            };
            self.run(message.source_group as usize, Body::Acknowledge(acknowledge));
        }
    }

    fn step(&mut self, kind: u8, seed: u64) {
        for replica in &mut self.groups {
            replica.now_ms += seed % 900;
        }
        let id = self.ids[(seed >> 8) as usize % self.ids.len()];
        let pick = seed >> 16;
        match kind % 18 {
            0..=3 => {
                let next = self.agents[pick as usize % self.agents.len()].clone();
                self.resume(id, Some(&next));
            }
            4 => self.resume(id, None),
            5 | 6 => self.attempt(id, pick % 6, pick >> 8),
            7 if pick.is_multiple_of(3) => self.result(id, pick >> 8),
            8 if pick.is_multiple_of(4) => {
                let resolve = ResolveIntent {
                    intent_id: id.to_bytes(),
                    status: Status::Canceled.into(),
                    ..ResolveIntent::default()
                };
                self.run(self.home(id), Body::Resolve(resolve));
            }
            16 => self.wait(id),
            17 => self.limit(id, pick),
            9 => {
                for group in 1..self.groups.len() {
                    self.run(group, Body::Pulse(Pulse {}));
                }
            }
            _ => self.message(pick),
        }
        self.check();
    }

    fn check(&mut self) {
        for id in self.ids.clone() {
            let replica = &self.groups[self.home(id)];
            let header = replica.intent(id).unwrap();
            let events = replica.events(id);
            let seqs: Vec<u32> = events.iter().map(|e| e.seq).collect();
            assert_eq!(seqs, (1..=header.last_seq).collect::<Vec<_>>());
            let ends: Vec<&Event> = events.iter().filter(|e| e.status().is_terminal()).collect();
            assert!(ends.len() <= 1, "one end at most");
            if let Some(end) = ends.first() {
                assert_eq!(*end, events.last().unwrap());
                assert_eq!(self.ended.entry(id).or_insert_with(|| (*end).clone()), *end);
            }
            assert!(
                self.finishes.get(&id).is_none_or(|all| all.len() <= 1),
                "one worker ends it"
            );
            let open = self.open(id);
            let mut generations: Vec<u64> = open.iter().map(|(_, _, i)| i.handler_generation).collect();
            generations.sort_unstable();
            let all = generations.len();
            generations.dedup();
            assert_eq!(generations.len(), all, "one open delivery for each handover");
            assert!(generations.iter().all(|g| *g <= header.handler_generation));
        }
    }

    /// Everything has arrived: the one delivery is with the holder, and nothing is left of what has ended.
    fn check_settled(&mut self) {
        settle(&mut self.groups);
        self.check();
        for id in self.ids.clone() {
            let header = self.groups[self.home(id)].intent(id).unwrap();
            let open = self.open(id);
            if header.status().is_terminal() || self.waits(id) {
                assert!(open.is_empty(), "{open:?}");
                continue;
            }
            let [(group, holder, delivery)] = &open[..] else {
                panic!("an open intent has one delivery: {open:?}");
            };
            assert_eq!(Some(holder), header.holder());
            assert_eq!(*group, self.group_of(holder));
            assert_eq!(delivery.handler_generation, header.handler_generation);
            assert_eq!(delivery.status(), header.status());
            assert_eq!(delivery.limits, header.limits);
            assert_eq!(delivery.max_delivery_attempts, header.max_delivery_attempts);
            assert_eq!(delivery.reference, *group != self.home(id));
            assert_eq!(header.mailbox_cursor != 0, *group == self.home(id));
        }
    }

    fn rows(&self, tags: &[u8]) -> usize {
        let rows = self.groups[1..].iter().flat_map(|replica| replica.tables.rows());
        rows.filter(|(key, _)| tags.contains(&key[0])).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_intent_is_delivered_to_its_holder_and_ends_once(
        ops in prop::collection::vec((any::<u8>(), any::<u64>()), 1..150),
    ) {
        let mut world = World::new();
        for (kind, seed) in ops {
            world.step(kind, seed);
        }
        world.check_settled();
        // Who holds it now can end it.
        for id in world.ids.clone() {
            if world.waits(id) {
                world.resume(id, None);
                world.check_settled();
            }
            world.result(id, 0);
        }
        world.check_settled();
        for id in &world.ids {
            let ended = world.groups[world.home(*id)].intent(*id).unwrap();
            prop_assert!(ended.status().is_terminal());
        }
        // Retention leaves nothing: intents, payloads, events, mailboxes, recipients, timers, deliveries, references.
        for _ in 0..4 {
            for group in 1..world.groups.len() {
                while let Some(due_ms) = next_due_ms(&world.groups[group].tables).unwrap() {
                    world.groups[group].now_ms = world.groups[group].now_ms.max(due_ms);
                    world.groups[group].run(Body::Pulse(Pulse {}));
                }
            }
            settle(&mut world.groups);
        }
        prop_assert_eq!(world.rows(&[0x10, 0x11, 0x12, 0x14, 0x15, 0x16, 0x18, 0x24, 0x25, 0x26, 0x2e]), 0);
    }
}
