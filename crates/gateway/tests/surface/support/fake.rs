//! The ports over state machines in memory. Cross-group messages are pumped after every command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use baton_gateway::Ports;
use baton_gateway::ports::{AgentFeed, Check, EndSender, Environment, EventFeed, Health, Proposer, Reader};
use baton_protocol::address::{canonical, slot_of};
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, AgentRef, ApiKey, BootstrapCluster, ClusterRecord, DeliverMessage, KeyKind,
    ListMailbox, Organization, Query, QueryReply, Reply, ServiceAccount, Workspace, command, query,
    query_reply,
};
use baton_protocol::{ErrorCode, FeedItem, GroupId, GroupMap, IntentId, Listen, Route, ServiceError};
use baton_state_machine::testing::{Replica, START_MS};
use baton_state_machine::{MemoryTables, outbox_head, query as run_query};
use prost::Message as _;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

pub const OPERATOR_TOKEN: &str = "axme_sa_sa_operator_0000_secret";
/// A workspace key of another organization.
pub const OTHER_TOKEN: &str = "axme_sa_sa_stranger_0000_secret";
pub const ORG_ID: &str = "11111111-1111-4111-8111-111111111111";
pub const WORKSPACE_ID: &str = "22222222-2222-4222-8222-222222222222";
pub const OTHER_ORG_ID: &str = "33333333-3333-4333-8333-333333333333";
pub const OTHER_WORKSPACE_ID: &str = "44444444-4444-4444-8444-444444444444";

pub(super) const SHARD_GROUPS: u32 = 4;

/// A cluster of one node.
#[derive(Clone)]
pub struct FakeNode(Arc<Inner>);

struct Inner {
    groups: Mutex<Vec<Replica>>,
    started: Instant,
    changed: watch::Sender<u64>,
    events: Mutex<HashMap<IntentId, watch::Sender<u64>>>,
    ends: Mutex<HashMap<IntentId, Vec<(u64, EndSender)>>>,
    pub picked_up: Mutex<Vec<(IntentId, String)>>,
    pub stale: Mutex<bool>,
    live_nodes: Mutex<usize>,
    leader: Mutex<Option<String>>,
}

impl FakeNode {
    pub fn new() -> Self {
        let mut groups: Vec<Replica> = (0..=SHARD_GROUPS)
            .map(|g| Replica::new(g, SHARD_GROUPS))
            .collect();
        groups[0].tables = meta_tables();
        Self(Arc::new(Inner {
            groups: Mutex::new(groups),
            started: Instant::now(),
            changed: watch::channel(0).0,
            events: Mutex::default(),
            ends: Mutex::default(),
            picked_up: Mutex::default(),
            stale: Mutex::new(false),
            live_nodes: Mutex::new(1),
            leader: Mutex::default(),
        }))
    }

    pub fn ports(&self) -> Ports {
        Ports {
            proposer: Arc::new(self.clone()),
            reader: Arc::new(self.clone()),
            events: Arc::new(self.clone()),
            agents: Arc::new(self.clone()),
            work: Arc::new(self.clone()),
            environment: Arc::new(self.clone()),
            health: Arc::new(self.clone()),
            cluster: Arc::new(self.clone()),
            group_map: GroupMap::new(SHARD_GROUPS).unwrap(),
        }
    }

    /// Makes the replica of the meta group doubtful.
    pub fn set_stale(&self, stale: bool) {
        *self.0.stale.lock().unwrap() = stale;
    }

    /// Another node, with this client address, leads every group.
    pub fn set_leader(&self, address: Option<&str>) {
        *self.0.leader.lock().unwrap() = address.map(str::to_owned);
    }

    pub(super) fn leader(&self) -> Option<String> {
        self.0.leader.lock().unwrap().clone()
    }

    /// The cluster has this many nodes now.
    pub fn set_live_nodes(&self, nodes: usize) {
        *self.0.live_nodes.lock().unwrap() = nodes;
    }

    pub fn picked_up(&self) -> Vec<(IntentId, String)> {
        self.0.picked_up.lock().unwrap().clone()
    }

    /// Ids of the keys of an account.
    pub fn key_ids(&self, account_id: &str) -> Vec<String> {
        let groups = self.0.groups.lock().unwrap();
        let keys = groups[0]
            .tables
            .rows()
            .filter_map(|(_, value)| ApiKey::decode(value.clone()).ok());
        let mine = keys.filter(|k| k.service_account_id == account_id && k.key_id.starts_with("key_"));
        mine.map(|k| k.key_id).collect()
    }

    /// Whether any row of any group holds these bytes.
    pub fn stores(&self, bytes: &[u8]) -> bool {
        let groups = self.0.groups.lock().unwrap();
        let mut rows = groups.iter().flat_map(|g| g.tables.rows());
        rows.any(|(key, value)| {
            [key, value]
                .iter()
                .any(|b| b.windows(bytes.len()).any(|w| w == bytes))
        })
    }

    fn group(&self, route: Route) -> GroupId {
        route.group(GroupMap::new(SHARD_GROUPS).unwrap())
    }

    fn run(&self, group: GroupId, body: command::Body) -> Reply {
        let mut groups = self.0.groups.lock().unwrap();
        let reply = self.run_locked(&mut groups, group, body);
        self.pump(&mut groups);
        drop(groups);
        self.0.changed.send_modify(|n| *n += 1);
        reply
    }

    fn run_locked(&self, groups: &mut [Replica], group: GroupId, body: command::Body) -> Reply {
        let replica = &mut groups[group.0 as usize];
        replica.now_ms = self.now_ms();
        let reply = replica.run(body);
        let events = self.0.events.lock().unwrap();
        let mut ends = self.0.ends.lock().unwrap();
        for event in &replica.last.events {
            let asked = IntentId::from_slice(&event.intent_id)
                .filter(|_| event.status().is_terminal())
                .and_then(|id| ends.remove(&id));
            for (token, to) in asked.unwrap_or_default() {
                let _ = to.send((token, event.clone()));
            }
            if let Some(feed) = IntentId::from_slice(&event.intent_id).and_then(|id| events.get(&id)) {
                feed.send_modify(|n| *n += 1);
            }
        }
        reply
    }

    fn pump(&self, groups: &mut [Replica]) {
        loop {
            let mut moved = false;
            for source in 0..groups.len() {
                for (target, messages) in outbox_head(&groups[source].tables, 16).unwrap() {
                    let seq = messages.last().unwrap().seq;
                    for message in messages {
                        let message = Some(message);
                        self.run_locked(groups, target, command::Body::Deliver(DeliverMessage { message }));
                    }
                    let target_group = target.0;
                    let ack = AcknowledgeOutbox { target_group, seq };
                    self.run_locked(groups, GroupId(source as u32), command::Body::Acknowledge(ack));
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn ask(&self, route: Route, query: &Query) -> QueryReply {
        let groups = self.0.groups.lock().unwrap();
        run_query(&groups[self.group(route).0 as usize].tables, query).unwrap()
    }
}

#[async_trait]
impl Proposer for FakeNode {
    async fn propose(&self, route: Route, body: command::Body) -> Result<Reply, ServiceError> {
        Ok(self.run(self.group(route), body))
    }
}

#[async_trait]
impl Reader for FakeNode {
    async fn read(&self, route: Route, query: Query) -> Result<QueryReply, ServiceError> {
        Ok(self.ask(route, &query))
    }

    fn read_local(&self, route: Route, query: &Query) -> Result<QueryReply, ServiceError> {
        if route == Route::Meta && *self.0.stale.lock().unwrap() {
            return Err(ServiceError::new(ErrorCode::StaleReplica, "meta is stale"));
        }
        Ok(self.ask(route, query))
    }

    async fn refresh_meta(&self) -> Result<(), ServiceError> {
        if *self.0.stale.lock().unwrap() {
            return Err(ServiceError::new(ErrorCode::Unavailable, "no leader"));
        }
        Ok(())
    }
}

impl EventFeed for FakeNode {
    fn subscribe(&self, intent_id: IntentId) -> watch::Receiver<u64> {
        let mut events = self.0.events.lock().unwrap();
        events
            .entry(intent_id)
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    fn notify_end(&self, intent_id: IntentId, token: u64, to: &EndSender) {
        let mut ends = self.0.ends.lock().unwrap();
        ends.entry(intent_id).or_default().push((token, to.clone()));
    }

    fn forget_end(&self, intent_id: IntentId, token: u64) {
        if let Some(asked) = self.0.ends.lock().unwrap().get_mut(&intent_id) {
            asked.retain(|(mine, _)| *mine != token);
        }
    }
}

#[async_trait]
impl AgentFeed for FakeNode {
    async fn subscribe(&self, listen: Listen) -> Result<mpsc::Receiver<FeedItem>, ServiceError> {
        let (items, receiver) = mpsc::channel(8);
        let node = self.clone();
        tokio::spawn(async move {
            let mut since = listen.since;
            let mut changed = node.0.changed.subscribe();
            loop {
                changed.mark_unchanged();
                for item in node.deliveries(&listen.agent, since) {
                    since = item.cursor;
                    if items.send(item).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = items.closed() => return,
                    _ = changed.changed() => {}
                }
            }
        });
        Ok(receiver)
    }

    fn picked_up(&self, intent_id: IntentId, _holder: &AgentRef, credential: &str) {
        self.0
            .picked_up
            .lock()
            .unwrap()
            .push((intent_id, credential.to_owned()));
    }
}

impl FakeNode {
    /// Open deliveries of an agent.
    pub fn deliveries(&self, agent: &AgentRef, since: u64) -> Vec<FeedItem> {
        let body = query::Body::ListMailbox(ListMailbox {
            agent: Some(agent.clone()),
            since,
            limit: 0,
            payload_bytes_max: 64 * 1024,
        });
        let query = Query {
            actor: None,
            body: Some(body),
        };
        let reply = self.ask(Route::Slot(slot_of(agent)), &query);
        let Some(query_reply::Outcome::Mailbox(page)) = reply.outcome else {
            return Vec::new();
        };
        let items = page.items.into_iter();
        items
            .map(|item| FeedItem {
                cursor: item.cursor,
                attempt: item.intent.as_ref().map_or(0, |i| i.failed_attempts) + 1,
                intent: Box::new(item.intent.unwrap_or_default()),
                payload: item.payload,
            })
            .collect()
    }
}

impl Environment for FakeNode {
    fn now_ms(&self) -> u64 {
        START_MS + self.0.started.elapsed().as_millis() as u64
    }

    fn fill_random(&self, into: &mut [u8]) {
        rand::RngCore::fill_bytes(&mut rand::rng(), into);
    }

    fn live_nodes(&self) -> usize {
        *self.0.live_nodes.lock().unwrap()
    }
}

impl Health for FakeNode {
    fn live(&self) -> Vec<Check> {
        vec![Check {
            name: "event-loop",
            ok: true,
            detail: "turning".into(),
        }]
    }

    fn ready(&self) -> Vec<Check> {
        vec![Check {
            name: "meta",
            ok: !*self.0.stale.lock().unwrap(),
            detail: "confirmed by its leader".into(),
        }]
    }

    fn started(&self) -> Vec<Check> {
        Vec::new()
    }
}

/// A tenant with one key.
struct Tenant {
    org: &'static str,
    org_slug: &'static str,
    workspace: &'static str,
    account: &'static str,
    token: &'static str,
    kind: KeyKind,
}

const HOME: Tenant = Tenant {
    org: ORG_ID,
    org_slug: "acme",
    workspace: WORKSPACE_ID,
    account: "operator",
    token: OPERATOR_TOKEN,
    kind: KeyKind::Operator,
};
const OTHER: Tenant = Tenant {
    org: OTHER_ORG_ID,
    org_slug: "globex",
    workspace: OTHER_WORKSPACE_ID,
    account: "stranger",
    token: OTHER_TOKEN,
    kind: KeyKind::Workspace,
};

/// The meta group with both tenants. There is no command yet that adds the second one to a cluster.
fn meta_tables() -> MemoryTables {
    let mut rows = std::collections::BTreeMap::new();
    for tenant in [&OTHER, &HOME] {
        let mut replica = Replica::new(0, SHARD_GROUPS);
        replica.run(bootstrap(tenant));
        rows.extend(
            replica
                .tables
                .rows()
                .map(|(key, value)| (key.to_vec(), value.clone())),
        );
    }
    rows.into_iter().collect()
}

fn bootstrap(tenant: &Tenant) -> command::Body {
    let account = ServiceAccount {
        service_account_id: format!("sa_{}_0000", tenant.account),
        org_id: tenant.org.into(),
        workspace_id: tenant.workspace.into(),
        name: tenant.account.into(),
        address: canonical(tenant.org_slug, "prod", tenant.account),
        status: 1,
        created_at_ms: START_MS,
        updated_at_ms: START_MS,
        ..ServiceAccount::default()
    };
    command::Body::Bootstrap(BootstrapCluster {
        cluster: Some(ClusterRecord {
            cluster_id: vec![1; 16].into(),
            shard_groups: SHARD_GROUPS,
            next_node_id: 2,
            next_replica_id: 6,
            token_secret: vec![7; 32].into(),
        }),
        nodes: Vec::new(),
        organization: Some(Organization {
            org_id: tenant.org.into(),
            slug: tenant.org_slug.into(),
            name: tenant.org_slug.into(),
            created_at_ms: START_MS,
        }),
        workspace: Some(Workspace {
            workspace_id: tenant.workspace.into(),
            org_id: tenant.org.into(),
            slug: "prod".into(),
            name: "Production".into(),
            created_at_ms: START_MS,
            ..Workspace::default()
        }),
        operator_key: Some(ApiKey {
            key_id: format!("key_{}", tenant.account),
            token_sha256: Sha256::digest(tenant.token).to_vec().into(),
            key_hint: "…secret".into(),
            kind: tenant.kind.into(),
            service_account_id: account.service_account_id.clone(),
            org_id: tenant.org.into(),
            workspace_id: tenant.workspace.into(),
            ..ApiKey::default()
        }),
        operator_account: Some(account),
    })
}
