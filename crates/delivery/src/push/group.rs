//! The one task that pushes the deliveries of a led group.

use super::Push;
use super::agent::{AgentRun, Next};
use super::breaker::Advice;
use super::directory::{Changed, Endpoint};
use super::post::{Attempt, Health};
use super::shares::Share;
use crate::dispatch::GroupDispatch;
use crate::metrics;
use crate::ports::{AppliedFeed, AppliedNotice, LedGroup, Network};
use baton_protocol::DeliveryId;
use baton_state_machine::Effect;
use futures::FutureExt;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

/// Pause after which an agent is looked at again whose tables could not be read, or while the meta group is out of
/// touch.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

type Slot = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// An attempt that is over.
struct Posted {
    agent: Arc<str>,
    id: DeliveryId,
    cursor: u64,
    /// Where it was posted to, which may not be where the agent is by now.
    endpoint: Arc<Endpoint>,
    /// `None` when it panicked, so that nobody knows what it came to.
    health: Option<Health>,
}

/// Push of one led group, for one term.
pub(crate) struct PushGroup {
    push: Arc<Push>,
    led: Arc<dyn LedGroup>,
    network: Arc<dyn Network>,
    dispatch: Arc<GroupDispatch>,
    feed: Box<dyn AppliedFeed>,
    changes: Receiver<Changed>,
    agents: HashMap<Arc<str>, AgentRun>,
    /// Whose turn it is; each posts one delivery and goes to the back.
    ready: VecDeque<Arc<str>>,
    /// When to look at an agent again.
    wakes: BTreeSet<(Instant, Arc<str>)>,
    /// Ended with this object: without the leadership a post cannot say what it came to.
    posts: JoinSet<Posted>,
    slot: Option<Slot>,
    /// Agents whose host or workspace has all of its share under way, or whose workers have credit.
    parked: HashSet<Arc<str>>,
    freed: watch::Receiver<u64>,
    credits: watch::Receiver<u64>,
}

impl PushGroup {
    /// Before anything is read from the tables, so that no change falls in between.
    pub(crate) fn new(
        push: Arc<Push>,
        led: Arc<dyn LedGroup>,
        network: Arc<dyn Network>,
        dispatch: Arc<GroupDispatch>,
    ) -> Self {
        Self {
            feed: led.applied(),
            freed: push.shares.freed(),
            credits: dispatch.credits(),
            parked: HashSet::new(),
            changes: push.directory.changes(),
            push,
            led,
            network,
            dispatch,
            agents: HashMap::new(),
            ready: VecDeque::new(),
            wakes: BTreeSet::new(),
            posts: JoinSet::new(),
            slot: None,
        }
    }

    /// Runs until the feed of applied entries is closed.
    pub(crate) async fn run(mut self) {
        self.look_at_all();
        loop {
            let wake = self.wakes.first().map(|(at, _)| *at);
            if self.ready.is_empty() {
                self.slot = None;
            } else if self.slot.is_none() {
                self.slot = Some(Box::pin(Arc::clone(&self.push.slots).acquire_owned()));
            }
            tokio::select! {
                notice = self.feed.next() => if !self.on_notice(&notice) { return },
                change = self.changes.recv() => match change {
                    Ok(Changed::Agent(key)) => self.look_at(&key),
                    Ok(Changed::Anything) | Err(RecvError::Lagged(_)) => self.look_at_all(),
                    Err(RecvError::Closed) => return,
                },
                Some(posted) = self.posts.join_next() => match posted {
                    Ok(posted) => self.on_posted(posted),
                    Err(error) => warn!(group_id = self.led.group_id().0, %error, "a push ended without an outcome"),
                },
                Some(slot) = acquired(&mut self.slot) => {
                    self.slot = None;
                    self.turn(slot);
                    // A slot may have been free at once: what else the leader does gets its turn too.
                    yield_now().await;
                }
                () = at(wake) => self.wake(),
                Ok(()) = self.freed.changed(), if !self.parked.is_empty() => self.unpark(),
                Ok(()) = self.credits.changed(), if !self.parked.is_empty() => self.unpark(),
            }
        }
    }

    fn on_notice(&mut self, notice: &AppliedNotice) -> bool {
        match notice {
            AppliedNotice::Entry(applied) => {
                for effect in &applied.effects {
                    match effect {
                        Effect::Deliver { agent_key, .. } => self.note(agent_key, AgentRun::has_more),
                        Effect::Replay { agent_key } => self.note(agent_key, AgentRun::has_replays),
                        Effect::Withdraw { .. }
                        | Effect::PickedUp { .. }
                        | Effect::Limit { .. }
                        | Effect::Send { .. }
                        | Effect::Timer { .. }
                        | Effect::Endpoint { .. }
                        | Effect::Notice
                        | Effect::Meta { .. } => {}
                    }
                }
            }
            AppliedNotice::Lagged => {
                let keys: Vec<_> = self.agents.keys().cloned().collect();
                for key in keys {
                    self.note(&key, |run| {
                        run.has_more();
                        run.has_replays();
                    });
                }
            }
            AppliedNotice::Closed => return false,
        }
        true
    }

    fn note(&mut self, key: &str, what: impl FnOnce(&mut AgentRun)) {
        let Some((key, run)) = self
            .agents
            .get_key_value(key)
            .map(|(k, _)| Arc::clone(k))
            .and_then(|key| {
                let run = self.agents.get_mut(&key)?;
                Some((key, run))
            })
        else {
            return;
        };
        what(run);
        self.queue(&key);
    }

    /// Gives an agent a turn, unless it waits for one.
    fn queue(&mut self, key: &Arc<str>) {
        if let Some(run) = self.agents.get_mut(key)
            && !run.queued
        {
            run.queued = true;
            self.ready.push_back(Arc::clone(key));
        }
    }

    /// What held these agents back may be over.
    fn unpark(&mut self) {
        for key in std::mem::take(&mut self.parked) {
            self.queue(&key);
        }
    }

    fn look_at_all(&mut self) {
        let found: HashMap<_, _> = self
            .push
            .directory
            .of_group(self.led.group_id())
            .into_iter()
            .collect();
        let gone = self.agents.keys().filter(|key| !found.contains_key(*key));
        for key in gone.cloned().collect::<Vec<_>>() {
            self.forget(&key);
        }
        for (key, endpoint) in found {
            self.take(&key, endpoint);
        }
    }

    fn look_at(&mut self, key: &Arc<str>) {
        if !self.push.directory.is_in(key, self.led.group_id()) {
            return;
        }
        match self.push.directory.endpoint(key) {
            Some(endpoint) => self.take(key, endpoint),
            // What waits is left to whoever listens.
            None => self.forget(key),
        }
    }

    fn take(&mut self, key: &Arc<str>, endpoint: Arc<Endpoint>) {
        match self.agents.get_mut(key) {
            Some(run) if run.endpoint.url_text == endpoint.url_text => run.endpoint = endpoint,
            Some(_) | None => {
                let before = self.agents.remove(key);
                self.unwake(before.as_ref(), key);
                let run = match before {
                    Some(before) => before.moved(endpoint, &self.push.settings),
                    None => AgentRun::new(endpoint, &self.push.settings),
                };
                self.agents.insert(Arc::clone(key), run);
                self.queue(key);
            }
        }
    }

    fn forget(&mut self, key: &Arc<str>) {
        let gone = self.agents.remove(key);
        self.unwake(gone.as_ref(), key);
    }

    fn unwake(&mut self, gone: Option<&AgentRun>, key: &Arc<str>) {
        if let Some(at) = gone.and_then(|run| run.wake_at) {
            self.wakes.remove(&(at, Arc::clone(key)));
        }
    }

    /// Looks at an agent again at `at`, or before when that is planned already: a turn too early does no harm.
    fn wake_at(&mut self, key: &Arc<str>, at: Instant) {
        let Some(run) = self.agents.get_mut(key) else {
            return;
        };
        if run.wake_at.is_some_and(|planned| planned <= at) {
            return;
        }
        if let Some(later) = run.wake_at.replace(at) {
            self.wakes.remove(&(later, Arc::clone(key)));
        }
        self.wakes.insert((at, Arc::clone(key)));
    }

    fn wake(&mut self) {
        let now = Instant::now();
        while self.wakes.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.wakes.pop_first() {
                if let Some(run) = self.agents.get_mut(&key) {
                    run.wake_at = None;
                }
                self.queue(&key);
            }
        }
    }

    /// One post of the agent whose turn it is, or one bounded look at its mailbox.
    fn turn(&mut self, slot: OwnedSemaphorePermit) {
        let fresh = self.push.directory.is_fresh();
        while let Some(key) = self.ready.pop_front() {
            let now = Instant::now();
            let Some(run) = self.agents.get_mut(&key) else {
                continue;
            };
            run.queued = false;
            if !fresh {
                self.wake_at(&key, now + LOOK_AGAIN);
                continue;
            }
            // Queued again when a post is over.
            if run.in_flight >= self.push.settings.endpoint_concurrency {
                continue;
            }
            match run.breaker.advice(now) {
                Advice::Go => {}
                Advice::Probing => continue,
                Advice::Wait(until) => {
                    self.wake_at(&key, until);
                    continue;
                }
            }
            let Some(share) = self.push.shares.take(&run.endpoint.host, &run.endpoint.workspace) else {
                self.parked.insert(Arc::clone(&key));
                // Should nobody say that one is free.
                self.wake_at(&key, now + LOOK_AGAIN);
                continue;
            };
            // Workers with credit take what comes; replays are the endpoint's all the same.
            let open = !self.dispatch.has_credit(&key);
            match run.next(self.led.as_ref(), &self.dispatch, &key, open) {
                Ok(Next::Post(job)) => {
                    run.in_flight += 1;
                    run.breaker.started();
                    let attempt = Attempt {
                        push: Arc::clone(&self.push),
                        led: Arc::clone(&self.led),
                        network: Arc::clone(&self.network),
                        endpoint: Arc::clone(&run.endpoint),
                        job: *job,
                    };
                    if attempt.job.id.replay == 0 {
                        self.dispatch.begin_post(&key, attempt.job.cursor);
                    }
                    self.post(&key, attempt, (slot, share));
                    self.queue_if_more(&key);
                }
                Ok(Next::Again) => {
                    share.unused();
                    self.queue(&key);
                }
                Ok(Next::Nothing) => {
                    share.unused();
                    if open {
                        self.queue_if_more(&key);
                    } else {
                        self.parked.insert(Arc::clone(&key));
                        self.wake_for_replay(&key);
                    }
                }
                Err(error) => {
                    share.unused();
                    warn!(group_id = self.led.group_id().0, agent = %key, %error, "cannot read what to push");
                    self.wake_at(&key, now + LOOK_AGAIN);
                }
            }
            return;
        }
    }

    fn post(&mut self, key: &Arc<str>, attempt: Attempt, slot: (OwnedSemaphorePermit, Share)) {
        let (agent, id, cursor) = (Arc::clone(key), attempt.job.id, attempt.job.cursor);
        let endpoint = Arc::clone(&attempt.endpoint);
        self.posts.spawn(async move {
            // Its place must be given back whatever happens.
            let health = AssertUnwindSafe(attempt.run(slot)).catch_unwind().await.ok();
            Posted {
                agent,
                id,
                cursor,
                endpoint,
                health,
            }
        });
    }

    fn queue_if_more(&mut self, key: &Arc<str>) {
        let now_ms = self.led.now_ms();
        let Some(run) = self.agents.get(key) else {
            return;
        };
        if run.wants(now_ms) {
            self.queue(key);
        } else {
            self.wake_for_replay(key);
        }
    }

    /// Looks at the agent again when its next replay is due.
    fn wake_for_replay(&mut self, key: &Arc<str>) {
        let due = self.agents.get(key).and_then(AgentRun::replay_due_ms);
        if let Some(due_ms) = due {
            let wait_ms = due_ms.saturating_sub(self.led.now_ms());
            self.wake_at(key, Instant::now() + Duration::from_millis(wait_ms));
        }
    }

    fn on_posted(&mut self, posted: Posted) {
        if posted.id.replay == 0 {
            self.dispatch.end_post(&posted.agent, posted.cursor);
        }
        let Some(run) = self.agents.get_mut(&posted.agent) else {
            return;
        };
        run.posting.remove(&posted.cursor);
        run.in_flight = run.in_flight.saturating_sub(1);
        if posted.id.replay > 0 {
            run.replay_over(posted.id);
        }
        // What an endpoint did that the agent has left says nothing about the new one.
        if run.endpoint.url_text == posted.endpoint.url_text {
            match posted.health {
                Some(Health::Good) => run.breaker.succeeded(),
                Some(Health::Bad { retry_after }) => run.breaker.failed(Instant::now(), retry_after),
                Some(Health::Unknown) => run.breaker.forgotten(),
                None => {
                    warn!(agent = %posted.agent, intent_id = %posted.id.intent_id, "a push panicked");
                    if posted.id.replay == 0 {
                        run.put_back(posted.cursor, posted.id.intent_id);
                    }
                    // Not at once: it may panic again.
                    let pause = Duration::from_millis(self.push.settings.breaker_pause_ms);
                    run.breaker.failed(Instant::now(), Some(pause));
                }
            }
        }
        debug!(agent = %posted.agent, health = ?posted.health, "push is over");
        let held = self
            .agents
            .values()
            .filter(|run| run.breaker.is_holding())
            .count();
        metrics::endpoints_held(self.led.group_id(), held);
        self.queue_if_more(&posted.agent);
    }
}

impl Drop for PushGroup {
    fn drop(&mut self) {
        metrics::endpoints_held(self.led.group_id(), 0);
    }
}

/// `None` at once when no slot is asked for.
async fn acquired(slot: &mut Option<Slot>) -> Option<OwnedSemaphorePermit> {
    match slot {
        Some(slot) => slot.await.ok(),
        None => None,
    }
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
