//! The listening side: every node's listeners, over one link per group.

mod lease;
mod link;
mod listener;

pub(crate) use lease::{Lease, Renewals};

use crate::ports::Network;
use crate::settings::{DeliverySettings, LINK_QUEUE_ITEMS_MAX};
use baton_protocol::{ErrorCode, FeedItem, GroupId, GroupMap, IntentId, Listen, ServiceError, Slot};
use link::{Link, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Deliveries for the listeners of this node, from whichever node leads the agent's group.
pub struct AgentHub {
    network: Arc<dyn Network>,
    map: GroupMap,
    settings: DeliverySettings,
    shutdown: CancellationToken,
    runtime: Handle,
    links: Mutex<HashMap<GroupId, mpsc::Sender<Request>>>,
}

impl std::fmt::Debug for AgentHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentHub").finish_non_exhaustive()
    }
}

impl AgentHub {
    /// One for the whole node. Must be called inside the runtime on which deliveries shall run; ends with
    /// `shutdown`.
    #[must_use]
    pub fn new(
        network: Arc<dyn Network>,
        map: GroupMap,
        settings: DeliverySettings,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            network,
            map,
            settings,
            shutdown,
            runtime: Handle::current(),
            links: Mutex::new(HashMap::new()),
        })
    }

    /// Opens a subscription: first every open delivery above `since` in cursor order, then new ones as they
    /// commit. The channel closes when the leader changes or the lease lapses; subscribe again with the cursor of
    /// the last item. Dropping the receiver ends it. Put no other channel behind it: an item counts as written to the
    /// listener when it is received from this one.
    ///
    /// # Errors
    /// `Unavailable` when no leader was found within `subscribe_deadline_ms`, `ShuttingDown` at the end.
    pub async fn subscribe(&self, listen: Listen) -> Result<mpsc::Receiver<FeedItem>, ServiceError> {
        let group = self.map.group_of(Slot::of_key(&listen.agent.key));
        let link = self.link(group);
        let (reply, attached) = oneshot::channel();
        let attach = async {
            link.send(Request::Attach(reply)).await.ok()?;
            attached.await.ok()
        };
        match timeout(self.settings.subscribe_deadline(), attach).await {
            Ok(Some(place)) => {
                // One item at a time, so that the room for the next one shows that it was received.
                let (tx, rx) = mpsc::channel(1);
                self.runtime.spawn(listener::run(listen, place, tx));
                Ok(rx)
            }
            Ok(None) => Err(ServiceError::new(
                ErrorCode::ShuttingDown,
                "this node is shutting down, retry with another one",
            )),
            Err(_) => Err(ServiceError::new(
                ErrorCode::Unavailable,
                format!("group {group} has no reachable leader, retry"),
            )),
        }
    }

    /// Tells the leader that `credential` has fetched this intent. Best effort, never waits.
    pub fn picked_up(&self, intent_id: IntentId, credential: &str) {
        let group = self.map.group_of(intent_id.slot());
        let _ = self.link(group).try_send(Request::PickedUp {
            intent_id,
            credential: credential.to_owned(),
            asked: Instant::now(),
        });
    }

    fn link(&self, group: GroupId) -> mpsc::Sender<Request> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (tx, rx) = mpsc::channel(LINK_QUEUE_ITEMS_MAX);
            let link = Link {
                group,
                network: Arc::clone(&self.network),
                settings: self.settings,
            };
            self.runtime.spawn(link.run(rx, self.shutdown.clone()));
            tx
        };
        links.entry(group).or_insert_with(start).clone()
    }
}
