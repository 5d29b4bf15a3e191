//! Runs delivery for a group exactly while this node leads it.

use crate::adapters::{ConsensusNetwork, Led, NodeHealth};
use baton_consensus::{ConsensusHandle, Leadership};
use baton_delivery::{DeliverySettings, Dispatcher, GroupService, Notifier, Push};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause before a service that ended within its term is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// What a group's service needs.
pub(super) struct Leader {
    pub(super) handle: ConsensusHandle,
    pub(super) network: Arc<ConsensusNetwork>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) settings: DeliverySettings,
    pub(super) push: Arc<Push>,
    pub(super) notifier: Option<Arc<Notifier>>,
    pub(super) health: Arc<NodeHealth>,
}

impl Leader {
    /// Follows the leadership of one group until `shutdown`.
    pub(super) async fn follow(self, leadership: watch::Receiver<Leadership>, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.note_leaders(leadership.clone()) => {}
            () = self.serve(leadership, &shutdown) => {}
        }
    }

    /// Tells the probes whether a leader is known.
    async fn note_leaders(&self, mut leadership: watch::Receiver<Leadership>) {
        loop {
            let now = *leadership.borrow_and_update();
            self.health.leader_known(now.group, now.leader_node.is_some());
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    async fn serve(&self, mut leadership: watch::Receiver<Leadership>, shutdown: &CancellationToken) {
        loop {
            if leadership.borrow_and_update().am_leader {
                let led = Arc::new(Led::new(self.handle.clone(), leadership.clone()));
                let service = GroupService::new(
                    led,
                    self.network.clone(),
                    self.settings,
                    Arc::clone(&self.dispatcher),
                )
                .with_push(Arc::clone(&self.push))
                .with_notifier(self.notifier.clone());
                Box::pin(service.run(shutdown.child_token())).await;
                tokio::time::sleep(RESTART_PAUSE).await;
            } else if leadership.changed().await.is_err() {
                return;
            }
        }
    }
}
