//! One worker, as its stream sees it.

use super::link::Request;
use super::mailbox::Mailbox;
use baton_protocol::limits::{WORK_CREDITS_MAX, WORK_MESSAGE_REPORTS_MAX};
use baton_protocol::{ErrorCode, ServiceError, WorkBatch, WorkInput};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A worker's end of its link. Both directions may be used at the same time.
#[derive(Debug)]
pub struct Worker {
    id: u64,
    lease_ms: u32,
    link: mpsc::Sender<Request>,
    mailbox: Arc<Mailbox>,
}

impl Worker {
    pub(super) fn new(id: u64, lease_ms: u32, link: mpsc::Sender<Request>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            id,
            lease_ms,
            link,
            mailbox,
        }
    }

    /// How long an item may go without a report.
    #[must_use]
    pub fn lease_ms(&self) -> u32 {
        self.lease_ms
    }

    /// Hands over what the worker says. Waits while too many of its reports have no receipt that it took.
    ///
    /// # Errors
    /// `InvalidArgument` for more credits or reports than the limits allow, `ShuttingDown` at the end.
    pub async fn send(&self, input: WorkInput) -> Result<(), ServiceError> {
        if input.credits > WORK_CREDITS_MAX || input.reports.len() > WORK_MESSAGE_REPORTS_MAX {
            return Err(ServiceError::new(
                ErrorCode::InvalidArgument,
                format!(
                    "at most {WORK_CREDITS_MAX} credits and {WORK_MESSAGE_REPORTS_MAX} reports go into one message"
                ),
            ));
        }
        self.mailbox.reserve(input.reports.len()).await;
        let request = Request::Input {
            worker: self.id,
            input,
        };
        self.link.send(request).await.map_err(|_| {
            ServiceError::new(
                ErrorCode::ShuttingDown,
                "this node is shutting down, use another one",
            )
        })
    }

    /// Waits for items and receipts. An item that is returned counts as written to the worker. `None` at the end;
    /// an error is the last thing before it. Safe to cancel; for one caller at a time.
    pub async fn next(&self) -> Option<Result<WorkBatch, ServiceError>> {
        self.mailbox.take().await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.mailbox.leave();
        // With a full queue the link finds the mark a moment later.
        let _ = self.link.try_send(Request::Left { worker: self.id });
    }
}
