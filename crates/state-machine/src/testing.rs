//! For tests here and in other crates: a replica in memory, builders, and the suite every [`Tables`]
//! implementation must pass.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "test helpers look for one outcome and treat every other alike"
)]

use crate::apply::{Applied, ApplyContext, Settings, apply};
use crate::memory::MemoryTables;
use crate::query::{outbox_head, query};
use crate::tables::{Change, Changes, Level, STATE_HASH_KEY, Tables, prefix_end, row_hash, state_hash};
use crate::write_batch::WriteBatch;
use baton_protocol::address::{AGENT_CORE, canonical, slot_of};
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, Actor, AgentRef, Batch, Command, DeliverMessage, Delivery, Event, GetDelivery,
    GetIntent, HumanTask, Intent, IntentView, KeyKind, ListEvents, Payload, PushReport, Query, QueryReply,
    Rejection, Reply, SubmitIntent, Transitioned, command, query as ask, query_reply, reply,
};
use baton_protocol::{DeliveryId, ErrorCode, GroupId, GroupMap, IntentId, Slot};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Where the clock of a new [`Replica`] stands.
pub const START_MS: u64 = 1_800_000_000_000;

/// One group's state machine over memory, driven command by command.
#[derive(Debug, Clone)]
pub struct Replica {
    pub tables: MemoryTables,
    pub ctx: ApplyContext,
    pub now_ms: u64,
    /// What the last entry did.
    pub last: Applied,
}

impl Replica {
    /// An empty group of a cluster with `shard_groups` groups.
    ///
    /// # Panics
    /// When `shard_groups` is out of range.
    #[must_use]
    pub fn new(group: u32, shard_groups: u32) -> Self {
        Self {
            tables: MemoryTables::default(),
            ctx: ApplyContext {
                group: GroupId(group),
                map: GroupMap::new(shard_groups).expect("shard_groups is in range"),
                log_index: 1,
                term: 1,
                settings: Settings::default(),
            },
            now_ms: START_MS,
            last: Applied::default(),
        }
    }

    /// Applies one entry and makes it visible.
    ///
    /// # Panics
    /// When tables fail, which memory never does.
    pub fn apply(&mut self, entry: &Batch) -> Applied {
        let (applied, changes) = {
            let mut batch = WriteBatch::new(&self.tables);
            let applied = apply(&mut batch, entry.clone(), &self.ctx).expect("apply is total");
            (applied, batch.finish().expect("memory does not fail"))
        };
        self.tables.commit(changes);
        self.ctx.log_index += 1;
        self.last = applied.clone();
        applied
    }

    /// Applies one command that is not deduplicated, at the replica's time.
    pub fn run(&mut self, body: command::Body) -> Reply {
        let entry = Batch {
            log_time_ms: self.now_ms,
            commands: vec![Command {
                body: Some(body),
                ..Command::default()
            }],
        };
        self.apply(&entry).replies.pop().unwrap_or_default()
    }

    /// Asks as the system itself.
    ///
    /// # Panics
    /// When tables fail or the reply is empty.
    #[must_use]
    pub fn ask(&self, body: ask::Body) -> query_reply::Outcome {
        self.ask_as(None, body)
    }

    /// Asks as `actor`.
    ///
    /// # Panics
    /// When tables fail or the reply is empty.
    #[must_use]
    pub fn ask_as(&self, actor: Option<Actor>, body: ask::Body) -> query_reply::Outcome {
        let asked = Query {
            actor,
            body: Some(body),
        };
        let reply: QueryReply = query(&self.tables, &asked).expect("memory does not fail");
        reply.outcome.expect("every query is answered")
    }

    /// An intent with payload, terminal event and scenario, as the system sees it.
    #[must_use]
    pub fn view(&self, id: IntentId) -> Option<IntentView> {
        let q = GetIntent {
            intent_id: id.to_bytes(),
            with_payload: true,
        };
        match self.ask(ask::Body::GetIntent(q)) {
            query_reply::Outcome::Intent(view) => Some(view),
            _ => None,
        }
    }

    /// The header of an intent.
    #[must_use]
    pub fn intent(&self, id: IntentId) -> Option<Intent> {
        self.view(id)?.intent
    }

    /// All events of an intent; none when it does not exist.
    #[must_use]
    pub fn events(&self, id: IntentId) -> Vec<Event> {
        let q = ListEvents {
            intent_id: id.to_bytes(),
            ..ListEvents::default()
        };
        match self.ask(ask::Body::ListEvents(q)) {
            query_reply::Outcome::Events(page) => page.events,
            _ => Vec::new(),
        }
    }

    /// A delivery by push, as the system sees it.
    #[must_use]
    pub fn delivery(&self, id: IntentId, agent_name: &str, replay: u32) -> Option<Delivery> {
        let id = DeliveryId::new(id, &agent(agent_name).key).replayed(replay);
        let q = GetDelivery {
            delivery: Some(id.to_key()),
        };
        match self.ask(ask::Body::GetDelivery(q)) {
            query_reply::Outcome::Delivery(view) => view.delivery,
            _ => None,
        }
    }

    /// The incremental state hash.
    ///
    /// # Panics
    /// When the hash row is malformed.
    #[must_use]
    pub fn hash(&self) -> u64 {
        state_hash(&self.tables).expect("memory does not fail")
    }

    /// The state hash computed from all rows.
    #[must_use]
    pub fn hash_from_scratch(&self) -> u64 {
        self.tables
            .rows()
            .filter(|(key, _)| *key != STATE_HASH_KEY)
            .fold(0, |sum, (key, value)| sum.wrapping_add(row_hash(key, value)))
    }
}

/// Carries messages between the groups of a cluster (`groups[n]` is group n) until none is waiting.
///
/// # Panics
/// When a message is refused or messages never end.
pub fn settle(groups: &mut [Replica]) {
    for _ in 0..1_000 {
        let mut waiting = Vec::new();
        for replica in groups.iter() {
            for (_, messages) in outbox_head(&replica.tables, usize::MAX).expect("memory does not fail") {
                waiting.extend(messages);
            }
        }
        if waiting.is_empty() {
            return;
        }
        for message in waiting {
            let (source, target) = (message.source_group as usize, message.target_group);
            let acknowledge = AcknowledgeOutbox {
                target_group: target,
                seq: message.seq,
            };
            let deliver = DeliverMessage {
                message: Some(message),
            };
            let reply = groups[target as usize].run(command::Body::Deliver(deliver));
            assert_eq!(refusal(&reply), None, "message refused");
            groups[source].run(command::Body::Acknowledge(acknowledge));
        }
    }
    panic!("messages never end");
}

/// The code of a refusal; `None` for any other reply.
#[must_use]
pub fn refusal(reply: &Reply) -> Option<ErrorCode> {
    let Some(reply::Outcome::Rejected(Rejection { code, .. })) = &reply.outcome else {
        return None;
    };
    Some(ErrorCode::from_number(*code))
}

/// The answer of resolve, resume, controls or policy; `None` for any other reply.
#[must_use]
pub fn transition(reply: Reply) -> Option<Transitioned> {
    match reply.outcome {
        Some(reply::Outcome::Transitioned(transitioned)) => Some(transitioned),
        _ => None,
    }
}

/// An agent of organization `acme`, workspace `prod` (`w1`).
#[must_use]
pub fn agent(name: &str) -> AgentRef {
    let address = canonical("acme", "prod", name);
    AgentRef {
        key: address.clone(),
        address,
        workspace_id: "w1".into(),
        org_id: "o1".into(),
    }
}

/// A caller of workspace `w1` with the address of agent `name`.
#[must_use]
pub fn actor(kind: KeyKind, name: &str) -> Actor {
    Actor {
        kind: kind.into(),
        org_id: "o1".into(),
        workspace_id: "w1".into(),
        address: agent(name).address,
        ..Actor::default()
    }
}

/// What a push to agent `name` came to.
#[must_use]
pub fn pushed(name: &str, status: u32, delay_ms: u64) -> PushReport {
    PushReport {
        agent: Some(agent(name)),
        service_account_id: format!("sa_{name}"),
        url: format!("https://{name}.example.com/"),
        status,
        error: String::new(),
        delay_ms,
    }
}

/// A JSON payload.
#[must_use]
pub fn json(text: &str) -> Payload {
    Payload {
        data: Bytes::copy_from_slice(text.as_bytes()),
        content_type: String::new(),
    }
}

/// The `n`th intent id for an agent.
#[must_use]
pub fn intent_id(to: &AgentRef, n: u64) -> IntentId {
    IntentId::new(START_MS, slot_of(to), n)
}

/// A submit by the workspace key of agent `sender` to agent `name`.
#[must_use]
pub fn submit(name: &str, n: u64) -> SubmitIntent {
    let to = agent(name);
    SubmitIntent {
        actor: Some(actor(KeyKind::Workspace, "sender")),
        intent_id: intent_id(&to, n).to_bytes(),
        intent_type: "order.pay.v1".into(),
        correlation_id: "c-1".into(),
        payload: Some(json("{\"amount\":1}")),
        to_agent: Some(to),
        ..SubmitIntent::default()
    }
}

/// The `n`th submit to the internal runtime, by the same key, that asks a person.
#[must_use]
pub fn ask(task: HumanTask, n: u64) -> SubmitIntent {
    SubmitIntent {
        intent_id: intent_id_in(7, n).to_bytes(),
        to_agent: Some(agent(AGENT_CORE)),
        human_task: Some(task),
        ..submit("sender", n)
    }
}

/// An id in a slot of one's choice, for scenario parents and the internal runtime.
#[must_use]
pub fn intent_id_in(slot: u16, n: u64) -> IntentId {
    IntentId::new(START_MS, Slot::from_bits(slot), n)
}

/// A store under test: tables that can be written.
pub trait Store {
    /// Runs `read` on a consistent view.
    fn read(&self, read: &mut dyn FnMut(&dyn Tables));
    /// Makes changes visible, all at once.
    fn commit(&mut self, changes: Changes);
}

impl Store for MemoryTables {
    fn read(&self, read: &mut dyn FnMut(&dyn Tables)) {
        read(self);
    }

    fn commit(&mut self, changes: Changes) {
        Self::commit(self, changes);
    }
}

/// Runs the suite: whatever `make` returns must be empty and behave like [`MemoryTables`].
///
/// # Panics
/// When it does not.
pub fn tables_suite<S: Store>(make: impl Fn() -> S) {
    reads_what_was_committed(make());
    scans_in_key_order_within_bounds(make());
    agrees_with_memory(make());
    applies_like_memory(make());
}

type Rows = Vec<(Vec<u8>, Bytes)>;

fn get(store: &impl Store, key: &[u8]) -> Option<Bytes> {
    let mut value = None;
    store.read(&mut |tables| value = tables.get(key).expect("get works"));
    value
}

fn scan(store: &impl Store, from: &[u8], to: &[u8], limit: usize) -> Rows {
    let mut rows = Rows::new();
    store.read(&mut |tables| {
        let visited = tables.scan(from, to, &mut |key, value| {
            rows.push((key.to_vec(), value.clone()));
            if rows.len() >= limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        visited.expect("scan works");
    });
    rows
}

/// As [`WriteBatch::finish`] would give them.
fn changes(store: &impl Store, list: &[(&[u8], Option<&[u8]>)]) -> Changes {
    let change = |(key, value): &(&[u8], Option<&[u8]>)| {
        let change = Change {
            value: value.map(Bytes::copy_from_slice),
            existed: get(store, key).is_some(),
        };
        (key.to_vec(), change)
    };
    list.iter().map(change).collect()
}

fn reads_what_was_committed(mut store: impl Store) {
    assert_eq!(get(&store, b"k"), None);
    store.commit(changes(&store, &[(b"k", Some(b"v")), (b"empty", Some(b""))]));
    assert_eq!(get(&store, b"k").as_deref(), Some(&b"v"[..]));
    assert_eq!(
        get(&store, b"empty").as_deref(),
        Some(&b""[..]),
        "an empty value is a row"
    );
    let large = vec![7_u8; 300_000];
    store.commit(changes(
        &store,
        &[
            (b"k", None),
            (b"missing", None),
            (b"large", Some(large.as_slice())),
        ],
    ));
    assert_eq!(get(&store, b"k"), None);
    assert_eq!(get(&store, b"large").as_deref(), Some(large.as_slice()));
    store.commit(changes(&store, &[(b"large", Some(b"small"))]));
    assert_eq!(get(&store, b"large").as_deref(), Some(&b"small"[..]));
}

fn scans_in_key_order_within_bounds(mut store: impl Store) {
    let keys: [&[u8]; 7] = [b"a", b"a\x00", b"a\x00\xff", b"a\xff", b"b", b"\xff", b"\xff\xff"];
    let rows: Vec<(&[u8], Option<&[u8]>)> = keys.iter().map(|k| (*k, Some(&b"v"[..]))).collect();
    store.commit(changes(&store, &rows));
    let found = |from: &[u8], to: &[u8], limit| {
        let rows = scan(&store, from, to, limit);
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(found(b"a", &prefix_end(b"a"), 99), keys[..4]);
    assert_eq!(
        found(b"a\x00", b"b", 99),
        keys[1..4],
        "from is included, to is not"
    );
    assert_eq!(found(b"a", b"b", 2), keys[..2], "break ends the scan");
    assert!(found(b"b", b"a", 99).is_empty(), "an inverted range is empty");
    assert!(found(b"b", b"b", 99).is_empty());
    assert_eq!(found(&[], &prefix_end(b"\xff"), 99), keys);
}

/// Small deterministic generator: the suite needs variety, not randomness.
fn draw(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn agrees_with_memory(mut store: impl Store) {
    let mut model = MemoryTables::default();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..60 {
        let mut round = Level::new();
        for _ in 0..draw(&mut state) % 40 {
            let key = vec![0x10 + (draw(&mut state) % 4) as u8, (draw(&mut state) % 16) as u8];
            let length = (draw(&mut state) % 6_000) as usize;
            let value = (!draw(&mut state).is_multiple_of(3)).then(|| Bytes::from(vec![key[1]; length]));
            let existed = get(&model, &key).is_some();
            round.insert(key, Change { value, existed });
        }
        model.commit(round.clone().into_iter().collect());
        store.commit(round.into_iter().collect());
        let from = [0x10 + (draw(&mut state) % 4) as u8];
        let limit = 1 + (draw(&mut state) % 20) as usize;
        let to = prefix_end(&from);
        assert_eq!(scan(&store, &from, &to, limit), scan(&model, &from, &to, limit));
    }
    assert_eq!(
        scan(&store, &[], &[0xff; 8], usize::MAX),
        scan(&model, &[], &[0xff; 8], usize::MAX)
    );
}

fn applies_like_memory(mut store: impl Store) {
    let mut replica = Replica::new(1, 1);
    for n in 0..20 {
        let entry = Batch {
            log_time_ms: START_MS + n,
            commands: vec![Command {
                origin: 1,
                sequence: n + 1,
                settled_below: n,
                expires_at_ms: 0,
                body: Some(command::Body::Submit(submit("worker", n / 2))),
            }],
        };
        let mut outcome = None;
        store.read(&mut |tables| {
            let mut batch = WriteBatch::new(tables);
            let applied = apply(&mut batch, entry.clone(), &replica.ctx).expect("apply is total");
            outcome = Some((applied, batch.finish().expect("finish works")));
        });
        let (applied, changes) = outcome.expect("the view was read");
        assert_eq!(replica.apply(&entry), applied);
        store.commit(changes);
        let mut hash = 0;
        store.read(&mut |tables| hash = state_hash(tables).expect("hash row"));
        assert_eq!(hash, replica.hash());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_tables_pass_the_suite() {
        tables_suite(MemoryTables::default);
    }
}
