//! Hands applied entries of this node's replicas to whoever watches: event streams, delivery, long polls.

use crate::cluster_time::ClusterTime;
use crate::end_notices::{EndNotices, EndSender};
use baton_protocol::{GroupId, GroupMap, IntentId};
use baton_raft_storage::ApplyObserver;
use baton_state_machine::Applied;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, watch};

/// Entries a slow subscriber may fall behind before it must read the tables again.
pub const APPLIED_ENTRIES_BUFFERED: usize = 1_024;
/// Watched intents above which forgotten ones are swept.
const SWEEP_AT: usize = 1_024;

/// One applied log entry.
#[derive(Debug, Clone)]
pub struct AppliedEntry {
    pub group: GroupId,
    pub log_index: u64,
    pub term: u64,
    /// Shared, so that handing it on costs nothing.
    pub applied: Arc<Applied>,
}

/// One hub per node.
pub(crate) struct ApplyHub {
    groups: HashMap<GroupId, broadcast::Sender<Arc<AppliedEntry>>>,
    intents: Mutex<HashMap<IntentId, watch::Sender<u64>>>,
    /// Size of `intents`, so that nothing is locked while nobody watches.
    watched: AtomicUsize,
    ends: EndNotices,
    time: Arc<ClusterTime>,
}

impl std::fmt::Debug for ApplyHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplyHub")
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}

impl ApplyHub {
    pub(crate) fn new(map: GroupMap, time: Arc<ClusterTime>) -> Self {
        let sender = |group| (group, broadcast::Sender::new(APPLIED_ENTRIES_BUFFERED));
        Self {
            groups: map.all().map(sender).collect(),
            intents: Mutex::default(),
            watched: AtomicUsize::new(0),
            ends: EndNotices::default(),
            time,
        }
    }

    pub(crate) fn subscribe(&self, group: GroupId) -> Option<broadcast::Receiver<Arc<AppliedEntry>>> {
        self.groups.get(&group).map(broadcast::Sender::subscribe)
    }

    /// Wakes with the sequence number of the intent's newest event applied here. Starts at 0: read the tables after
    /// subscribing.
    pub(crate) fn watch_intent(&self, intent: IntentId) -> watch::Receiver<u64> {
        let mut intents = self.lock();
        if intents.len() >= SWEEP_AT {
            intents.retain(|_, sender| sender.receiver_count() > 0);
        }
        let receiver = intents
            .entry(intent)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe();
        self.watched.store(intents.len(), Ordering::Release);
        receiver
    }

    /// Sends the terminal event of `intent` to `to` once it is applied here.
    pub(crate) fn notify_end(&self, intent: IntentId, token: u64, to: &EndSender) {
        self.ends.ask(intent, token, to);
    }

    /// Takes back what `notify_end` asked for.
    pub(crate) fn forget_end(&self, intent: IntentId, token: u64) {
        self.ends.forget(intent, token);
    }

    fn wake(&self, applied: &Applied) {
        let mut intents = self.lock();
        for event in &applied.events {
            let Some(id) = IntentId::from_slice(&event.intent_id) else {
                continue;
            };
            let Some(sender) = intents.get(&id) else { continue };
            if sender.receiver_count() == 0 {
                intents.remove(&id);
            } else {
                sender.send_replace(u64::from(event.seq));
            }
        }
        self.watched.store(intents.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IntentId, watch::Sender<u64>>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApplyObserver for ApplyHub {
    fn applied(&self, group: GroupId, log_index: u64, term: u64, applied: &Arc<Applied>) {
        self.time.observe_log_time(applied.log_time_ms);
        if !applied.events.is_empty() && self.watched.load(Ordering::Acquire) > 0 {
            self.wake(applied);
        }
        self.ends.tell(&applied.events);
        let Some(sender) = self.groups.get(&group) else {
            return;
        };
        if sender.receiver_count() > 0 {
            let entry = AppliedEntry {
                group,
                log_index,
                term,
                applied: Arc::clone(applied),
            };
            // No receiver left in this moment: nobody to tell.
            let _ = sender.send(Arc::new(entry));
        }
    }
}
