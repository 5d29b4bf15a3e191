//! Intents of a submitter that still wait for an answer.

use super::batch::{MESSAGE_ITEMS_MAX, MESSAGE_PAYLOAD_BYTES_MAX, payload_bytes};
use super::pipeline::Ended;
use crate::Error;
use crate::types::Receipt;
use baton_protocol::proto::v1;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// An intent on its way from a caller to the connection.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) spec: v1::IntentSpec,
    pub(super) receipt: oneshot::Sender<Result<Receipt, Error>>,
    /// Present when the caller wants to know the end.
    pub(super) ended: Option<oneshot::Sender<Result<Ended, Error>>>,
    /// Given back with the last answer.
    pub(super) place: OwnedSemaphorePermit,
}

/// One that was taken over.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: v1::IntentSpec,
    pub(super) receipt: Option<oneshot::Sender<Result<Receipt, Error>>>,
    pub(super) ended: Option<oneshot::Sender<Result<Ended, Error>>>,
    pub(super) failures: u32,
    pub(super) last: Option<Error>,
    /// Known once there is a receipt, with the time it came.
    pub(super) intent: Option<(String, Instant)>,
    /// Whether it was sent, so that its outcome may be unknown.
    pub(super) sent: bool,
    _place: OwnedSemaphorePermit,
}

impl Entry {
    pub(super) fn has_key(&self) -> bool {
        !self.spec.idempotency_key.is_empty()
    }

    /// The last word, whatever is still due.
    pub(super) fn fail(self, error: &Error) {
        if let Some(receipt) = self.receipt {
            // Whoever dropped the ticket does not want to know.
            _ = receipt.send(Err(error.clone()));
        }
        if let Some(ended) = self.ended {
            _ = ended.send(Err(error.clone()));
        }
    }
}

/// All of them, by request id: which to send, when to repeat, when to give up.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: BTreeMap<u64, Entry>,
    next_id: u64,
    outbox: VecDeque<u64>,
    repeats: BTreeSet<(Instant, u64)>,
    /// In the order of arrival, which is the order of time.
    expiries: VecDeque<(Instant, u64)>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn add(&mut self, item: Item, expires: Instant) {
        self.next_id += 1;
        let entry = Entry {
            spec: item.spec,
            receipt: Some(item.receipt),
            ended: item.ended,
            failures: 0,
            last: None,
            intent: None,
            sent: false,
            _place: item.place,
        };
        self.entries.insert(self.next_id, entry);
        self.outbox.push_back(self.next_id);
        self.expiries.push_back((expires, self.next_id));
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Entry> {
        self.entries.remove(&id)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.outbox.clear();
        self.repeats.clear();
        self.expiries.clear();
        std::mem::take(&mut self.entries).into_values()
    }

    pub(super) fn repeat_at(&mut self, at: Instant, id: u64) {
        self.repeats.insert((at, id));
    }

    /// The next message, bounded in items and bytes.
    pub(super) fn next_message(&mut self) -> v1::SubmitStreamRequest {
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.len() < MESSAGE_ITEMS_MAX && bytes < MESSAGE_PAYLOAD_BYTES_MAX {
            let Some(id) = self.outbox.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            entry.sent = true;
            bytes += payload_bytes(&entry.spec);
            items.push(v1::SubmitStreamItem {
                request_id: id,
                intent: Some(entry.spec.clone()),
                notify_end: entry.ended.is_some(),
            });
        }
        v1::SubmitStreamRequest { items }
    }

    /// A new connection knows nothing: everything is sent again, oldest first. Gives back the ids that were sent before
    /// and may not be.
    pub(super) fn send_all_again(&mut self) -> Vec<u64> {
        self.repeats.clear();
        let (outbox, unsafe_ids) = self
            .entries
            .iter()
            .map(|(&id, entry)| (id, entry.has_key() || !entry.sent))
            .partition::<Vec<_>, _>(|&(_, safe)| safe);
        self.outbox = outbox.into_iter().map(|(id, _)| id).collect();
        unsafe_ids.into_iter().map(|(id, _)| id).collect()
    }

    /// Followed intents whose receipt is older than `age`, with their ids.
    pub(super) fn older_than(&self, age: Duration, now: Instant) -> Vec<(u64, String)> {
        let old = self.entries.iter().filter_map(|(&id, entry)| {
            let (intent_id, at) = entry.intent.as_ref()?;
            (now.duration_since(*at) > age).then(|| (id, intent_id.clone()))
        });
        old.collect()
    }

    /// When something has to be repeated or given up next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let repeat = self.repeats.first().map(|(at, _)| *at);
        let expiry = self.expiries.front().map(|(at, _)| *at);
        repeat.into_iter().chain(expiry).min()
    }

    /// Puts what is due for repetition into the outbox; gives back the ids without a receipt whose time is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u64> {
        while let Some(&(at, id)) = self.repeats.first() {
            if at > now {
                break;
            }
            self.repeats.pop_first();
            if self.entries.contains_key(&id) {
                self.outbox.push_back(id);
            }
        }
        let mut expired = Vec::new();
        while let Some(&(at, id)) = self.expiries.front() {
            // An answered one leaves its place in the queue; it goes with the first that is due.
            let answered = self.entries.get(&id).is_none_or(|entry| entry.receipt.is_none());
            if !answered && at > now {
                break;
            }
            self.expiries.pop_front();
            if !answered {
                expired.push(id);
            }
        }
        expired
    }
}
