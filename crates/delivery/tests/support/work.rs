//! Workers of a test, over the same wires as listeners.

use super::{Group, World};
use baton_delivery::{DeliverySettings, WorkHub, Worker};
use baton_protocol::proto::internal::{
    Actor, AgentRef, AttemptFence, AttemptReport, AttemptVerdict, Intent, KeyKind, Payload, Status,
};
use baton_protocol::{ErrorCode, IntentId, WorkBatch, WorkInput, WorkItem, WorkOpen, WorkReceipt};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A node with workers. Dropping it is the death of the node: its streams end without a word.
pub(crate) struct WorkNode {
    pub(crate) hub: Arc<WorkHub>,
    shutdown: CancellationToken,
}

impl WorkNode {
    pub(crate) fn new(world: &World) -> Self {
        let shutdown = CancellationToken::new();
        let hub = WorkHub::new(
            world.wires.clone(),
            world.group.map,
            DeliverySettings::default(),
            shutdown.clone(),
        );
        Self { hub, shutdown }
    }

    pub(crate) async fn worker(&self, agent: &AgentRef, credits: u32) -> Hand {
        self.worker_with(agent, credits, 0).await
    }

    pub(crate) async fn worker_with(&self, agent: &AgentRef, credits: u32, lease_ms: u32) -> Hand {
        self.worker_as(agent, actor_of(agent), credits, lease_ms).await
    }

    /// With any key.
    pub(crate) async fn worker_as(
        &self,
        agent: &AgentRef,
        actor: Actor,
        credits: u32,
        lease_ms: u32,
    ) -> Hand {
        let open = WorkOpen {
            agent: agent.clone(),
            actor,
            lease_ms,
        };
        let hand = Hand {
            worker: self.hub.open(open).await.unwrap(),
        };
        hand.grant(credits).await;
        hand
    }
}

impl Drop for WorkNode {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn actor_of(agent: &AgentRef) -> Actor {
    Actor {
        kind: KeyKind::Agent.into(),
        org_id: agent.org_id.clone(),
        workspace_id: agent.workspace_id.clone(),
        address: agent.address.clone(),
        ..Actor::default()
    }
}

/// A worker as its client drives it.
pub(crate) struct Hand {
    pub(crate) worker: Worker,
}

impl Hand {
    pub(crate) async fn grant(&self, credits: u32) {
        self.say(WorkInput {
            credits,
            ..WorkInput::default()
        })
        .await;
    }

    pub(crate) async fn drain(&self) {
        self.say(WorkInput {
            drain: true,
            ..WorkInput::default()
        })
        .await;
    }

    pub(crate) async fn say(&self, input: WorkInput) {
        self.worker.send(input).await.unwrap();
    }

    pub(crate) async fn batch(&self) -> WorkBatch {
        self.worker.next().await.unwrap().unwrap()
    }

    /// The next item; nothing else may come before it.
    pub(crate) async fn item(&self) -> WorkItem {
        self.items(1).await.remove(0)
    }

    /// Exactly so many items.
    pub(crate) async fn items(&self, count: usize) -> Vec<WorkItem> {
        let mut items = Vec::new();
        while items.len() < count {
            let batch = self.batch().await;
            assert!(batch.receipts.is_empty(), "{batch:?}");
            items.extend(batch.items);
        }
        assert_eq!(items.len(), count);
        items
    }

    /// Nothing comes for this long.
    pub(crate) async fn silent(&self, time: Duration) {
        if let Ok(batch) = timeout(time, self.worker.next()).await {
            panic!("{batch:?}");
        }
    }

    /// Reports, and waits for the receipt.
    pub(crate) async fn report(&self, item: &WorkItem, verdict: AttemptVerdict) -> Option<ErrorCode> {
        self.report_with(item, verdict, |_| {}).await
    }

    pub(crate) async fn report_with(
        &self,
        item: &WorkItem,
        verdict: AttemptVerdict,
        change: impl FnOnce(&mut AttemptReport),
    ) -> Option<ErrorCode> {
        let mut report = report(item, verdict);
        change(&mut report);
        self.say(WorkInput {
            reports: vec![report],
            ..WorkInput::default()
        })
        .await;
        self.receipt(item).await
    }

    /// The receipt for this item; `None` when the report took effect.
    pub(crate) async fn receipt(&self, item: &WorkItem) -> Option<ErrorCode> {
        let batch = self.batch().await;
        let [receipt]: [WorkReceipt; 1] = batch.receipts.try_into().unwrap();
        assert!(batch.items.is_empty());
        assert_eq!(receipt.intent_id, item.intent_id);
        receipt.error.map(|error| error.code)
    }

    pub(crate) async fn complete(&self, item: &WorkItem) -> Option<ErrorCode> {
        self.report(item, AttemptVerdict::Complete).await
    }
}

pub(crate) fn report(item: &WorkItem, verdict: AttemptVerdict) -> AttemptReport {
    AttemptReport {
        intent_id: item.intent_id.clone(),
        fence: Some(item.fence),
        verdict: verdict.into(),
        body: (verdict == AttemptVerdict::Complete).then(|| Payload {
            data: "{\"done\":1}".into(),
            ..Payload::default()
        }),
        ..AttemptReport::default()
    }
}

pub(crate) fn id_of(item: &WorkItem) -> IntentId {
    IntentId::from_slice(&item.intent_id).unwrap()
}

pub(crate) fn intent_of(item: &WorkItem) -> Intent {
    Intent::decode(item.intent.clone()).unwrap()
}

/// 1 for the first attempt.
pub(crate) fn attempt_of(item: &WorkItem) -> u32 {
    intent_of(item).failed_attempts + 1
}

pub(crate) fn order(fence: AttemptFence) -> (u64, u64) {
    (fence.term, fence.counter)
}

pub(crate) fn status(group: &Group, item: &WorkItem) -> Status {
    group.intent(id_of(item)).status()
}
