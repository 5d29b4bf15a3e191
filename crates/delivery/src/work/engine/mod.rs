//! Who has what: workers, their credits, their items and fences. Sole owner of this state is the group's task.
//!
//! # Invariants
//! - A delivery is held by at most one worker, under the newest fence that was given for its intent.
//! - A worker never gets more items than it granted credits.
//! - What a report changes, it changes under the fence of the item as it is now.

mod agent;
mod assign;
mod output;
mod reports;
mod upkeep;
mod worker;

pub(super) use output::{Cause, Output, Proposal};
pub(super) use upkeep::SWEEP;
pub(super) use worker::WorkerKey;

use crate::dispatch::GroupDispatch;
use crate::ports::LedGroup;
use crate::settings::{DeliverySettings, WORKERS_PER_STREAM_MAX};
use agent::Agent;
use baton_protocol::limits::{WORK_CREDITS_MAX, WORK_LEASE_MAX_MS, WORK_LEASE_MIN_MS};
use baton_protocol::proto::internal::{
    AgentRef, AttemptFence, AttemptLost, HeldAttempt, Intent, WorkerClosed, WorkerCredits, WorkerOpen,
    WorkerWritten,
};
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use worker::{Held, Stage, Start, Worker};

/// One node's stream, as far as handing out concerns it.
#[derive(Debug, Default)]
struct Session {
    /// Items that its stream may still be given in this round.
    room: usize,
    workers: usize,
}

/// The soft state of all workers of a led group.
pub(super) struct Engine {
    led: Arc<dyn LedGroup>,
    /// The listeners' side.
    dispatch: Arc<GroupDispatch>,
    settings: DeliverySettings,
    /// Until then, workers of an earlier leadership may come and say what they hold.
    quiet_until: Option<Instant>,
    counter: u64,
    sessions: HashMap<u64, Session>,
    agents: HashMap<Arc<str>, Agent>,
    workers: HashMap<WorkerKey, Worker>,
    held: HashMap<IntentId, Held>,
    /// Handed back, and not to be offered before.
    delays: HashMap<(Arc<str>, IntentId), Instant>,
    /// Agents to look at in this round.
    queue: Vec<Arc<str>>,
    /// Agents that had to stop because a stream was full.
    starved: Vec<Arc<str>>,
    pub(super) out: Output,
}

impl Engine {
    pub(super) fn new(
        led: Arc<dyn LedGroup>,
        dispatch: Arc<GroupDispatch>,
        settings: DeliverySettings,
        now: Instant,
    ) -> Self {
        Self {
            led,
            dispatch,
            settings,
            quiet_until: Some(now + settings.work_grace()),
            counter: 0,
            sessions: HashMap::new(),
            agents: HashMap::new(),
            workers: HashMap::new(),
            held: HashMap::new(),
            delays: HashMap::new(),
            queue: Vec::new(),
            starved: Vec::new(),
            out: Output::default(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn open_session(&mut self, session: u64) {
        self.sessions.insert(session, Session::default());
    }

    /// The stream of a node is gone. Its workers may come back on another one.
    pub(super) fn close_session(&mut self, session: u64, now: Instant) {
        self.sessions.remove(&session);
        let until = now + self.settings.work_grace();
        let lost: Vec<WorkerKey> = self
            .workers
            .keys()
            .copied()
            .filter(|key| key.session == session)
            .collect();
        for key in lost {
            self.stop_taking(key);
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.orphan_until = Some(until);
            }
        }
    }

    /// A worker enters, perhaps with items from before.
    pub(super) fn open(&mut self, session: u64, request: WorkerOpen, now: Instant) {
        let key = WorkerKey {
            session,
            worker: request.worker,
        };
        let reference = request.agent.unwrap_or_default();
        let Some(state) = self.sessions.get_mut(&session) else {
            return;
        };
        if reference.key.is_empty() || self.workers.contains_key(&key) {
            self.refuse(
                key,
                ErrorCode::InvalidArgument,
                "worker names no agent, or exists already",
            );
            return;
        }
        if state.workers >= WORKERS_PER_STREAM_MAX {
            self.refuse(
                key,
                ErrorCode::Unavailable,
                "too many workers on one node; use another one",
            );
            return;
        }
        state.workers += 1;
        let name = self.enter(reference);
        let lease_ms = request.lease_ms.clamp(WORK_LEASE_MIN_MS, WORK_LEASE_MAX_MS);
        self.workers.insert(
            key,
            Worker {
                agent: name,
                actor: request.actor.unwrap_or_default(),
                lease: Duration::from_millis(lease_ms.into()),
                credits: 0,
                items: HashSet::new(),
                stopped: false,
                orphan_until: None,
            },
        );
        for held in request.held {
            self.honour(key, &held, now);
        }
        self.credit(
            session,
            &WorkerCredits {
                worker: request.worker,
                credits: request.credits,
            },
        );
    }

    fn enter(&mut self, reference: AgentRef) -> Arc<str> {
        let name: Arc<str> = Arc::from(reference.key.as_str());
        let agent = self
            .agents
            .entry(Arc::clone(&name))
            .or_insert_with(|| Agent::new(reference));
        agent.workers += 1;
        name
    }

    /// A worker says that it holds an item from before. It does, unless the item was given to somebody else, has
    /// failed, or is over.
    fn honour(&mut self, key: WorkerKey, claim: &HeldAttempt, now: Instant) {
        let (Some(id), Some(fence)) = (IntentId::from_slice(&claim.intent_id), claim.fence) else {
            return;
        };
        let lease = match self.workers.get(&key) {
            Some(worker) => worker.lease,
            None => return,
        };
        let age = Duration::from_millis(claim.age_ms.into());
        let due = now + lease.saturating_sub(age).max(self.settings.work_grace());
        if let Some(held) = self.held.get_mut(&id) {
            // Only the node of the worker knows the fence: its earlier stream may not be seen as lost yet.
            if held.fence != fence || matches!(held.stage, Stage::Failing | Stage::FailAgain) {
                self.lose(key, id, fence);
                return;
            }
            if held.stage == Stage::Sent {
                (held.stage, held.due) = (Stage::Written, due);
            }
            let before = std::mem::replace(&mut held.worker, key);
            if let Some(worker) = self.workers.get_mut(&before) {
                worker.items.remove(&id);
            }
            if let Some(worker) = self.workers.get_mut(&key) {
                worker.items.insert(id);
            }
            return;
        }
        match self.open_cursor(key, id, fence, claim.cursor) {
            Some((cursor, start)) => self.hold(key, id, fence, (cursor, due, start)),
            None => self.lose(key, id, fence),
        }
    }

    /// The cursor of an open delivery that an earlier leader gave out under `fence`, at `given` unless that is 0, and whether
    /// its time is to run.
    fn open_cursor(
        &self,
        key: WorkerKey,
        id: IntentId,
        fence: AttemptFence,
        given: u64,
    ) -> Option<(u64, Start)> {
        if fence.term >= self.led.term() {
            return None;
        }
        let agent = &self.workers.get(&key)?.agent;
        let intent = self.header(id).ok().flatten()?;
        let cursor = if given == 0 { intent.mailbox_cursor } else { given };
        let open = is_open_at(&intent, agent, cursor) && !intent.status().is_terminal();
        let limits = intent.limits.unwrap_or_default();
        // An earlier leader may have told the log: a second time changes nothing.
        let start = match limits.execution_timeout_seconds {
            Some(_) => Start::Wanted,
            None => Start::Untimed,
        };
        open.then_some((cursor, start))
    }

    fn header(&self, id: IntentId) -> Result<Option<Intent>, ServiceError> {
        let rows = self.led.delivery_rows(&[id], 0)?;
        let Some(row) = rows.into_iter().next().flatten() else {
            return Ok(None);
        };
        Intent::decode(row.intent).map(Some).map_err(|_| {
            ServiceError::new(
                ErrorCode::Internal,
                "an intent row cannot be decoded; see this node's log",
            )
        })
    }

    fn hold(
        &mut self,
        key: WorkerKey,
        id: IntentId,
        fence: AttemptFence,
        (cursor, due, start): (u64, Instant, Start),
    ) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        worker.items.insert(id);
        let name = Arc::clone(&worker.agent);
        if let Some(agent) = self.agents.get_mut(&name) {
            agent.remove(cursor);
            agent.held += 1;
        }
        self.dispatch.reclaim(&name, cursor);
        self.held.insert(
            id,
            Held {
                agent: name,
                cursor,
                fence,
                worker: key,
                stage: Stage::Written,
                due,
                start,
            },
        );
    }

    /// Attempts at this item may only take so long.
    pub(super) fn time(&mut self, id: IntentId) {
        if let Some(held) = self.held.get_mut(&id)
            && held.start == Start::Untimed
        {
            held.start = Start::Wanted;
        }
    }

    /// Adds to a worker's credits.
    pub(super) fn credit(&mut self, session: u64, more: &WorkerCredits) {
        let key = WorkerKey {
            session,
            worker: more.worker,
        };
        let Some(worker) = self.workers.get_mut(&key).filter(|w| !w.stopped) else {
            return;
        };
        if more.credits == 0 {
            return;
        }
        let had_none = worker.credits == 0;
        // The worker's node refuses more than this; a leader does not rely on it.
        worker.credits = worker.credits.saturating_add(more.credits).min(WORK_CREDITS_MAX);
        let name = Arc::clone(&worker.agent);
        if had_none && let Some(agent) = self.agents.get_mut(&name) {
            agent.turn.push_back(key);
        }
        self.look_at(&name);
    }

    /// Items up to a counter were written to the worker: their leases count from now.
    pub(super) fn written(&mut self, session: u64, mark: &WorkerWritten, now: Instant) {
        let key = WorkerKey {
            session,
            worker: mark.worker,
        };
        let Some(worker) = self.workers.get(&key) else {
            return;
        };
        let (term, due) = (self.led.term(), now + worker.lease);
        for id in &worker.items {
            if let Some(held) = self.held.get_mut(id)
                && held.stage == Stage::Sent
                && held.fence.term == term
                && held.fence.counter <= mark.counter
            {
                (held.stage, held.due) = (Stage::Written, due);
            }
        }
    }

    fn refuse(&mut self, key: WorkerKey, code: ErrorCode, message: &str) {
        let closed = WorkerClosed {
            worker: key.worker,
            code: code.number(),
            message: message.to_owned(),
        };
        self.out.closed.push((key.session, closed));
    }

    /// Tells a worker's node that the worker no longer holds the item.
    fn lose(&mut self, key: WorkerKey, id: IntentId, fence: AttemptFence) {
        let lost = AttemptLost {
            worker: key.worker,
            intent_id: id.to_bytes(),
            fence: Some(fence),
        };
        self.out.lost.push((key.session, lost));
    }

    fn look_at(&mut self, name: &Arc<str>) {
        if let Some(agent) = self.agents.get_mut(name)
            && !agent.queued
        {
            agent.queued = true;
            self.queue.push(Arc::clone(name));
        }
    }

    /// Removes an item from its worker. Whether listeners have passed over its cursor.
    fn forget(&mut self, id: IntentId) -> Option<(Held, bool)> {
        let held = self.held.remove(&id)?;
        if let Some(worker) = self.workers.get_mut(&held.worker) {
            worker.items.remove(&id);
        }
        let passed = self.dispatch.release(&held.agent, held.cursor);
        if let Some(agent) = self.agents.get_mut(&held.agent) {
            agent.held -= 1;
        }
        // The worker may have been full, or the agent idle by now.
        self.look_at(&Arc::clone(&held.agent));
        Some((held, passed))
    }

    /// Puts an item back that nobody has worked on: the same attempt goes to somebody else.
    fn release(&mut self, id: IntentId) {
        let Some((held, passed)) = self.forget(id) else {
            return;
        };
        if passed {
            self.out.proposals.push(Proposal::redeliver(id, held.cursor));
        } else if let Some(agent) = self.agents.get_mut(&held.agent) {
            agent.ready.insert(held.cursor, id);
        }
    }

    /// The worker gets nothing more.
    fn stop_taking(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut worker.stopped, true) {
            return;
        }
        worker.credits = 0;
        let name = Arc::clone(&worker.agent);
        if let Some(agent) = self.agents.get_mut(&name) {
            agent.workers -= 1;
            agent.turn.retain(|k| *k != key);
        }
        self.look_at(&name);
    }
}

/// Whether a header is that of an open delivery to this agent at this cursor.
fn is_open_at(intent: &Intent, agent: &str, cursor: u64) -> bool {
    cursor != 0
        && intent.mailbox_cursor == cursor
        && intent.holder().is_some_and(|holder| holder.key == agent)
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("workers", &self.workers.len())
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}
