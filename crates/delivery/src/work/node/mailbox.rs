//! What waits for one worker, between its link and whoever writes to it.

use crate::hub::Lease;
use crate::settings::{WORK_MESSAGE_BYTES_MAX, WORK_MESSAGE_ITEMS_MAX, WORK_REPORTS_PENDING_MAX};
use baton_protocol::{ServiceError, WorkBatch, WorkItem, WorkReceipt};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct Content {
    /// Never more than the worker's credits.
    items: VecDeque<WorkItem>,
    /// Never more than the reports that the worker may have without a taken receipt.
    receipts: VecDeque<WorkReceipt>,
    /// Under which items may be written; `None` while there is no leader.
    lease: Option<Arc<Lease>>,
    /// Counter of the last item that was taken under this lease.
    taken: u64,
    /// Since when the worker has taken nothing although something waits.
    waits_since: Option<Instant>,
    end: Option<Result<(), ServiceError>>,
    /// The worker's stream is gone.
    left: bool,
}

impl Content {
    fn take_items(&mut self) -> VecDeque<WorkItem> {
        let items = std::mem::take(&mut self.items);
        self.note_emptied();
        items
    }

    fn note_emptied(&mut self) {
        if self.items.is_empty() && self.receipts.is_empty() {
            self.waits_since = None;
        }
    }
}

/// Taking an item out is what "written to the worker" means.
#[derive(Debug)]
pub(super) struct Mailbox {
    content: Mutex<Content>,
    filled: Notify,
    /// One for each report that may be sent.
    reports: Semaphore,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self {
            content: Mutex::default(),
            filled: Notify::new(),
            reports: Semaphore::new(WORK_REPORTS_PENDING_MAX),
        }
    }

    /// Waits until `count` more reports may be sent. They are counted until their receipts are taken.
    pub(super) async fn reserve(&self, count: usize) {
        let count = u32::try_from(count.min(WORK_REPORTS_PENDING_MAX)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        if let Ok(permits) = self.reports.acquire_many(count).await {
            permits.forget();
        }
    }

    /// Waits for something to write; `None` at the end.
    pub(super) async fn take(&self) -> Option<Result<WorkBatch, ServiceError>> {
        loop {
            if let Some(found) = self.try_take() {
                return found;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self) -> Option<Option<Result<WorkBatch, ServiceError>>> {
        let mut content = self.lock();
        let mut batch = WorkBatch::default();
        let mut bytes = 0;
        while bytes < WORK_MESSAGE_BYTES_MAX
            && batch.receipts.len() < WORK_REPORTS_PENDING_MAX
            && let Some(receipt) = content.receipts.pop_front()
        {
            bytes += 64;
            batch.receipts.push(receipt);
        }
        let may_write = content.lease.as_ref().is_some_and(|lease| lease.is_valid());
        while may_write
            && bytes < WORK_MESSAGE_BYTES_MAX
            && batch.items.len() < WORK_MESSAGE_ITEMS_MAX
            && let Some(item) = content.items.pop_front()
        {
            bytes += item.intent.len() + item.payload.len();
            content.taken = item.fence.counter;
            batch.items.push(item);
        }
        if batch.items.is_empty() && batch.receipts.is_empty() {
            return match content.end.clone() {
                Some(Ok(())) => Some(None),
                // Said once, then the end.
                Some(Err(error)) => {
                    content.end = Some(Ok(()));
                    Some(Some(Err(error)))
                }
                None => None,
            };
        }
        let rest = !content.items.is_empty() || !content.receipts.is_empty();
        content.waits_since = rest.then(Instant::now);
        drop(content);
        self.reports.add_permits(batch.receipts.len());
        Some(Some(Ok(batch)))
    }

    pub(super) fn put_item(&self, item: WorkItem) {
        let mut content = self.lock();
        content.waits_since.get_or_insert_with(Instant::now);
        content.items.push_back(item);
    }

    pub(super) fn put_receipt(&self, receipt: WorkReceipt) {
        let mut content = self.lock();
        content.waits_since.get_or_insert_with(Instant::now);
        content.receipts.push_back(receipt);
    }

    /// Takes an item back that the worker has not taken.
    pub(super) fn remove(&self, intent_id: &Bytes) {
        let mut content = self.lock();
        content.items.retain(|item| item.intent_id != intent_id);
        content.note_emptied();
    }

    /// Takes back everything that the worker has not taken. Also the counter of the last item that it has.
    pub(super) fn clear_items(&self) -> (VecDeque<WorkItem>, u64) {
        let mut content = self.lock();
        (content.take_items(), content.taken)
    }

    /// Items may be written under this lease, from a leader that counts from 1; `None` takes back what waits.
    pub(super) fn set_lease(&self, lease: Option<Arc<Lease>>) -> VecDeque<WorkItem> {
        let mut content = self.lock();
        content.lease = lease;
        content.taken = 0;
        content.take_items()
    }

    /// Counter of the last item that the worker has taken.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Whether something has waited for longer than this.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let content = self.lock();
        let may_write = content.lease.as_ref().is_some_and(|lease| lease.is_valid());
        ((may_write && !content.items.is_empty()) || !content.receipts.is_empty())
            && content
                .waits_since
                .is_some_and(|since| since.elapsed() >= patience)
    }

    /// Nothing more will come. An error overtakes the items that wait, an orderly end does not.
    pub(super) fn end(&self, how: Result<(), ServiceError>) {
        let mut content = self.lock();
        if how.is_err() {
            content.take_items();
        }
        content.end.get_or_insert(how);
        drop(content);
        self.filled.notify_one();
    }

    pub(super) fn leave(&self) {
        self.lock().left = true;
    }

    pub(super) fn has_left(&self) -> bool {
        self.lock().left
    }

    /// Wakes whoever writes.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
