//! A group on real tables and the real state machine, without a log, and the wires between it and a hub.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod hook;
pub(crate) mod push;
pub(crate) mod transfer;
pub(crate) mod work;

use async_trait::async_trait;
use baton_delivery::{
    AgentHub, AppliedFeed, DeliverySettings, Dispatcher, GroupService, LedGroup, Network, Notifier, Push,
};
use baton_protocol::proto::internal::{
    Actor, AgentRef, Batch, Command, Event, GetIntent, Intent, KeyKind, ListEvents, OutboxMessage, Payload,
    Query, QueryReply, Reply, ResolveIntent, Status, SubmitIntent, command, query, query_reply, reply,
};
use baton_protocol::{ErrorCode, GroupId, GroupMap, IntentId, Route, ServiceError, Slot};
use baton_state_machine::{Applied, ApplyContext, DeliveryRows, MemoryTables, Settings, WriteBatch};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const START_MS: u64 = 1_767_225_600_000;
pub(crate) const GROUP: GroupId = GroupId(1);

/// The replicated part: survives leaders.
pub(crate) struct Group {
    id: GroupId,
    pub(crate) map: GroupMap,
    /// What nobody hears of yet.
    muted: Mutex<Option<Vec<Arc<Applied>>>>,
    tables: Mutex<MemoryTables>,
    index: AtomicU64,
    start: Instant,
    announce: Mutex<broadcast::Sender<Arc<Applied>>>,
    bodies: Mutex<Vec<command::Body>>,
}

impl Group {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_feed(1024)
    }

    /// `feed` entries may be unread before a follower lags.
    pub(crate) fn with_feed(feed: usize) -> Arc<Self> {
        Self::one_of(GROUP, 1, feed)
    }

    /// One of several groups.
    pub(crate) fn one_of(id: GroupId, shard_groups: u32, feed: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            map: GroupMap::new(shard_groups).unwrap(),
            muted: Mutex::default(),
            tables: Mutex::default(),
            index: AtomicU64::new(0),
            start: Instant::now(),
            announce: Mutex::new(broadcast::channel(feed).0),
            bodies: Mutex::default(),
        })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        START_MS + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    pub(crate) fn commit(&self, body: command::Body) -> Reply {
        let index = self.index.fetch_add(1, Ordering::SeqCst) + 1;
        self.bodies.lock().unwrap().push(body.clone());
        let batch = Batch {
            log_time_ms: self.now_ms(),
            commands: vec![Command {
                origin: 1,
                sequence: index,
                settled_below: index,
                expires_at_ms: u64::MAX,
                body: Some(body),
            }],
        };
        let ctx = ApplyContext {
            group: self.id,
            map: self.map,
            log_index: index,
            term: 1,
            settings: Settings::default(),
        };
        let mut tables = self.tables.lock().unwrap();
        let mut changes = WriteBatch::new(&*tables);
        let applied = baton_state_machine::apply(&mut changes, batch, &ctx).unwrap();
        let changes = changes.finish().unwrap();
        tables.commit(changes);
        drop(tables);
        let reply = applied.replies[0].clone();
        let applied = Arc::new(applied);
        match &mut *self.muted.lock().unwrap() {
            Some(kept) => kept.push(applied),
            None => {
                let _ = self.announce.lock().unwrap().send(applied);
            }
        }
        reply
    }

    /// Whether the mailbox, or the intent, of this slot is here.
    pub(crate) fn owns(&self, slot: Slot) -> bool {
        self.map.group_of(slot) == self.id
    }

    pub(crate) fn query(&self, query: &Query) -> QueryReply {
        baton_state_machine::query(&*self.tables.lock().unwrap(), query).unwrap()
    }

    /// What was committed, in order.
    pub(crate) fn bodies(&self) -> Vec<command::Body> {
        self.bodies.lock().unwrap().clone()
    }

    /// Commands that this body's predicate matches.
    pub(crate) fn committed(&self, matches: impl Fn(&command::Body) -> bool) -> usize {
        self.bodies.lock().unwrap().iter().filter(|b| matches(b)).count()
    }

    pub(crate) fn submit(&self, agent: &AgentRef, number: u64) -> IntentId {
        self.submit_with(agent, number, |_| {})
    }

    pub(crate) fn submit_with(
        &self,
        agent: &AgentRef,
        number: u64,
        change: impl Fn(&mut SubmitIntent),
    ) -> IntentId {
        let id = IntentId::new(self.now_ms(), Slot::of_key(&agent.key), number);
        let mut submit = SubmitIntent {
            actor: Some(sender()),
            intent_id: id.to_bytes(),
            intent_type: "intent.test.v1".into(),
            to_agent: Some(agent.clone()),
            payload: Some(Payload {
                data: Bytes::from_static(b"{\"n\":1}"),
                content_type: String::new(),
            }),
            ..SubmitIntent::default()
        };
        change(&mut submit);
        let reply = self.commit(command::Body::Submit(submit));
        assert!(
            matches!(reply.outcome, Some(reply::Outcome::Submitted(_))),
            "{reply:?}"
        );
        id
    }

    pub(crate) fn complete(&self, id: IntentId) {
        let reply = self.commit(command::Body::Resolve(ResolveIntent {
            actor: Some(sender()),
            intent_id: id.to_bytes(),
            status: Status::Completed.into(),
            ..ResolveIntent::default()
        }));
        assert!(
            matches!(reply.outcome, Some(reply::Outcome::Transitioned(_))),
            "{reply:?}"
        );
    }

    pub(crate) fn intent(&self, id: IntentId) -> Intent {
        let get = GetIntent {
            intent_id: id.to_bytes(),
            with_payload: false,
        };
        let reply = self.query(&Query {
            actor: None,
            body: Some(query::Body::GetIntent(get)),
        });
        match reply.outcome {
            Some(query_reply::Outcome::Intent(view)) => view.intent.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn events(&self, id: IntentId) -> Vec<Event> {
        let list = ListEvents {
            intent_id: id.to_bytes(),
            since: 0,
            limit: 1000,
        };
        let reply = self.query(&Query {
            actor: None,
            body: Some(query::Body::ListEvents(list)),
        });
        match reply.outcome {
            Some(query_reply::Outcome::Events(page)) => page.events,
            other => panic!("{other:?}"),
        }
    }
}

/// One leadership of the group.
pub(crate) struct Leader {
    group: Arc<Group>,
    term: u64,
    leads: watch::Sender<bool>,
    refuse: AtomicBool,
}

impl Leader {
    /// From now on proposals fail as if there were no majority.
    pub(crate) fn refuse_proposals(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }
}

#[async_trait]
impl LedGroup for Leader {
    fn group_id(&self) -> GroupId {
        GROUP
    }

    fn term(&self) -> u64 {
        self.term
    }

    fn owns(&self, slot: Slot) -> bool {
        self.group.owns(slot)
    }

    fn is_leader(&self) -> bool {
        *self.leads.borrow()
    }

    async fn leadership_ended(&self) {
        let _ = self.leads.subscribe().wait_for(|leads| !leads).await;
    }

    fn query(&self, query: &Query) -> Result<QueryReply, ServiceError> {
        Ok(self.group.query(query))
    }

    async fn propose(&self, body: command::Body) -> Result<Reply, ServiceError> {
        if !self.is_leader() {
            return Err(ServiceError::new(ErrorCode::NotLeader, "not the leader"));
        }
        if self.refuse.load(Ordering::SeqCst) {
            return Err(ServiceError::new(ErrorCode::Unavailable, "no majority"));
        }
        tokio::task::yield_now().await;
        Ok(self.group.commit(body))
    }

    fn now_ms(&self) -> u64 {
        self.group.now_ms()
    }

    fn next_due_ms(&self) -> Result<Option<u64>, ServiceError> {
        Ok(baton_state_machine::next_due_ms(&*self.group.tables.lock().unwrap()).unwrap())
    }

    fn outbox_head(&self, limit: usize) -> Result<Vec<(GroupId, Vec<OutboxMessage>)>, ServiceError> {
        Ok(baton_state_machine::outbox_head(&*self.group.tables.lock().unwrap(), limit).unwrap())
    }

    fn open_deliveries(
        &self,
        agent: &AgentRef,
        since: u64,
        limit: usize,
    ) -> Result<Vec<(u64, IntentId)>, ServiceError> {
        let tables = self.group.tables.lock().unwrap();
        Ok(baton_state_machine::open_deliveries(&*tables, agent, since, limit).unwrap())
    }

    fn delivery_rows(
        &self,
        ids: &[IntentId],
        payload_bytes_max: usize,
    ) -> Result<Vec<Option<DeliveryRows>>, ServiceError> {
        let tables = self.group.tables.lock().unwrap();
        Ok(baton_state_machine::delivery_rows(&*tables, ids, payload_bytes_max).unwrap())
    }

    fn applied(&self) -> Box<dyn AppliedFeed> {
        Box::new(self.group.announce.lock().unwrap().subscribe())
    }
}

/// Streams between hub and dispatcher; `frozen` wires carry nothing and break nothing.
pub(crate) struct Wires {
    dispatcher: Arc<Dispatcher>,
    group: Arc<Group>,
    /// Groups that nobody leads: what is proposed is committed.
    others: Mutex<Vec<Arc<Group>>>,
    frozen: watch::Sender<bool>,
}

impl Wires {
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    fn wire(&self, mut from: mpsc::Receiver<Bytes>, to: mpsc::Sender<Bytes>) {
        let mut frozen = self.frozen.subscribe();
        tokio::spawn(async move {
            loop {
                let bytes = tokio::select! {
                    bytes = from.recv() => bytes,
                    () = to.closed() => None,
                };
                let Some(bytes) = bytes else { return };
                if frozen.wait_for(|f| !f).await.is_err() || to.send(bytes).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[async_trait]
impl Network for Wires {
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError> {
        let others = self.others.lock().unwrap();
        let other = others.iter().find(|group| match route {
            Route::Slot(slot) => group.owns(slot),
            Route::Group(id) => group.id == id,
            Route::Meta => false,
        });
        Ok(other.unwrap_or(&self.group).commit(body))
    }

    async fn open_stream(
        &self,
        group: GroupId,
        header: Bytes,
    ) -> Result<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>), ServiceError> {
        let _ = self.frozen.subscribe().wait_for(|f| !f).await;
        let (near_up, far_up) = mpsc::channel(8);
        let (near_down, far_down) = mpsc::channel(8);
        let (up_tx, up_rx) = mpsc::channel(8);
        let (down_tx, down_rx) = mpsc::channel(8);
        self.wire(far_up, up_tx);
        self.wire(far_down, down_tx);
        self.dispatcher.accept(group, header, up_rx, near_down)?;
        Ok((near_up, down_rx))
    }
}

/// A group, its current leader's service and a hub.
pub(crate) struct World {
    pub(crate) group: Arc<Group>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) hub: Arc<AgentHub>,
    pub(crate) leader: Option<(Arc<Leader>, JoinHandle<()>)>,
    pub(crate) settings: DeliverySettings,
    pub(crate) push: Option<Arc<Push>>,
    pub(crate) notifier: Option<Arc<Notifier>>,
    terms: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Group::new())
    }

    /// With a leader.
    pub(crate) fn on(group: Arc<Group>) -> Self {
        let mut world = Self::leaderless(group);
        world.elect();
        world
    }

    pub(crate) fn leaderless(group: Arc<Group>) -> Self {
        let dispatcher = Dispatcher::new();
        let wires = Arc::new(Wires {
            dispatcher: Arc::clone(&dispatcher),
            group: Arc::clone(&group),
            others: Mutex::default(),
            frozen: watch::channel(false).0,
        });
        let network: Arc<dyn Network> = wires.clone();
        let map = group.map;
        let hub = AgentHub::new(
            network,
            map,
            DeliverySettings::default(),
            CancellationToken::new(),
        );
        Self {
            group,
            dispatcher,
            wires,
            hub,
            leader: None,
            settings: DeliverySettings::default(),
            push: None,
            notifier: None,
            terms: 0,
        }
    }

    /// Starts a new leader's service on the same tables, without any soft state.
    pub(crate) fn elect(&mut self) {
        self.terms += 1;
        let leader = Arc::new(Leader {
            term: self.terms,
            group: Arc::clone(&self.group),
            leads: watch::channel(true).0,
            refuse: AtomicBool::new(false),
        });
        let service = GroupService::new(
            leader.clone(),
            self.wires.clone(),
            self.settings,
            Arc::clone(&self.dispatcher),
        );
        let service = service.with_notifier(self.notifier.clone());
        let service = match &self.push {
            Some(push) => service.with_push(Arc::clone(push)),
            None => service,
        };
        let running = tokio::spawn(service.run(CancellationToken::new()));
        self.leader = Some((leader, running));
    }

    /// Ends the leadership and waits for its service.
    pub(crate) async fn depose(&mut self) {
        let (leader, running) = self.leader.take().unwrap();
        leader.leads.send_replace(false);
        running.await.unwrap();
    }

    pub(crate) async fn listen(
        &self,
        agent: &AgentRef,
        since: u64,
        credential: &str,
    ) -> mpsc::Receiver<baton_protocol::FeedItem> {
        let listen = baton_protocol::Listen {
            agent: agent.clone(),
            since,
            credential: credential.into(),
        };
        self.hub.subscribe(listen).await.unwrap()
    }

    /// Lets what is proposed for `other` get there.
    pub(crate) fn beside(&self, other: &Arc<Group>) {
        self.wires.others.lock().unwrap().push(Arc::clone(other));
    }

    pub(crate) fn failures(&self) -> usize {
        self.group
            .committed(|b| matches!(b, command::Body::FailAttempt(_)))
    }

    pub(crate) fn redeliveries(&self) -> usize {
        self.group.committed(|b| matches!(b, command::Body::Redeliver(_)))
    }
}

pub(crate) fn agent(name: &str) -> AgentRef {
    let address = format!("agent://org/ws/{name}");
    AgentRef {
        key: address.clone(),
        address,
        workspace_id: "ws-1".into(),
        org_id: "org-1".into(),
    }
}

pub(crate) fn sender() -> Actor {
    Actor {
        kind: KeyKind::Workspace.into(),
        org_id: "org-1".into(),
        workspace_id: "ws-1".into(),
        address: "agent://org/ws/sender".into(),
        ..Actor::default()
    }
}

pub(crate) fn id_of(item: &baton_protocol::FeedItem) -> IntentId {
    IntentId::from_slice(&item.intent.intent_id).unwrap()
}
