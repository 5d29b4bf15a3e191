//! A small cluster of replicas in memory, driven by drawn operations, with the rules that must hold after each.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail the test; they look for one outcome and treat every other alike"
)]

mod audit;
mod draw;
mod draw_meta;
mod draw_people;
mod draw_pushes;
mod draw_scenarios;
mod kinds;
mod reads;

use baton_protocol::address::{AGENT_CORE, slot_of};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, ApiKey, Batch, BootstrapCluster, ClusterRecord, Command, DeliverMessage, Event,
    Intent, KeyKind, Organization, OutboxMessage, ResolveIntent, ServiceAccount, Status, WaitingReason,
    Workspace,
};
use baton_protocol::{GroupId, IntentId, Route, limits};
use baton_state_machine::testing::{Replica, agent, refusal};
use baton_state_machine::{Applied, Effect, MemoryTables, Tables, log_time_ms, outbox_head};
use bytes::Bytes;
use draw::Draw;
use kinds::deliverable;
pub(crate) use kinds::is_repeatable;
pub(crate) use reads::{events, header};
use reads::{listed_tasks, mailbox};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const SHARD_GROUPS: u32 = 2;
/// No workspace may keep ended intents for less.
const RETENTION_MS_MIN: u64 = limits::IDEMPOTENCY_RETENTION_MS + limits::TERMINAL_RETENTION_MARGIN_MS;
const AGENTS: [&str; 5] = ["w0", "w1", "w2", "w3", "w4"];

/// A group before its first entry.
fn empty(group: u32) -> Replica {
    let mut replica = Replica::new(group, SHARD_GROUPS);
    // Short enough that audit events go while a world is driven.
    replica.ctx.settings.audit_retention_ms = 100 * 3_600_000;
    replica
}

/// One drawn operation: what to do, and a number from which all its details follow.
pub(crate) type Op = (u8, u64);

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
        let groups: Vec<_> = (0..=SHARD_GROUPS).map(empty).collect();
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
        self.groups.iter().for_each(audit::check);
    }

    /// A refused command leaves nothing behind, unless its caller had no right to it: then one audit event. Tried on a copy, at a time when nothing else is due for removal.
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
        if let Some(code) = refusal(&applied.replies[0]) {
            assert!(applied.events.is_empty());
            if code.http() == 403 {
                let unaudited = |rows| audit::without(rows, &before);
                assert_eq!(
                    unaudited(rows(&probe)),
                    unaudited(before.clone()),
                    "{body:?} was denied"
                );
                let hint = |effect: &Effect| matches!(effect, Effect::Timer { .. });
                assert!(applied.effects.iter().all(hint));
            } else {
                assert_eq!(rows(&probe), before, "{body:?} was refused");
                assert!(applied.effects.is_empty());
            }
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
            origin: if draw.one_in(30) { 0 } else { 1 + draw.below(3) },
            sequence: self.commands,
            // Repeats of the last few entries must find their answers.
            settled_below: self.commands.saturating_sub(400),
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
        // Rows of intents: tag, slot, id.
        let intents = replica.tables.rows().filter(|(key, _)| key[0] == 0x10);
        self.ids
            .extend(intents.filter_map(|(key, _)| IntentId::from_slice(&key[3..])));
        self.note(&applied);
        self.log.push(Logged {
            group,
            batch,
            applied,
        });
        self.check(group);
    }

    fn note(&mut self, applied: &Applied) {
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

    /// Intents with an open human task, of every group.
    fn open_gates(&self) -> Vec<IntentId> {
        let asks = |id: &IntentId| {
            let open = |replica| header(replica, *id).is_some_and(|intent| intent.gate_open);
            self.groups[1..].iter().any(open)
        };
        self.ids.iter().copied().filter(asks).collect()
    }

    /// The rules that hold for a group after every entry.
    fn check(&mut self, group: usize) {
        let replica = &self.groups[group];
        assert_eq!(
            replica.hash(),
            replica.hash_from_scratch(),
            "incremental state hash"
        );
        let (mut open, mut asking) = (BTreeSet::new(), BTreeSet::new());
        for id in &self.ids {
            if Route::Slot(id.slot()).group(replica.ctx.map) != GroupId(group as u32) {
                continue;
            }
            let Some(intent) = header(replica, *id) else {
                let ended = self
                    .ended
                    .get(id)
                    .expect("only intents that ended may be removed");
                let kept_ms = log_time_ms(&replica.tables).unwrap() - ended.at_ms;
                assert!(kept_ms >= RETENTION_MS_MIN, "removed after {kept_ms} ms");
                continue;
            };
            if intent.gate_open {
                assert_eq!(intent.waiting_reason(), WaitingReason::Human);
                asking.insert(*id);
            }
            if let Some(retries) = intent.limits.and_then(|limits| limits.max_retry_count) {
                assert_eq!(intent.max_delivery_attempts, retries + 1);
            }
            if let Some(deadline_ms) = intent.limits.and_then(|l| l.deadline_ms(intent.created_at_ms)) {
                assert_eq!(
                    intent.deadline_at_ms, deadline_ms,
                    "the envelope's end is the deadline"
                );
            }
            let ending = check_events(replica, &intent);
            match (&ending, self.ended.get(id)) {
                (Some(now), Some(before)) => assert_eq!(now, before, "a terminal event never changes"),
                (None, Some(_)) => panic!("a terminal intent came back to life"),
                (Some(_) | None, None) => {}
            }
            if let Some(event) = ending {
                self.ended.insert(*id, event);
                assert_eq!(intent.mailbox_cursor, 0);
                assert!(!intent.gate_open, "the end closes the task");
                assert!(
                    intent.push.is_none_or(|p| p.waiting_cursor == 0),
                    "nothing waits at the end"
                );
            } else if deliverable(&intent) && is_near(replica, &intent) {
                let holder = intent.holder().unwrap();
                open.insert((holder.key.clone(), intent.mailbox_cursor, *id));
            }
        }
        let mut delivered = BTreeSet::new();
        for name in AGENTS.iter().chain(&[AGENT_CORE]) {
            for (cursor, intent) in mailbox(replica, &agent(name)) {
                let id = IntentId::from_slice(&intent.intent_id).unwrap();
                assert_eq!(intent.mailbox_cursor, cursor);
                if intent.reference {
                    continue;
                }
                delivered.insert((agent(name).key, cursor, id));
            }
        }
        assert_eq!(
            listed_tasks(replica),
            asking,
            "the list of tasks holds exactly the intents that ask"
        );
        assert_eq!(
            delivered, open,
            "mailboxes hold exactly the open deliverable intents"
        );
    }
}

/// Whether the holder of an intent is in the group of this replica. Nobody has transferred a parent.
fn is_near(replica: &Replica, intent: &Intent) -> bool {
    let slot = slot_of(intent.holder().unwrap());
    intent.handler_generation == 0 || replica.ctx.map.group_of(slot) == replica.ctx.group
}

pub(crate) fn bare(body: Body) -> Command {
    Command {
        body: Some(body),
        ..Command::default()
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
    let mut groups: Vec<_> = (0..=SHARD_GROUPS).map(empty).collect();
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
