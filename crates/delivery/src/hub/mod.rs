//! The listening side: every node's listeners, over one link per group.

mod lease;
mod link;
mod listener;

pub(crate) use lease::{Lease, Renewals};

use crate::links::Links;
use crate::ports::Network;
use crate::settings::DeliverySettings;
use baton_protocol::proto::internal::AgentRef;
use baton_protocol::{ErrorCode, FeedItem, GroupMap, IntentId, Listen, ServiceError, Slot};
use link::Request;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Deliveries for the listeners of this node, from whichever node leads the agent's group.
pub struct AgentHub {
    map: GroupMap,
    links: Links<Request>,
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
            map,
            links: Links::new(network, settings, shutdown),
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
        let link = self.links.to(group, link::run);
        let (reply, attached) = oneshot::channel();
        let attach = async {
            link.send(Request::Attach(reply)).await.ok()?;
            attached.await.ok()
        };
        match timeout(self.links.settings().subscribe_deadline(), attach).await {
            Ok(Some(place)) => {
                // One item at a time, so that the room for the next one shows that it was received.
                let (tx, rx) = mpsc::channel(1);
                self.links.runtime().spawn(listener::run(listen, place, tx));
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

    /// Tells the leader of the group of `holder` that `credential` has fetched this intent. Best effort, never waits.
    pub fn picked_up(&self, intent_id: IntentId, holder: &AgentRef, credential: &str) {
        let group = self.map.group_of(Slot::of_key(&holder.key));
        let _ = self.links.to(group, link::run).try_send(Request::PickedUp {
            intent_id,
            credential: credential.to_owned(),
            asked: Instant::now(),
        });
    }
}
