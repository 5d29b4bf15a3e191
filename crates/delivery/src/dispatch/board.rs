//! Who listens to what, and what waits to be told to which stream.

use super::claims::Claims;
use super::ledger::Ledger;
use crate::settings::{DeliverySettings, SUBSCRIPTIONS_PER_STREAM_MAX, WINDOW_ITEMS_MAX};
use baton_protocol::proto::internal::{AgentRef, FeedClosed, FeedSubscribe};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// A listener as the leader sees it.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) agent: AgentRef,
    pub(super) key: Arc<str>,
    pub(super) credential: Arc<str>,
    /// Cursor of the last delivery sent: what follows is read from the tables at the listener's own pace.
    position: u64,
    /// Sent and not yet taken.
    in_flight: VecDeque<u64>,
    queued: bool,
}

/// What to read for one listener.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) sub_id: u64,
    pub(super) agent: AgentRef,
    pub(super) key: Arc<str>,
    pub(super) credential: Arc<str>,
    pub(super) since: u64,
    /// At most [`WINDOW_ITEMS_MAX`], never 0.
    pub(super) room: usize,
}

/// One stream of a listening node.
#[derive(Debug)]
struct Session {
    wake: Arc<Notify>,
    lease: Option<u64>,
    closed: VecDeque<FeedClosed>,
    subs: HashMap<u64, Subscription>,
    /// Listeners that may have something to read.
    queue: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Audience {
    listeners: BTreeSet<(u64, u64)>,
    /// Every open delivery up to here is in the ledger, so that a listener who has seen it needs no scan.
    inferred_to: u64,
}

/// All soft state of one led group.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) ledger: Ledger,
    pub(super) claims: Claims,
    sessions: HashMap<u64, Session>,
    agents: HashMap<Arc<str>, Audience>,
    last_session: u64,
    listeners: usize,
}

impl Board {
    pub(super) fn new(settings: DeliverySettings) -> Self {
        Self {
            ledger: Ledger::new(settings),
            claims: Claims::default(),
            sessions: HashMap::new(),
            agents: HashMap::new(),
            last_session: 0,
            listeners: 0,
        }
    }

    pub(super) fn listeners(&self) -> usize {
        self.listeners
    }

    pub(super) fn open_session(&mut self) -> (u64, Arc<Notify>) {
        self.last_session += 1;
        let wake = Arc::new(Notify::new());
        let session = Session {
            wake: Arc::clone(&wake),
            lease: None,
            closed: VecDeque::new(),
            subs: HashMap::new(),
            queue: VecDeque::new(),
        };
        self.sessions.insert(self.last_session, session);
        (self.last_session, wake)
    }

    pub(super) fn close_session(&mut self, id: u64) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for (sub_id, sub) in session.subs {
            self.leave(id, sub_id, &sub.key);
        }
    }

    /// The cursor up to which nothing needs to be inferred for this agent.
    pub(super) fn inferred_to(&self, agent: &str) -> u64 {
        self.agents.get(agent).map_or(0, |a| a.inferred_to)
    }

    pub(super) fn set_inferred_to(&mut self, agent: &Arc<str>, cursor: u64) {
        let audience = self.agents.entry(Arc::clone(agent)).or_default();
        audience.inferred_to = audience.inferred_to.max(cursor);
    }

    pub(super) fn subscribe(&mut self, session_id: u64, request: FeedSubscribe, key: &Arc<str>) {
        let sub_id = request.sub_id;
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return;
        };
        if session.subs.contains_key(&sub_id) || session.subs.len() >= SUBSCRIPTIONS_PER_STREAM_MAX {
            self.refuse(session_id, sub_id, "too many listeners on one node");
            return;
        }
        let sub = Subscription {
            agent: request.agent.unwrap_or_default(),
            key: Arc::clone(key),
            credential: Arc::from(request.credential),
            position: request.since,
            in_flight: VecDeque::new(),
            queued: false,
        };
        session.subs.insert(sub_id, sub);
        self.listeners += 1;
        let audience = self.agents.entry(Arc::clone(key)).or_default();
        audience.listeners.insert((session_id, sub_id));
        self.enqueue(session_id, sub_id);
    }

    pub(super) fn unsubscribe(&mut self, session_id: u64, sub_id: u64) {
        let sub = self
            .sessions
            .get_mut(&session_id)
            .and_then(|s| s.subs.remove(&sub_id));
        if let Some(sub) = sub {
            self.leave(session_id, sub_id, &sub.key);
        }
    }

    /// Ends a subscription and says why.
    pub(super) fn refuse(&mut self, session_id: u64, sub_id: u64, reason: &str) {
        self.unsubscribe(session_id, sub_id);
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.closed.push_back(FeedClosed {
                sub_id,
                reason: reason.to_owned(),
            });
            session.wake.notify_one();
        }
    }

    pub(super) fn ask_lease(&mut self, session_id: u64, nonce: u64) {
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.lease = Some(nonce);
            session.wake.notify_one();
        }
    }

    /// The agent's mailbox may hold something new.
    pub(super) fn wake_agent(&mut self, agent: &str) {
        let Some(audience) = self.agents.get(agent) else {
            return;
        };
        let listeners: Vec<_> = audience.listeners.iter().copied().collect();
        for (session_id, sub_id) in listeners {
            self.enqueue(session_id, sub_id);
        }
    }

    pub(super) fn wake_all(&mut self) {
        let agents: Vec<_> = self.agents.keys().cloned().collect();
        for agent in agents {
            self.wake_agent(&agent);
        }
    }

    /// The listener took everything up to `cursor`: the agent and the cursors that are newly taken.
    pub(super) fn taken(
        &mut self,
        session_id: u64,
        sub_id: u64,
        cursor: u64,
    ) -> Option<(Arc<str>, Vec<u64>)> {
        let session = self.sessions.get_mut(&session_id)?;
        let sub = session.subs.get_mut(&sub_id)?;
        let count = sub.in_flight.partition_point(|c| *c <= cursor);
        let taken: Vec<u64> = sub.in_flight.drain(..count).collect();
        let key = Arc::clone(&sub.key);
        if !taken.is_empty() {
            self.enqueue(session_id, sub_id);
        }
        Some((key, taken))
    }

    /// The nonce of a lease that was asked for.
    pub(super) fn take_lease(&mut self, session_id: u64) -> Option<u64> {
        self.sessions.get_mut(&session_id)?.lease.take()
    }

    pub(super) fn take_closed(&mut self, session_id: u64) -> Option<FeedClosed> {
        self.sessions.get_mut(&session_id)?.closed.pop_front()
    }

    /// The next listener of this stream that has room and may have something to read.
    pub(super) fn take_need(&mut self, session_id: u64) -> Option<Need> {
        let session = self.sessions.get_mut(&session_id)?;
        while let Some(sub_id) = session.queue.pop_front() {
            let Some(sub) = session.subs.get_mut(&sub_id) else {
                continue;
            };
            sub.queued = false;
            let room = WINDOW_ITEMS_MAX.saturating_sub(sub.in_flight.len());
            if room == 0 {
                // Queued again when the listener takes something.
                continue;
            }
            return Some(Need {
                sub_id,
                agent: sub.agent.clone(),
                key: Arc::clone(&sub.key),
                credential: Arc::clone(&sub.credential),
                since: sub.position,
                room,
            });
        }
        None
    }

    /// The delivery at `cursor` is on its way to the listener.
    pub(super) fn advance(&mut self, session_id: u64, sub_id: u64, cursor: u64) {
        let sub = self
            .sessions
            .get_mut(&session_id)
            .and_then(|s| s.subs.get_mut(&sub_id));
        if let Some(sub) = sub {
            sub.position = cursor;
            sub.in_flight.push_back(cursor);
        }
    }

    /// The listener passes over the delivery at `cursor`: a worker has it.
    pub(super) fn pass_over(&mut self, session_id: u64, sub_id: u64, cursor: u64) {
        let sub = self
            .sessions
            .get_mut(&session_id)
            .and_then(|s| s.subs.get_mut(&sub_id));
        if let Some(sub) = sub {
            sub.position = cursor;
        }
        self.enqueue(session_id, sub_id);
    }

    /// Forgets an agent without listeners and without deliveries under way.
    pub(super) fn forget_idle(&mut self, agent: &str) {
        if self.agents.get(agent).is_some_and(|a| a.listeners.is_empty()) && !self.ledger.knows_agent(agent) {
            self.agents.remove(agent);
        }
    }

    fn leave(&mut self, session_id: u64, sub_id: u64, key: &Arc<str>) {
        self.listeners -= 1;
        if let Some(audience) = self.agents.get_mut(key) {
            audience.listeners.remove(&(session_id, sub_id));
        }
        self.forget_idle(key);
    }

    fn enqueue(&mut self, session_id: u64, sub_id: u64) {
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return;
        };
        if let Some(sub) = session.subs.get_mut(&sub_id)
            && !sub.queued
        {
            sub.queued = true;
            session.queue.push_back(sub_id);
            session.wake.notify_one();
        }
    }
}
