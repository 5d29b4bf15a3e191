//! Who wants to know that an intent has ended: one entry per intent and asker, taken out when it is told.

use baton_protocol::IntentId;
use baton_protocol::proto::internal::Event;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Takes terminal events under the token they were asked for with.
pub(crate) type EndSender = mpsc::UnboundedSender<(u64, Event)>;

/// Entries above which those of askers that are gone are looked for.
const SWEEP_AT: usize = 4_096;

/// The waiting of one node. The askers bound how many entries they have.
#[derive(Debug, Default)]
pub(crate) struct EndNotices {
    waiting: Mutex<Waiting>,
    /// Size of `waiting`, so that nothing is locked while nobody waits.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    by_intent: HashMap<IntentId, Vec<Asker>>,
    /// Intents left after the last sweep; the next one is due at twice as many.
    kept: usize,
}

#[derive(Debug)]
struct Asker {
    token: u64,
    to: EndSender,
}

impl EndNotices {
    pub(crate) fn ask(&self, intent: IntentId, token: u64, to: &EndSender) {
        let mut waiting = self.lock();
        waiting.sweep();
        let asker = Asker {
            token,
            to: to.clone(),
        };
        waiting.by_intent.entry(intent).or_default().push(asker);
        self.count.store(waiting.by_intent.len(), Ordering::Release);
    }

    pub(crate) fn forget(&self, intent: IntentId, token: u64) {
        let mut waiting = self.lock();
        if let Some(askers) = waiting.by_intent.get_mut(&intent) {
            askers.retain(|asker| asker.token != token);
            if askers.is_empty() {
                waiting.by_intent.remove(&intent);
            }
        }
        self.count.store(waiting.by_intent.len(), Ordering::Release);
    }

    /// Tells of every end among `events`.
    pub(crate) fn tell(&self, events: &[Event]) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut ended = events
            .iter()
            .filter(|event| event.status().is_terminal())
            .peekable();
        if ended.peek().is_none() {
            return;
        }
        let mut waiting = self.lock();
        for event in ended {
            let id = IntentId::from_slice(&event.intent_id);
            for asker in id
                .and_then(|id| waiting.by_intent.remove(&id))
                .unwrap_or_default()
            {
                // An asker that is gone needs no answer.
                let _ = asker.to.send((asker.token, event.clone()));
            }
        }
        self.count.store(waiting.by_intent.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Drops entries of askers that are gone, seldom enough that it costs each new entry next to nothing.
    fn sweep(&mut self) {
        if self.by_intent.len() < SWEEP_AT.max(self.kept.saturating_mul(2)) {
            return;
        }
        self.by_intent.retain(|_, askers| {
            askers.retain(|asker| !asker.to.is_closed());
            !askers.is_empty()
        });
        self.kept = self.by_intent.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;
    use baton_protocol::proto::internal::Status;

    fn id(n: u64) -> IntentId {
        IntentId::new(n, Slot::from_bits(1), n)
    }

    fn event(n: u64, status: Status) -> Event {
        Event {
            intent_id: id(n).to_bytes(),
            status: status.into(),
            ..Event::default()
        }
    }

    #[test]
    fn each_asker_is_told_once_and_only_of_the_end() {
        let notices = EndNotices::default();
        let (to, mut told) = mpsc::unbounded_channel();
        notices.ask(id(1), 10, &to);
        notices.ask(id(1), 11, &to);
        notices.ask(id(2), 12, &to);
        notices.forget(id(2), 12);
        notices.tell(&[event(1, Status::Delivered)]);
        assert!(told.try_recv().is_err());
        notices.tell(&[event(2, Status::Completed), event(1, Status::Failed)]);
        let tokens: Vec<u64> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|(token, _)| token)
            .collect();
        assert_eq!(tokens, [10, 11]);
        notices.tell(&[event(1, Status::Failed)]);
        assert!(told.try_recv().is_err());
        assert_eq!(notices.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn those_who_are_gone_do_not_pile_up() {
        let notices = EndNotices::default();
        for n in 0..10 * SWEEP_AT as u64 {
            let (to, _) = mpsc::unbounded_channel();
            notices.ask(id(n), n, &to);
        }
        assert!(notices.count.load(Ordering::Acquire) <= SWEEP_AT);
    }
}
