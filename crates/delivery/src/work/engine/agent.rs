//! What waits for one agent, and whose turn it is.

use super::WorkerKey;
use crate::settings::WORK_READY_ITEMS_MAX;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::AgentRef;
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// An agent with workers, or with items that its former workers still count for.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) reference: AgentRef,
    /// Open deliveries to offer, by cursor.
    pub(super) ready: BTreeMap<u64, IntentId>,
    /// Open deliveries that were handed back for later.
    pub(super) delayed: BTreeMap<(Instant, u64), IntentId>,
    /// Every open delivery up to here is known: ready, delayed, held, or with a listener.
    read_to: u64,
    /// Nothing lies above `read_to` in the tables, so what is applied is added here.
    complete: bool,
    /// Up to here, deliveries are older than this leadership: somebody may come and say that they hold them.
    pub(super) quiet_to: u64,
    /// Workers with credit; the first is next.
    pub(super) turn: VecDeque<WorkerKey>,
    /// Workers that have not stopped.
    pub(super) workers: usize,
    /// Items that workers hold.
    pub(super) held: usize,
    /// Whether the listeners' side has been told that there is credit.
    pub(super) credit_told: bool,
    /// Whether the agent is queued to be looked at.
    pub(super) queued: bool,
}

impl Agent {
    pub(super) fn new(reference: AgentRef) -> Self {
        Self {
            reference,
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            read_to: 0,
            complete: false,
            quiet_to: 0,
            turn: VecDeque::new(),
            workers: 0,
            held: 0,
            credit_told: false,
            queued: false,
        }
    }

    /// From where to read the tables, when they hold more than is known here and little is left.
    pub(super) fn wants_page(&self) -> Option<u64> {
        (!self.complete && !self.turn.is_empty() && self.ready.len() < WORK_READY_ITEMS_MAX / 16)
            .then_some(self.read_to)
    }

    /// A page of the tables was read; `more` may follow.
    pub(super) fn page_read(&mut self, last: Option<u64>, more: bool) {
        self.read_to = last.unwrap_or(self.read_to);
        self.complete = !more;
    }

    /// Whether a newly applied delivery is to be added; otherwise it is known or will be read.
    pub(super) fn takes(&mut self, cursor: u64) -> bool {
        if !self.complete || cursor <= self.read_to {
            return false;
        }
        if self.ready.len() + self.delayed.len() >= WORK_READY_ITEMS_MAX {
            self.complete = false;
            return false;
        }
        self.read_to = cursor;
        true
    }

    pub(super) fn add(&mut self, cursor: u64, intent_id: IntentId, not_before: Option<Instant>) {
        match not_before {
            Some(due) => self.delayed.insert((due, cursor), intent_id),
            None => self.ready.insert(cursor, intent_id),
        };
    }

    /// The delivery at `cursor` is gone.
    pub(super) fn remove(&mut self, cursor: u64) {
        if self.ready.remove(&cursor).is_none() && !self.delayed.is_empty() {
            self.delayed.retain(|(_, c), _| *c != cursor);
        }
    }

    /// Moves what was handed back until now to the rest. Whether anything was.
    pub(super) fn wake_delayed(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let cursor = entry.key().1;
            let intent_id = entry.remove();
            self.ready.insert(cursor, intent_id);
            any = true;
        }
        any
    }

    /// The oldest delivery to offer. While it is `quiet`, only such as nobody can hold yet.
    pub(super) fn next(&self, quiet: bool) -> Option<(u64, IntentId)> {
        let from = if quiet { self.quiet_to + 1 } else { 0 };
        self.ready.range(from..).next().map(|(cursor, id)| (*cursor, *id))
    }

    /// Forgets what was read: the tables are read again from the start.
    pub(super) fn reread(&mut self) {
        self.ready.clear();
        self.delayed.clear();
        self.read_to = 0;
        self.complete = false;
    }
}
