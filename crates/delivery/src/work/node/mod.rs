//! The side of a node with workers: one link per group, shared by every worker of the node.

mod link;
mod mailbox;
mod pending;
mod worker;
mod workers;

pub use worker::Worker;

use crate::links::Links;
use crate::ports::Network;
use crate::settings::DeliverySettings;
use baton_protocol::work::granted_lease_ms;
use baton_protocol::{ErrorCode, GroupMap, ServiceError, Slot, WorkOpen};
use link::Request;
use mailbox::Mailbox;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// Work for the workers of this node, from whichever nodes lead their agents' groups.
pub struct WorkHub {
    map: GroupMap,
    last_worker: AtomicU64,
    links: Links<Request>,
}

impl std::fmt::Debug for WorkHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkHub").finish_non_exhaustive()
    }
}

impl WorkHub {
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
            last_worker: AtomicU64::new(0),
            links: Links::new(network, settings, shutdown),
        })
    }

    /// A worker for an agent's deliveries. It stays through changes of the leader; dropping it gives its items to
    /// the others at once.
    ///
    /// # Errors
    /// `ShuttingDown` at the end.
    pub async fn open(&self, mut open: WorkOpen) -> Result<Worker, ServiceError> {
        open.lease_ms = granted_lease_ms(open.lease_ms);
        let lease_ms = open.lease_ms;
        let group = self.map.group_of(Slot::of_key(&open.agent.key));
        let link = self.links.to(group, link::run);
        let id = self.last_worker.fetch_add(1, Ordering::Relaxed) + 1;
        let mailbox = Arc::new(Mailbox::new());
        let request = Request::Open {
            worker: id,
            open: Box::new(open),
            mailbox: Arc::clone(&mailbox),
        };
        if link.send(request).await.is_err() {
            return Err(ServiceError::new(
                ErrorCode::ShuttingDown,
                "this node is shutting down, use another one",
            ));
        }
        Ok(Worker::new(id, lease_ms, link, mailbox))
    }
}
