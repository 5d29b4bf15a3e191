//! Workers over the state machines in memory: whoever has credits gets the open deliveries, in order.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use baton_gateway::ports::{WorkFeed, WorkPort};
use baton_protocol::limits::WORK_CREDITS_MAX;
use baton_protocol::proto::internal::AttemptFence;
use baton_protocol::work::granted_lease_ms;
use baton_protocol::{ErrorCode, ServiceError, WorkBatch, WorkInput, WorkItem, WorkOpen, WorkReceipt};
use prost::Message as _;
use tokio::sync::Notify;

use super::fake::FakeNode;

const TERM: u64 = 7;

#[derive(Default)]
struct State {
    credits: u32,
    given: HashSet<Vec<u8>>,
    receipts: Vec<WorkReceipt>,
    drains: bool,
    error: Option<ServiceError>,
}

struct FakeWorker {
    node: FakeNode,
    open: WorkOpen,
    state: Mutex<State>,
    said: Notify,
}

#[async_trait]
impl WorkFeed for FakeNode {
    async fn open(&self, open: WorkOpen) -> Result<Arc<dyn WorkPort>, ServiceError> {
        Ok(Arc::new(FakeWorker {
            node: self.clone(),
            open,
            state: Mutex::default(),
            said: Notify::new(),
        }))
    }
}

impl FakeWorker {
    fn step(&self) -> Option<Option<Result<WorkBatch, ServiceError>>> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.error.take() {
            state.drains = true;
            return Some(Some(Err(error)));
        }
        let mut batch = WorkBatch {
            receipts: std::mem::take(&mut state.receipts),
            ..WorkBatch::default()
        };
        for item in self.node.deliveries(&self.open.agent, 0) {
            if state.credits > 0 && state.given.insert(item.intent.intent_id.to_vec()) {
                state.credits -= 1;
                batch.items.push(WorkItem {
                    fence: AttemptFence {
                        term: TERM,
                        counter: item.cursor,
                    },
                    intent_id: item.intent.intent_id.clone(),
                    intent: item.intent.encode_to_vec().into(),
                    payload: item.payload.unwrap_or_default().encode_to_vec().into(),
                });
            }
        }
        if !batch.items.is_empty() || !batch.receipts.is_empty() {
            return Some(Some(Ok(batch)));
        }
        state.drains.then_some(None)
    }
}

#[async_trait]
impl WorkPort for FakeWorker {
    fn lease_ms(&self) -> u32 {
        granted_lease_ms(self.open.lease_ms)
    }

    async fn send(&self, input: WorkInput) -> Result<(), ServiceError> {
        let mut state = self.state.lock().unwrap();
        state.credits += input.credits;
        if state.credits > WORK_CREDITS_MAX {
            state.error = Some(ServiceError::new(ErrorCode::InvalidArgument, "too many credits"));
        }
        for report in input.reports {
            let known = state.given.contains(report.intent_id.as_ref());
            state.receipts.push(WorkReceipt {
                intent_id: report.intent_id,
                fence: report.fence.unwrap_or_default(),
                error: (!known).then(|| ServiceError::new(ErrorCode::NotFound, "never given")),
            });
        }
        state.drains |= input.drain || input.last;
        drop(state);
        self.said.notify_one();
        Ok(())
    }

    async fn next(&self) -> Option<Result<WorkBatch, ServiceError>> {
        loop {
            if let Some(found) = self.step() {
                return found;
            }
            self.said.notified().await;
        }
    }
}
