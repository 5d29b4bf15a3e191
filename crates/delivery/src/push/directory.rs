//! Which agents are pushed to, as this node's replica of the meta group shows them.

use super::settings::{DIRECTORY_CHANGES_BUFFERED, DIRECTORY_PAGE};
use super::sign::SigningKeys;
use crate::ports::{AppliedFeed, AppliedNotice};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::{
    AgentRef, FindPushAgent, ListPushAgents, PushAgent, Query, QueryReply, query, query_reply,
};
use baton_protocol::{ErrorCode, GroupId, GroupMap, ServiceError};
use baton_state_machine::Effect;
use hyper::Uri;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often everything is read again: a replica that was restored from a snapshot announces no changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// The replica of the meta group on this node.
pub trait MetaTables: Send + Sync + 'static {
    /// Reads it as it is.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when it cannot be read.
    fn query(&self, query: &Query) -> Result<QueryReply, ServiceError>;

    /// What is applied to it from now on.
    fn applied(&self) -> Box<dyn AppliedFeed>;

    /// Whether its leader has confirmed it lately. Nothing is pushed on the word of one that has lost touch.
    fn is_fresh(&self) -> bool;
}

/// Where deliveries of one agent go, and how they are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) agent: AgentRef,
    pub(crate) service_account_id: String,
    pub(crate) url_text: String,
    pub(crate) url: Uri,
    pub(crate) host: Arc<str>,
    pub(crate) workspace: Arc<str>,
    pub(crate) keys: SigningKeys,
}

/// What changed.
#[derive(Debug, Clone)]
pub(crate) enum Changed {
    Agent(Arc<str>),
    Anything,
}

/// One for the whole node.
pub struct PushDirectory {
    meta: Arc<dyn MetaTables>,
    map: GroupMap,
    agents: RwLock<HashMap<Arc<str>, Arc<Endpoint>>>,
    changes: broadcast::Sender<Changed>,
}

impl std::fmt::Debug for PushDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushDirectory")
            .field("agents", &self.read().len())
            .finish_non_exhaustive()
    }
}

impl PushDirectory {
    /// Empty until [`run`](Self::run) has read it.
    #[must_use]
    pub fn new(meta: Arc<dyn MetaTables>, map: GroupMap) -> Arc<Self> {
        Arc::new(Self {
            meta,
            map,
            agents: RwLock::default(),
            changes: broadcast::Sender::new(DIRECTORY_CHANGES_BUFFERED),
        })
    }

    /// Follows the meta group until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut feed = self.meta.applied();
        let mut reload = interval(RELOAD_INTERVAL);
        reload.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The first tick comes at once.
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = reload.tick() => self.load_or_warn(),
                notice = feed.next() => match notice {
                    AppliedNotice::Entry(applied) => {
                        for effect in &applied.effects {
                            if let Effect::Endpoint { address } = effect {
                                self.look_up(address);
                            }
                        }
                    }
                    AppliedNotice::Lagged => self.load_or_warn(),
                    AppliedNotice::Closed => return,
                },
            }
        }
    }

    fn load_or_warn(&self) {
        if let Err(error) = self.load() {
            warn!(%error, "cannot read which agents are pushed to");
        }
    }

    fn load(&self) -> Result<(), ServiceError> {
        let mut found = HashMap::new();
        let mut after_address = String::new();
        loop {
            let page = self.ask(query::Body::ListPushAgents(ListPushAgents {
                after_address: after_address.clone(),
                limit: DIRECTORY_PAGE,
            }))?;
            let Some(last) = page.last() else { break };
            after_address.clone_from(&last.address);
            found.extend(page.into_iter().filter_map(endpoint));
        }
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        if *agents != found {
            *agents = found;
            drop(agents);
            _ = self.changes.send(Changed::Anything);
        }
        Ok(())
    }

    fn look_up(&self, address: &str) {
        let find = FindPushAgent {
            address: address.to_owned(),
        };
        let found = match self.ask(query::Body::FindPushAgent(find)) {
            Ok(found) => found.into_iter().find_map(endpoint),
            // The next reload shows it.
            Err(error) => return warn!(%error, address, "cannot read how an agent is pushed to"),
        };
        let key: Arc<str> = Arc::from(address);
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        match found {
            Some((_, endpoint)) => agents.insert(Arc::clone(&key), endpoint),
            None => agents.remove(&key),
        };
        drop(agents);
        _ = self.changes.send(Changed::Agent(key));
    }

    fn ask(&self, body: query::Body) -> Result<Vec<PushAgent>, ServiceError> {
        let query = Query {
            actor: None,
            body: Some(body),
        };
        match self.meta.query(&query)?.outcome {
            Some(query_reply::Outcome::PushAgents(page)) => Ok(page.agents),
            Some(query_reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(ServiceError::new(
                ErrorCode::Internal,
                "the query for push agents got an answer of another kind",
            )),
        }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.meta.is_fresh()
    }

    /// Whether the deliveries of this agent are pushed.
    pub(crate) fn covers(&self, agent_key: &str) -> bool {
        self.read().contains_key(agent_key)
    }

    pub(crate) fn endpoint(&self, agent_key: &str) -> Option<Arc<Endpoint>> {
        self.read().get(agent_key).cloned()
    }

    pub(crate) fn is_in(&self, agent_key: &str, group: GroupId) -> bool {
        let agent = AgentRef {
            key: agent_key.to_owned(),
            ..AgentRef::default()
        };
        self.map.group_of(slot_of(&agent)) == group
    }

    /// The endpoints of a group's agents.
    pub(crate) fn of_group(&self, group: GroupId) -> Vec<(Arc<str>, Arc<Endpoint>)> {
        let agents = self.read();
        let ours = agents.iter().filter(|(key, _)| self.is_in(key, group));
        ours.map(|(key, endpoint)| (Arc::clone(key), Arc::clone(endpoint)))
            .collect()
    }

    /// Subscribe first, then read.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Arc<str>, Arc<Endpoint>>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` for a URL that nobody can post to; the gateway accepts none.
fn endpoint(agent: PushAgent) -> Option<(Arc<str>, Arc<Endpoint>)> {
    let url: Uri = agent.callback_url.parse().ok()?;
    let host = Arc::from(url.host()?.to_ascii_lowercase());
    let key: Arc<str> = Arc::from(agent.address.as_str());
    let endpoint = Endpoint {
        host,
        workspace: Arc::from(agent.workspace_id.as_str()),
        agent: AgentRef {
            key: agent.address.clone(),
            address: agent.address,
            workspace_id: agent.workspace_id,
            org_id: agent.org_id,
        },
        service_account_id: agent.service_account_id,
        url_text: agent.callback_url,
        url,
        keys: SigningKeys::new(&agent.secrets.unwrap_or_default()),
    };
    Some((key, Arc::new(endpoint)))
}
