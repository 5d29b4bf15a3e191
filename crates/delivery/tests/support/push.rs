//! A world whose leader pushes, and the agents it pushes to.

use super::{Group, World, agent};
use async_trait::async_trait;
use baton_delivery::push::{MetaTables, PushSettings, Resolver};
use baton_delivery::{AppliedFeed, DeliverySettings, Push, PushBody, PushClient, PushDirectory};
use baton_protocol::proto::internal::{
    CallbackSecret, CallbackSecrets, Delivery, GetDelivery, PushAgent, PushAgentPage, Query, QueryReply,
    query, query_reply,
};
use baton_protocol::{DeliveryId, FeedItem, GroupMap, IntentId, ServiceError};
use baton_state_machine::{Applied, Effect};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// The meta group, as far as push needs it.
pub(crate) struct Meta {
    agents: Mutex<BTreeMap<String, PushAgent>>,
    announce: broadcast::Sender<Arc<Applied>>,
}

impl Meta {
    pub(crate) fn set(&self, name: &str, url: &str) {
        self.set_in(name, url, &agent(name).workspace_id);
    }

    /// The same for an agent of this workspace.
    pub(crate) fn set_in(&self, name: &str, url: &str, workspace_id: &str) {
        let agent = agent(name);
        let pushed = PushAgent {
            address: agent.address.clone(),
            service_account_id: format!("sa_{name}"),
            callback_url: url.into(),
            secrets: Some(CallbackSecrets {
                current: Some(CallbackSecret {
                    value: "a secret of sixteen".into(),
                }),
                ..CallbackSecrets::default()
            }),
            org_id: agent.org_id,
            workspace_id: workspace_id.to_owned(),
        };
        self.agents.lock().unwrap().insert(agent.address.clone(), pushed);
        self.announce(agent.address);
    }

    pub(crate) fn remove(&self, name: &str) {
        let address = agent(name).address;
        self.agents.lock().unwrap().remove(&address);
        self.announce(address);
    }

    fn announce(&self, address: String) {
        _ = self.announce.send(Arc::new(Applied {
            effects: vec![Effect::Endpoint { address }],
            ..Applied::default()
        }));
    }
}

struct MetaPort(Arc<Meta>);

impl MetaTables for MetaPort {
    fn query(&self, query: &Query) -> Result<QueryReply, ServiceError> {
        let agents = self.0.agents.lock().unwrap();
        let body = query.body.as_ref().unwrap();
        let found: Vec<_> = if let query::Body::FindPushAgent(q) = body {
            agents.get(&q.address).into_iter().cloned().collect()
        } else if let query::Body::ListPushAgents(q) = body {
            let behind = agents.values().filter(|a| a.address > q.after_address);
            behind.take(q.limit as usize).cloned().collect()
        } else {
            panic!("{body:?}")
        };
        Ok(QueryReply {
            outcome: Some(query_reply::Outcome::PushAgents(PushAgentPage { agents: found })),
        })
    }

    fn applied(&self) -> Box<dyn AppliedFeed> {
        Box::new(self.0.announce.subscribe())
    }

    fn is_fresh(&self) -> bool {
        true
    }
}

struct Body {
    panics: Arc<AtomicBool>,
}

impl PushBody for Body {
    fn render(&self, item: &FeedItem, delivery_id: &str, replay: bool) -> Bytes {
        let id = IntentId::from_slice(&item.intent.intent_id).unwrap();
        assert!(!self.panics.swap(false, Ordering::SeqCst), "as a test wants it");
        format!(
            "intent={id} attempt={} delivery={delivery_id} replay={replay}",
            item.attempt
        )
        .into()
    }
}

/// Names that mean what a test says.
pub(crate) struct Names(pub(crate) Box<Meaning>);

type Meaning = dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync;

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match (self.0)(host, port) {
            found if found.is_empty() => Err(io::ErrorKind::NotFound.into()),
            found => Ok(found),
        }
    }
}

pub(crate) fn no_names() -> Names {
    Names(Box::new(|_, _| Vec::new()))
}

/// Quick, and at home on loopback.
pub(crate) fn settings() -> PushSettings {
    PushSettings {
        timeout_ms: 400,
        retry_schedule_ms: vec![20],
        allow_http: true,
        allow_networks: vec!["127.0.0.1/32".parse().unwrap()],
        breaker_failures: 1_000,
        ..PushSettings::default()
    }
}

pub(crate) struct Pushing {
    pub(crate) world: World,
    pub(crate) meta: Arc<Meta>,
    /// The next post panics.
    pub(crate) panics: Arc<AtomicBool>,
    _directory: tokio_util::sync::DropGuard,
}

impl Pushing {
    pub(crate) fn new(settings: PushSettings) -> Self {
        Self::with(settings, rustls::RootCertStore::empty(), no_names())
    }

    pub(crate) fn with(settings: PushSettings, roots: rustls::RootCertStore, names: Names) -> Self {
        let meta = Arc::new(Meta {
            agents: Mutex::default(),
            announce: broadcast::channel(64).0,
        });
        let port: Arc<dyn MetaTables> = Arc::new(MetaPort(Arc::clone(&meta)));
        let directory = PushDirectory::new(port, GroupMap::new(1).unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&directory).run(stop.clone()));
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = PushClient::new(&settings, tls, Arc::new(names));
        let mut world = World::leaderless(Group::new());
        let panics = Arc::new(AtomicBool::new(false));
        let body = Body {
            panics: Arc::clone(&panics),
        };
        world.push = Some(Push::new(directory, client, settings, Arc::new(body)));
        world.settings = DeliverySettings {
            visibility_timeout_ms: 100,
            ..DeliverySettings::default()
        };
        world.elect();
        Self {
            world,
            meta,
            panics,
            _directory: stop.drop_guard(),
        }
    }

    pub(crate) fn group(&self) -> &Group {
        &self.world.group
    }

    pub(crate) fn submit(&self, name: &str, number: u64) -> IntentId {
        self.group().submit(&agent(name), number)
    }

    pub(crate) fn delivery(&self, id: IntentId, name: &str, replay: u32) -> Option<Delivery> {
        let get = GetDelivery {
            delivery: Some(DeliveryId::new(id, &agent(name).key).replayed(replay).to_key()),
        };
        let reply = self.group().query(&Query {
            actor: None,
            body: Some(query::Body::GetDelivery(get)),
        });
        match reply.outcome {
            Some(query_reply::Outcome::Delivery(view)) => view.delivery,
            _ => None,
        }
    }
}

/// Waits for something that must come.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}
