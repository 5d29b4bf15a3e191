//! A small cluster of replicas in memory, driven by drawn operations, with the rules that must hold after each.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail the test; they look for one outcome and treat every other alike"
)]

use baton_protocol::address::{AGENT_CORE, canonical, slot_of};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, Actor, AgentRef, ApiKey, Batch, BootstrapCluster, ClusterRecord, Command,
    CompiledScenario, CompiledStep, CreateApiKey, CreateServiceAccount, DeliverMessage, Event, FailAttempt,
    FinishIdempotency, GetIntent, IdempotencyClaim, Intent, KeyKind, ListEvents, ListMailbox, Member,
    Organization, OutboxMessage, Pulse, RedeliverIntent, Reply, ReserveIdempotency, ResolveIntent,
    ResumeIntent, RevokeApiKey, ServiceAccount, SetFeatureLevel, StartScenario, Status, SubmitIntent,
    UpdateControls, UpdatePolicy, UpdateServiceAccount, Workspace, outbox_message, query, query_reply, reply,
    resume_intent,
};
use baton_protocol::{GroupId, IntentId, Route};
use baton_state_machine::testing::{Replica, actor, agent, json, refusal};
use baton_state_machine::{Applied, Effect, MemoryTables, Tables, log_time_ms, outbox_head};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const SHARD_GROUPS: u32 = 2;
const AGENTS: [&str; 5] = ["w0", "w1", "w2", "w3", "w4"];

/// One drawn operation: what to do, and a number from which all its details follow.
pub(crate) type Op = (u8, u64);

/// Details drawn from one number.
#[derive(Debug, Clone)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len().max(1) as u64) as usize;
        from.get(index).cloned()
    }
}

/// One entry of one group's log, with what it answered.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) group: usize,
    pub(crate) batch: Batch,
    pub(crate) applied: Applied,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) groups: Vec<Replica>,
    pub(crate) log: Vec<Logged>,
    now_ms: u64,
    /// Milliseconds the clock may move with each operation.
    pub(crate) step_ms: u64,
    ids: BTreeSet<IntentId>,
    ended: BTreeMap<IntentId, Event>,
    cursors: BTreeMap<String, u64>,
    commands: u64,
}

impl World {
    pub(crate) fn new(step_ms: u64) -> Self {
        let groups: Vec<_> = (0..=SHARD_GROUPS)
            .map(|g| Replica::new(g, SHARD_GROUPS))
            .collect();
        let mut world = Self {
            now_ms: groups[0].now_ms,
            groups,
            log: Vec::new(),
            step_ms,
            ids: BTreeSet::new(),
            ended: BTreeMap::new(),
            cursors: BTreeMap::new(),
            commands: 0,
        };
        world.apply(0, vec![bare(Body::Bootstrap(bootstrap()))]);
        world
    }

    pub(crate) fn drive(&mut self, ops: &[Op]) {
        for (kind, seed) in ops {
            let mut draw = Draw(*seed);
            self.now_ms += draw.below(self.step_ms + 1);
            if self.step_ms >= 1_000 && draw.one_in(40) {
                self.now_ms += self.step_ms * 10_000;
            }
            let (group, body) = self.command(*kind, &mut draw);
            if self.step_ms < 1_000 {
                self.check_refusal(group, &body);
            }
            let mut commands = vec![self.wrap(body, &mut draw)];
            // The same command once more in the same entry, as a retry would.
            if draw.one_in(8) {
                commands.push(commands[0].clone());
            }
            self.apply(group, commands);
        }
    }

    /// A refused command leaves nothing behind. Tried on a copy, at a time when nothing else is due for removal.
    fn check_refusal(&self, group: usize, body: &Body) {
        let mut probe = self.groups[group].clone();
        let log_time_ms = self.now_ms;
        probe.apply(&Batch {
            log_time_ms,
            commands: vec![],
        });
        let before = rows(&probe);
        let applied = probe.apply(&Batch {
            log_time_ms,
            commands: vec![bare(body.clone())],
        });
        if refusal(&applied.replies[0]).is_some() {
            assert_eq!(rows(&probe), before, "{body:?} was refused");
            assert!(applied.events.is_empty() && applied.effects.is_empty());
        }
    }

    /// Lets every message arrive, until no group has any to send.
    pub(crate) fn settle(&mut self) {
        for _ in 0..2_000 {
            let Some((group, target, message)) = self.waiting().into_iter().next() else {
                return;
            };
            let seq = message.seq;
            let deliver = Body::Deliver(DeliverMessage {
                message: Some(message),
            });
            self.apply(target, vec![bare(deliver)]);
            let acknowledge = AcknowledgeOutbox {
                target_group: target as u32,
                seq,
            };
            self.apply(group, vec![bare(Body::Acknowledge(acknowledge))]);
        }
        panic!("messages never end");
    }

    fn waiting(&self) -> Vec<(usize, usize, OutboxMessage)> {
        let mut waiting = Vec::new();
        for (source, replica) in self.groups.iter().enumerate() {
            for (target, messages) in outbox_head(&replica.tables, 3).unwrap() {
                waiting.extend(messages.into_iter().map(|m| (source, target.0 as usize, m)));
            }
        }
        waiting
    }

    fn wrap(&mut self, body: Body, draw: &mut Draw) -> Command {
        self.commands += 1;
        let expires_at_ms = match draw.below(20) {
            0 => self.now_ms.saturating_sub(1),
            1 => 0,
            _ => self.now_ms + 10_000,
        };
        Command {
            command_id: if draw.one_in(30) {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(&u128::from(self.commands).to_be_bytes())
            },
            expires_at_ms,
            body: Some(body),
        }
    }

    pub(crate) fn apply(&mut self, group: usize, commands: Vec<Command>) {
        let batch = Batch {
            // A leader whose clock is behind must not move log time back.
            log_time_ms: self.now_ms - self.commands % 3,
            commands,
        };
        let replica = &mut self.groups[group];
        let before_ms = log_time_ms(&replica.tables).unwrap();
        let applied = replica.apply(&batch);
        assert_eq!(applied.replies.len(), batch.commands.len());
        assert!(
            applied.log_time_ms >= before_ms.max(batch.log_time_ms),
            "log time never goes back"
        );
        assert!(applied.replies.iter().all(|r| r.outcome.is_some()));
        self.note(&applied);
        self.log.push(Logged {
            group,
            batch,
            applied,
        });
        self.check(group);
    }

    fn note(&mut self, applied: &Applied) {
        for event in &applied.events {
            self.ids.extend(IntentId::from_slice(&event.intent_id));
        }
        for effect in &applied.effects {
            if let Effect::Deliver {
                agent_key, cursor, ..
            } = effect
            {
                let last = self.cursors.insert(agent_key.clone(), *cursor);
                assert!(
                    last.is_none_or(|last| *cursor >= last + 2),
                    "cursor stride of {agent_key}"
                );
            }
        }
    }

    /// The rules that hold for a group after every entry.
    fn check(&mut self, group: usize) {
        let replica = &self.groups[group];
        assert_eq!(
            replica.hash(),
            replica.hash_from_scratch(),
            "incremental state hash"
        );
        let mut open = BTreeSet::new();
        for id in &self.ids {
            if Route::Slot(id.slot()).group(replica.ctx.map) != GroupId(group as u32) {
                continue;
            }
            let Some(intent) = header(replica, *id) else {
                assert!(
                    self.ended.contains_key(id),
                    "only intents that ended may be removed"
                );
                continue;
            };
            let ending = check_events(replica, &intent);
            match (&ending, self.ended.get(id)) {
                (Some(now), Some(before)) => assert_eq!(now, before, "a terminal event never changes"),
                (None, Some(_)) => panic!("a terminal intent came back to life"),
                (Some(_) | None, None) => {}
            }
            if let Some(event) = ending {
                self.ended.insert(*id, event);
                assert_eq!(intent.mailbox_cursor, 0);
            } else if deliverable(&intent) {
                let handler = intent.handler.clone().unwrap();
                open.insert((handler.key, intent.mailbox_cursor, *id));
            }
        }
        let mut delivered = BTreeSet::new();
        for name in AGENTS.iter().chain(&[AGENT_CORE]) {
            for (cursor, intent) in mailbox(replica, &agent(name)) {
                let id = IntentId::from_slice(&intent.intent_id).unwrap();
                delivered.insert((agent(name).key, cursor, id));
            }
        }
        assert_eq!(
            delivered, open,
            "mailboxes hold exactly the open deliverable intents"
        );
    }
}

fn deliverable(intent: &Intent) -> bool {
    let core = canonical("acme", "prod", AGENT_CORE);
    !intent.scenario_parent && intent.handler.as_ref().is_some_and(|h| h.address != core)
}

pub(crate) fn bare(body: Body) -> Command {
    Command {
        body: Some(body),
        ..Command::default()
    }
}

pub(crate) fn header(replica: &Replica, id: IntentId) -> Option<Intent> {
    let q = GetIntent {
        intent_id: id.to_bytes(),
        with_payload: false,
    };
    match replica.ask(query::Body::GetIntent(q)) {
        query_reply::Outcome::Intent(view) => view.intent,
        _ => None,
    }
}

pub(crate) fn events(replica: &Replica, intent_id: &Bytes) -> Vec<Event> {
    let q = ListEvents {
        intent_id: intent_id.clone(),
        ..ListEvents::default()
    };
    match replica.ask(query::Body::ListEvents(q)) {
        query_reply::Outcome::Events(page) => page.events,
        other => panic!("no events: {other:?}"),
    }
}

fn mailbox(replica: &Replica, agent: &AgentRef) -> Vec<(u64, Intent)> {
    let q = ListMailbox {
        agent: Some(agent.clone()),
        ..ListMailbox::default()
    };
    match replica.ask(query::Body::ListMailbox(q)) {
        query_reply::Outcome::Mailbox(page) => {
            let items = page.items.into_iter();
            items.map(|i| (i.cursor, i.intent.unwrap())).collect()
        }
        other => panic!("no mailbox: {other:?}"),
    }
}

/// Sequence numbers without gaps, at most one terminal event, and it is the last. Returns it.
fn check_events(replica: &Replica, intent: &Intent) -> Option<Event> {
    let events = events(replica, &intent.intent_id);
    let seqs: Vec<u32> = events.iter().map(|e| e.seq).collect();
    assert_eq!(
        seqs,
        (1..=intent.last_seq).collect::<Vec<_>>(),
        "events without gaps"
    );
    let last = events.last().unwrap();
    assert_eq!(
        last.status(),
        intent.status(),
        "the header follows the last event"
    );
    assert_eq!(last.waiting_reason(), intent.waiting_reason());
    for event in &events {
        assert_eq!(
            event.status() == Status::Waiting,
            event.waiting_reason() as i32 != 0,
            "a waiting reason exactly while waiting"
        );
    }
    let terminal = events.iter().filter(|e| e.status().is_terminal()).count();
    assert_eq!(terminal, usize::from(intent.status().is_terminal()));
    intent.status().is_terminal().then(|| last.clone())
}

/// Applies a log again to empty replicas; at entry `restore_at` every replica is rebuilt from its rows.
pub(crate) fn replay(log: &[Logged], restore_at: usize) -> Vec<Replica> {
    let mut groups: Vec<_> = (0..=SHARD_GROUPS)
        .map(|g| Replica::new(g, SHARD_GROUPS))
        .collect();
    for (at, entry) in log.iter().enumerate() {
        if at == restore_at {
            for replica in &mut groups {
                let rows = replica.tables.rows();
                replica.tables = rows
                    .map(|(k, v)| (k.to_vec(), v.clone()))
                    .collect::<MemoryTables>();
            }
        }
        let replica = &mut groups[entry.group];
        assert_eq!(
            replica.apply(&entry.batch),
            entry.applied,
            "same entry, same outcome"
        );
    }
    groups
}

/// Whether a batch holds only commands that are recognised by their id.
pub(crate) fn is_repeatable(batch: &Batch) -> bool {
    batch.commands.iter().all(|c| {
        !c.command_id.is_empty()
            && !matches!(
                c.body,
                None | Some(
                    Body::Pulse(_)
                        | Body::FailAttempt(_)
                        | Body::Redeliver(_)
                        | Body::Deliver(_)
                        | Body::Acknowledge(_)
                )
            )
    })
}

// ---- drawing commands ------------------------------------------------------------------------------------

impl World {
    fn command(&self, kind: u8, draw: &mut Draw) -> (usize, Body) {
        let shard = 1 + draw.below(u64::from(SHARD_GROUPS)) as usize;
        match kind % 24 {
            0..=3 => {
                let submit = self.submit(draw);
                (self.home(&submit.intent_id, draw), Body::Submit(submit))
            }
            4 | 5 => self.start_scenario(draw),
            6 => self.resolve(draw),
            7..=9 => self.resume(draw),
            10 => self.update_controls(draw),
            11 => self.update_policy(draw),
            12 | 13 => self.fail_attempt(draw),
            14 => self.redeliver(draw),
            15 | 16 => (shard, Body::Pulse(Pulse {})),
            17 => self.reserve(draw, shard),
            18..=21 => self.message(draw, shard),
            22 => self.acknowledge(draw, shard),
            _ => self.meta(draw),
        }
    }

    fn home(&self, intent_id: &[u8], draw: &mut Draw) -> usize {
        match IntentId::from_slice(intent_id) {
            Some(id) if !draw.one_in(30) => Route::Slot(id.slot()).group(self.groups[0].ctx.map).0 as usize,
            _ => draw.below(u64::from(SHARD_GROUPS) + 1) as usize,
        }
    }

    fn any_id(&self, draw: &mut Draw) -> Bytes {
        if draw.one_in(12) {
            return Bytes::from_static(b"garbage");
        }
        let ids: Vec<_> = self.ids.iter().copied().collect();
        let open: Vec<_> = ids
            .iter()
            .copied()
            .filter(|i| !self.ended.contains_key(i))
            .collect();
        let from = if draw.one_in(4) { ids } else { open };
        draw.pick(&from).map_or_else(Bytes::new, IntentId::to_bytes)
    }

    fn any_agent(draw: &mut Draw) -> AgentRef {
        match draw.below(12) {
            0 => agent(AGENT_CORE),
            _ => agent(draw.pick(&AGENTS).unwrap()),
        }
    }

    fn any_actor(draw: &mut Draw) -> Option<Actor> {
        let name = draw.pick(&AGENTS).unwrap();
        let mut caller = match draw.below(8) {
            0 => return None,
            1 => actor(KeyKind::Operator, "root"),
            2 | 3 => actor(KeyKind::Agent, name),
            4 => actor(KeyKind::Unspecified, name),
            _ => actor(KeyKind::Workspace, "sender"),
        };
        if draw.one_in(9) {
            caller.workspace_id = "w2".into();
        }
        if draw.one_in(3) {
            caller.acting_for = Some(Self::any_agent(draw));
        }
        Some(caller)
    }

    fn any_claim(draw: &mut Draw) -> Option<IdempotencyClaim> {
        draw.one_in(3).then(|| IdempotencyClaim {
            key_hash: Bytes::copy_from_slice(&[draw.below(6) as u8; 8]),
            request_hash: Bytes::copy_from_slice(&[draw.below(2) as u8]),
        })
    }

    fn submit(&self, draw: &mut Draw) -> SubmitIntent {
        let to = Self::any_agent(draw);
        let id = IntentId::new(self.now_ms, slot_of(&to), draw.below(500));
        SubmitIntent {
            actor: Self::any_actor(draw),
            intent_id: if draw.one_in(30) {
                self.any_id(draw)
            } else {
                id.to_bytes()
            },
            intent_type: "order.pay.v1".into(),
            to_agent: (!draw.one_in(40)).then_some(to),
            reply_to: draw.one_in(3).then(|| Self::any_agent(draw)),
            payload: draw.one_in(2).then(|| json("{\"amount\":1}")),
            deadline_at_ms: match draw.below(4) {
                0 => self.now_ms + draw.below(60_000),
                1 => 1,
                _ => 0,
            },
            max_delivery_attempts: draw.below(4) as u32,
            idempotency: Self::any_claim(draw),
            reserved_at_ms: if draw.one_in(10) { self.now_ms / 2 } else { 0 },
            ..SubmitIntent::default()
        }
    }

    fn start_scenario(&self, draw: &mut Draw) -> (usize, Body) {
        let count = 1 + draw.below(4) as u32;
        let link = |draw: &mut Draw| match draw.below(8) {
            0 => draw.below(u64::from(count) + 2) as u32,
            1..=4 => 0,
            _ => draw.below(u64::from(count)) as u32 + 1,
        };
        let steps = (0..count)
            .map(|n| CompiledStep {
                step_id: format!("step{n}"),
                agent: Some(Self::any_agent(draw)),
                step_deadline_seconds: draw.below(3) as u32 * 20,
                max_retries: draw.below(3) as u32,
                retry_delay_seconds: draw.below(40) as u32,
                on_success: if draw.one_in(3) {
                    link(draw)
                } else {
                    (n + 2) % (count + 1)
                },
                on_failure: link(draw),
                internal_noop: draw.one_in(4),
                input: Bytes::from_static(b"{\"k\":1}"),
                ..CompiledStep::default()
            })
            .collect();
        let parent = self.submit(draw);
        let command = StartScenario {
            scenario: Some(CompiledScenario {
                scenario_id: "s.v1".into(),
                compile_id: "c".into(),
                steps,
                entry: draw.below(u64::from(count) + 1) as u32 % count,
            }),
            parent: Some(parent.clone()),
        };
        (self.home(&parent.intent_id, draw), Body::StartScenario(command))
    }

    fn resolve(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = ResolveIntent {
            actor: Self::any_actor(draw),
            status: draw.below(12) as i32,
            result: Some(json("{\"done\":true}")),
            idempotency: Self::any_claim(draw),
            reason: "because".into(),
            error: None,
            intent_id: intent_id.clone(),
        };
        (self.home(&intent_id, draw), Body::Resolve(command))
    }

    fn resume(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = ResumeIntent {
            actor: Self::any_actor(draw),
            kind: match draw.below(6) {
                0 => resume_intent::Kind::Control.into(),
                1 => resume_intent::Kind::ControlOrResult.into(),
                2 => draw.below(5) as i32,
                _ => resume_intent::Kind::Result.into(),
            },
            result: Some(json("{\"ok\":1}")),
            fail: draw.one_in(3),
            approve: !draw.one_in(4),
            next_handler: draw.one_in(2).then(|| Self::any_agent(draw)),
            expected_policy_generation: draw.one_in(4).then(|| draw.below(2)),
            idempotency: Self::any_claim(draw),
            intent_id: intent_id.clone(),
            ..ResumeIntent::default()
        };
        (self.home(&intent_id, draw), Body::Resume(command))
    }

    fn members(draw: &mut Draw) -> Vec<Member> {
        (0..draw.below(3))
            .map(|_| Member {
                key: match draw.pick(&AGENTS) {
                    Some(name) if draw.one_in(2) => format!("delegate:{}", agent(name).address),
                    _ => "ttl_seconds".into(),
                },
                value: Bytes::from_static(b"{\"allow\":[\"resume\",\"resolve\"]}"),
            })
            .collect()
    }

    fn update_controls(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = UpdateControls {
            actor: Self::any_actor(draw),
            patch: Self::members(draw),
            idempotency: Self::any_claim(draw),
            intent_id: intent_id.clone(),
            ..UpdateControls::default()
        };
        (self.home(&intent_id, draw), Body::Controls(command))
    }

    fn update_policy(&self, draw: &mut Draw) -> (usize, Body) {
        let intent_id = self.any_id(draw);
        let command = UpdatePolicy {
            actor: Self::any_actor(draw),
            grants: Self::members(draw),
            envelope: Self::members(draw),
            expected_policy_generation: draw.one_in(3).then(|| draw.below(2)),
            intent_id: intent_id.clone(),
            ..UpdatePolicy::default()
        };
        (self.home(&intent_id, draw), Body::Policy(command))
    }

    /// An intent with its cursor, or a wrong one.
    fn attempt(&self, draw: &mut Draw) -> (usize, Bytes, u64) {
        let intent_id = self.any_id(draw);
        let group = self.home(&intent_id, draw);
        let cursor = IntentId::from_slice(&intent_id)
            .and_then(|id| header(&self.groups[group], id))
            .map_or(0, |intent| intent.mailbox_cursor);
        (group, intent_id, if draw.one_in(6) { cursor / 2 } else { cursor })
    }

    fn fail_attempt(&self, draw: &mut Draw) -> (usize, Body) {
        let (group, intent_id, cursor) = self.attempt(draw);
        (group, Body::FailAttempt(FailAttempt { intent_id, cursor }))
    }

    fn redeliver(&self, draw: &mut Draw) -> (usize, Body) {
        let (group, intent_id, cursor) = self.attempt(draw);
        (group, Body::Redeliver(RedeliverIntent { intent_id, cursor }))
    }

    fn reserve(&self, draw: &mut Draw, shard: usize) -> (usize, Body) {
        let claim = Self::any_claim(draw);
        if draw.one_in(2) {
            let command = ReserveIdempotency {
                claim,
                intent_id: IntentId::new(self.now_ms, slot_of(&agent("w0")), draw.next()).to_bytes(),
            };
            return (shard, Body::Reserve(command));
        }
        let kept = self.log.last().and_then(|l| l.applied.replies.first().cloned());
        let command = FinishIdempotency {
            key_hash: claim.unwrap_or_default().key_hash,
            reply: draw.one_in(2).then_some(kept).flatten(),
        };
        (shard, Body::Finish(command))
    }

    fn message(&self, draw: &mut Draw, shard: usize) -> (usize, Body) {
        let waiting = self.waiting();
        let (target, message) = match draw.pick(&waiting) {
            Some((_, target, message)) if !draw.one_in(10) => (target, message),
            _ => {
                let garbage = OutboxMessage {
                    source_group: 1,
                    target_group: shard as u32,
                    seq: draw.below(3) + 1_000_000,
                    body: draw.one_in(2).then(|| {
                        outbox_message::Body::StartStep(baton_protocol::proto::internal::StartStep::default())
                    }),
                };
                (shard, garbage)
            }
        };
        (
            target,
            Body::Deliver(DeliverMessage {
                message: Some(message),
            }),
        )
    }

    fn acknowledge(&self, draw: &mut Draw, shard: usize) -> (usize, Body) {
        // Only what has arrived is ever acknowledged.
        let arrived = self.log.iter().rev().find_map(|entry| {
            entry
                .batch
                .commands
                .iter()
                .zip(&entry.applied.replies)
                .find_map(|(c, r)| {
                    let Some(Body::Deliver(deliver)) = &c.body else {
                        return None;
                    };
                    let message = deliver.message.as_ref()?;
                    matches!(
                        r,
                        Reply {
                            outcome: Some(reply::Outcome::Done(_)),
                            ..
                        }
                    )
                    .then_some((message.source_group, message.target_group, message.seq))
                })
        });
        match arrived {
            Some((source, target_group, seq)) if !draw.one_in(5) => (
                source as usize,
                Body::Acknowledge(AcknowledgeOutbox { target_group, seq }),
            ),
            _ => (shard, Body::Acknowledge(AcknowledgeOutbox::default())),
        }
    }

    fn meta(&self, draw: &mut Draw) -> (usize, Body) {
        let account_id = format!("sa{}", draw.below(3));
        let body = match draw.below(8) {
            0 => Body::Bootstrap(bootstrap()),
            1 | 2 => Body::CreateServiceAccount(CreateServiceAccount {
                actor: Self::any_actor(draw),
                service_account: Some(account(&account_id, draw.pick(&AGENTS).unwrap())),
                get_or_create: draw.one_in(2),
                idempotency: Self::any_claim(draw),
            }),
            3 => Body::UpdateServiceAccount(UpdateServiceAccount {
                actor: Self::any_actor(draw),
                service_account_id: account_id,
                display_name: Some("name".into()),
                status: draw.below(5) as i32,
                ..UpdateServiceAccount::default()
            }),
            4 | 5 => Body::CreateApiKey(CreateApiKey {
                actor: Self::any_actor(draw),
                key: Some(ApiKey {
                    key_id: format!("k{}", draw.below(3)),
                    token_sha256: Bytes::copy_from_slice(&[draw.below(5) as u8; 32]),
                    kind: draw.below(5) as i32,
                    service_account_id: account_id,
                    ..ApiKey::default()
                }),
            }),
            6 => Body::RevokeApiKey(RevokeApiKey {
                actor: Self::any_actor(draw),
                service_account_id: account_id,
                key_id: format!("k{}", draw.below(3)),
            }),
            _ => Body::SetFeatureLevel(SetFeatureLevel {
                level: draw.below(4) as u32,
            }),
        };
        (if draw.one_in(10) { 1 } else { 0 }, body)
    }
}

pub(crate) fn account(id: &str, name: &str) -> ServiceAccount {
    ServiceAccount {
        service_account_id: id.into(),
        org_id: "o1".into(),
        workspace_id: "w1".into(),
        name: name.into(),
        address: agent(name).address,
        ..ServiceAccount::default()
    }
}

pub(crate) fn bootstrap() -> BootstrapCluster {
    BootstrapCluster {
        cluster: Some(ClusterRecord {
            cluster_id: Bytes::from_static(b"cluster"),
            shard_groups: SHARD_GROUPS,
            ..ClusterRecord::default()
        }),
        organization: Some(Organization {
            org_id: "o1".into(),
            slug: "acme".into(),
            ..Organization::default()
        }),
        workspace: Some(Workspace {
            workspace_id: "w1".into(),
            org_id: "o1".into(),
            slug: "prod".into(),
            ..Workspace::default()
        }),
        operator_account: Some(account("root", "root")),
        operator_key: Some(ApiKey {
            key_id: "k".into(),
            token_sha256: Bytes::from_static(&[9; 32]),
            kind: KeyKind::Operator.into(),
            service_account_id: "root".into(),
            org_id: "o1".into(),
            workspace_id: "w1".into(),
            ..ApiKey::default()
        }),
        ..BootstrapCluster::default()
    }
}

/// All rows, for comparisons.
pub(crate) fn rows(replica: &Replica) -> Vec<(Vec<u8>, Bytes)> {
    let rows = replica.tables.rows();
    rows.map(|(k, v)| (k.to_vec(), v.clone())).collect()
}

/// Whether nothing was left behind by a table of a finished run.
pub(crate) fn is_empty(replica: &Replica, from: &[u8], to: &[u8]) -> bool {
    let mut empty = true;
    let scanned = replica.tables.scan(from, to, &mut |_, _| {
        empty = false;
        std::ops::ControlFlow::Break(())
    });
    scanned.unwrap();
    empty
}

impl World {
    /// Lets time pass.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Cancels every open intent as the system.
    pub(crate) fn cancel_open(&mut self) {
        let open: Vec<_> = self
            .ids
            .iter()
            .copied()
            .filter(|id| !self.ended.contains_key(id))
            .collect();
        for id in open {
            let group = Route::Slot(id.slot()).group(self.groups[0].ctx.map).0 as usize;
            let cancel = ResolveIntent {
                intent_id: id.to_bytes(),
                status: Status::Canceled.into(),
                ..ResolveIntent::default()
            };
            self.apply(group, vec![bare(Body::Resolve(cancel))]);
        }
    }
}
