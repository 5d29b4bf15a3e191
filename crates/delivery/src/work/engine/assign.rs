//! Handing out: the oldest delivery to the worker whose turn it is.

use super::output::Grant;
use super::worker::{Held, Stage, Start, WorkerKey};
use super::{Engine, Proposal, is_open_at};
use crate::settings::{WORK_READY_PAGE, WORK_ROUND_ITEMS_MAX};
use baton_protocol::IntentId;
use baton_protocol::limits::WORK_CREDITS_MAX;
use baton_protocol::proto::internal::AttemptFence;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::warn;

impl Engine {
    /// A stream has taken what it was given: it may be given one round more.
    pub(in crate::work) fn make_room(&mut self, session: u64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.room = WORK_ROUND_ITEMS_MAX;
        }
        for name in std::mem::take(&mut self.starved) {
            self.look_at(&name);
        }
    }

    /// Hands out whatever can be handed out now.
    pub(in crate::work) fn assign(&mut self, now: Instant) {
        let quiet = self.quiet_until.is_some();
        while let Some(name) = self.queue.pop() {
            if let Some(agent) = self.agents.get_mut(&name) {
                agent.queued = false;
            }
            self.read_page(&name);
            while let Some(key) = self.hand_out(&name, quiet, now) {
                self.next_turn(&name, key);
                self.read_page(&name);
            }
            self.settle(&name);
        }
    }

    /// Gives the oldest delivery to the next worker that can take it; `None` when there is no such pair.
    fn hand_out(&mut self, name: &Arc<str>, quiet: bool, now: Instant) -> Option<WorkerKey> {
        loop {
            let (cursor, id) = self.agents.get(name)?.next(quiet)?;
            let key = self.next_worker(name)?;
            let agent = self.agents.get_mut(name)?;
            agent.ready.remove(&cursor);
            if !self.is_free(name, cursor, id) {
                continue;
            }
            // With a listener: it comes back under another cursor, or is done.
            if self.with_endpoint(name, id) || !self.dispatch.claim(name, cursor) {
                continue;
            }
            let agent = self.agents.get_mut(name)?;
            agent.held += 1;
            self.counter += 1;
            let fence = AttemptFence {
                term: self.led.term(),
                counter: self.counter,
            };
            self.held.insert(
                id,
                Held {
                    agent: Arc::clone(name),
                    cursor,
                    fence,
                    worker: key,
                    stage: Stage::Sent,
                    due: now,
                    start: Start::Untimed,
                },
            );
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.credits -= 1;
                worker.items.insert(id);
            }
            if let Some(session) = self.sessions.get_mut(&key.session) {
                session.room -= 1;
            }
            self.out.grants.push(Grant {
                key,
                counter: self.counter,
                cursor,
                intent_id: id,
            });
            return Some(key);
        }
    }

    /// Whether a push agent's endpoint took this delivery, or waits for its next attempt: it stays there.
    fn with_endpoint(&self, name: &Arc<str>, id: IntentId) -> bool {
        self.dispatch.is_pushed(name)
            && self
                .header(id)
                .ok()
                .flatten()
                .is_some_and(|intent| self.dispatch.is_with_endpoint(name, &intent))
    }

    /// Brings a worker to the front that has room for an item.
    fn next_worker(&mut self, name: &Arc<str>) -> Option<WorkerKey> {
        let agent = self.agents.get_mut(name)?;
        let mut full_stream = false;
        for _ in 0..agent.turn.len() {
            let key = *agent.turn.front()?;
            let room = self.sessions.get(&key.session).is_some_and(|s| s.room > 0);
            let worker = self.workers.get(&key)?;
            if room && worker.items.len() < WORK_CREDITS_MAX as usize {
                return Some(key);
            }
            full_stream |= !room;
            agent.turn.rotate_left(1);
        }
        if full_stream {
            self.starved.push(Arc::clone(name));
        }
        None
    }

    /// One item each: the worker goes to the back, or out when its credits are used up.
    fn next_turn(&mut self, name: &Arc<str>, key: WorkerKey) {
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        agent.turn.pop_front();
        if self.workers.get(&key).is_some_and(|w| w.credits > 0) {
            agent.turn.push_back(key);
        }
    }

    /// Reads on in the tables when little is left in memory.
    fn read_page(&mut self, name: &Arc<str>) {
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        let Some(since) = agent.wants_page() else {
            return;
        };
        let page = match self.led.open_deliveries(&agent.reference, since, WORK_READY_PAGE) {
            Ok(page) => page,
            Err(error) => {
                warn!(group_id = self.led.group_id().0, agent = %name, %error, "cannot read a mailbox");
                return;
            }
        };
        for (cursor, id) in &page {
            self.displace(name, *cursor, *id);
        }
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        let last = page.last().map(|(cursor, _)| *cursor);
        agent.page_read(last, page.len() >= WORK_READY_PAGE);
        if self.quiet_until.is_some() {
            agent.quiet_to = agent.quiet_to.max(last.unwrap_or(0));
        }
        for (cursor, id) in page {
            if !self.held.contains_key(&id) {
                agent.add(cursor, id, self.delays.get(&(Arc::clone(name), id)).copied());
            }
        }
    }

    /// The tables show this open delivery of an intent. Whoever holds another one of it holds what is over; that withdrawal is
    /// still to come, and comes too late for this one.
    fn displace(&mut self, name: &Arc<str>, cursor: u64, id: IntentId) {
        let other = self
            .held
            .get(&id)
            .filter(|held| held.cursor != cursor || held.agent != *name);
        if let Some((former, cursor)) = other.map(|held| (Arc::clone(&held.agent), held.cursor)) {
            self.withdraw(&former, cursor, id);
        }
    }

    /// Whether a delivery can be handed out. Not when the intent is held by somebody to whom it was delivered since.
    fn is_free(&mut self, name: &Arc<str>, cursor: u64, id: IntentId) -> bool {
        if !self.held.contains_key(&id) {
            return true;
        }
        let open = self.header(id).ok().flatten();
        let open = open.is_some_and(|intent| is_open_at(&intent, name, cursor));
        if open {
            self.displace(name, cursor, id);
        }
        open && !self.held.contains_key(&id)
    }

    /// Tells the listeners' side about credit, and forgets an agent without workers and items.
    fn settle(&mut self, name: &Arc<str>) {
        let Some(agent) = self.agents.get_mut(name) else {
            return;
        };
        let credit = !agent.turn.is_empty();
        if credit != agent.credit_told {
            agent.credit_told = credit;
            self.dispatch.set_credit(name, credit);
        }
        if agent.workers == 0 && agent.held == 0 {
            self.agents.remove(name);
        }
    }

    /// The rows of a granted item cannot be read, or its withdrawal is on the way: the worker gets its credit back.
    pub(in crate::work) fn take_back(&mut self, grant: Grant) {
        self.release(grant.intent_id);
        self.credit(
            grant.key.session,
            &baton_protocol::proto::internal::WorkerCredits {
                worker: grant.key.worker,
                credits: 1,
            },
        );
    }

    /// An open delivery got a cursor.
    pub(in crate::work) fn deliver(&mut self, agent_key: &str, cursor: u64, id: IntentId, now: Instant) {
        let Some((name, agent)) = self
            .agents
            .get_key_value(agent_key)
            .map(|(n, _)| Arc::clone(n))
            .and_then(|name| self.agents.get_mut(&name).map(|agent| (name, agent)))
        else {
            return;
        };
        if agent.takes(cursor) {
            let due = self.delays.get(&(Arc::clone(&name), id)).copied();
            let due = due.filter(|due| *due > now);
            agent.add(cursor, id, due);
            self.look_at(&name);
        }
    }

    /// The open delivery at this cursor is gone.
    pub(in crate::work) fn withdraw(&mut self, agent_key: &str, cursor: u64, id: IntentId) {
        match self.held.get(&id) {
            Some(held) if held.cursor == cursor && held.agent.as_ref() == agent_key => {
                let (key, fence, stage) = (held.worker, held.fence, held.stage);
                self.forget(id);
                // Otherwise the worker knows already, or gets a receipt.
                if matches!(stage, Stage::Sent | Stage::Written) {
                    self.lose(key, id, fence);
                }
            }
            Some(_) | None => {
                if let Some(agent) = self.agents.get_mut(agent_key) {
                    agent.remove(cursor);
                }
            }
        }
    }

    /// Tells the log that an attempt failed.
    pub(super) fn fail(&mut self, id: IntentId, receipt: Option<(u64, u64)>) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        held.stage = Stage::Failing;
        let (key, fence, cursor) = (held.worker, held.fence, held.cursor);
        if receipt.is_none() {
            self.lose(key, id, fence);
        }
        self.out.proposals.push(Proposal::fail(id, cursor, receipt));
    }
}
