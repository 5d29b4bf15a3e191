//! The one task that serves the workers of a led group.

use super::engine::{Cause, Engine, Output, Proposal, SWEEP};
use super::frames::DownFrames;
use super::session::Session;
use crate::dispatch::GroupDispatch;
use crate::metrics;
use crate::ports::{AppliedFeed, AppliedNotice, LedGroup, Network};
use crate::settings::{
    DeliverySettings, WORK_PAYLOAD_BYTES_MAX, WORK_PROPOSALS_IN_FLIGHT_MAX, WORK_PROPOSALS_WAITING_MAX,
};
use baton_protocol::proto::internal::{AttemptGrant, IntentLimits, Reply, WorkUp, command, reply};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError};
use baton_state_machine::{Applied, Effect};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Events of streams that wait for the group's task.
const EVENTS_MAX: usize = 64;
/// Events, entries or answers taken in one go before what they led to is sent.
const ROUND_MAX: usize = 64;

/// What a stream tells the group's task.
#[derive(Debug)]
pub(super) enum Event {
    Opened {
        session: u64,
        frames: mpsc::Sender<Bytes>,
    },
    Frame {
        session: u64,
        frame: Box<WorkUp>,
    },
    Closed {
        session: u64,
    },
}

/// Where streams of nodes with workers arrive.
pub(crate) struct WorkGroup {
    led: Arc<dyn LedGroup>,
    events: mpsc::Sender<Event>,
    room: Arc<Notify>,
    last_session: AtomicU64,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl WorkGroup {
    /// The door, and the task behind it, which ends with the door's `stop`. Must be called inside the runtime on
    /// which deliveries shall run, before anything is read from the tables.
    pub(crate) fn start(
        dispatch: &Arc<GroupDispatch>,
        network: Arc<dyn Network>,
        settings: DeliverySettings,
    ) -> Arc<Self> {
        let led = Arc::clone(dispatch.led());
        let (events, waiting) = mpsc::channel(EVENTS_MAX);
        let group = Arc::new(Self {
            led: Arc::clone(&led),
            events,
            room: Arc::new(Notify::new()),
            last_session: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        });
        let task = Task {
            engine: Engine::new(Arc::clone(&led), Arc::clone(dispatch), settings, Instant::now()),
            feed: led.applied(),
            led,
            network,
            settings,
            events: waiting,
            room: Arc::clone(&group.room),
            streams: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_elsewhere: VecDeque::new(),
            elsewhere: 0,
            in_flight: FuturesUnordered::new(),
            next_sweep: Instant::now(),
        };
        let stop = group.stop.clone();
        group.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = Box::pin(task.run()) => {}
            }
        });
        group
    }

    /// Serves the stream of a node with workers until either side ends it.
    pub(crate) fn accept(&self, rx: mpsc::Receiver<Bytes>, tx: mpsc::Sender<Bytes>) {
        let session = Session {
            id: self.last_session.fetch_add(1, Ordering::Relaxed) + 1,
            led: Arc::clone(&self.led),
            events: self.events.clone(),
            room: Arc::clone(&self.room),
        };
        let stop = self.stop.clone();
        let serving = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = session.serve(rx, tx) => {}
            }
        };
        self.tasks.spawn_on(serving, &self.runtime);
    }

    /// Closes every stream and waits for the tasks.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        metrics::workers(self.led.group_id(), 0);
    }
}

/// Frames for one node.
struct Stream {
    frames: mpsc::Sender<Bytes>,
    /// Did not fit yet. Never more than one round and the receipts of what came in since.
    outbox: VecDeque<Bytes>,
    renew: u64,
}

type Answer = (IntentId, Cause, Result<(), ServiceError>);

struct Task {
    led: Arc<dyn LedGroup>,
    network: Arc<dyn Network>,
    engine: Engine,
    settings: DeliverySettings,
    feed: Box<dyn AppliedFeed>,
    events: mpsc::Receiver<Event>,
    room: Arc<Notify>,
    streams: HashMap<u64, Stream>,
    waiting: VecDeque<Proposal>,
    /// Ends of intents of other groups, which may take long to answer.
    waiting_elsewhere: VecDeque<Proposal>,
    /// Of those in flight.
    elsewhere: usize,
    in_flight: FuturesUnordered<BoxFuture<'static, Answer>>,
    next_sweep: Instant,
}

impl Task {
    /// Runs until the feed of applied entries is closed.
    async fn run(mut self) {
        let room = Arc::clone(&self.room);
        loop {
            let reads = self.waiting.len() < WORK_PROPOSALS_WAITING_MAX;
            tokio::select! {
                notice = self.feed.next() => if !self.on_notice(&notice) { return },
                Some(event) = self.events.recv(), if reads => self.on_event(event),
                Some(answer) = self.in_flight.next(), if !self.in_flight.is_empty() => self.on_landed(answer),
                () = room.notified() => {}
                () = sleep_until(self.next_sweep), if self.engine.watches_time() => {}
            }
            // Whatever else is there, so that it travels together.
            for _ in 0..ROUND_MAX {
                match self.feed.next().now_or_never() {
                    Some(notice) if !self.on_notice(&notice) => return,
                    Some(_) => {}
                    None => break,
                }
            }
            for _ in 0..ROUND_MAX {
                match self.events.try_recv() {
                    Ok(event) => self.on_event(event),
                    Err(_) => break,
                }
            }
            while let Some(Some(answer)) = self.in_flight.next().now_or_never() {
                self.on_landed(answer);
            }
            let now = Instant::now();
            if now >= self.next_sweep {
                self.next_sweep = now + SWEEP;
                self.engine.sweep(now);
                metrics::workers(self.led.group_id(), self.engine.workers());
            }
            self.flush(now);
        }
    }

    /// `false` when no more will come.
    fn on_notice(&mut self, notice: &AppliedNotice) -> bool {
        match notice {
            AppliedNotice::Entry(applied) => self.on_applied(applied),
            AppliedNotice::Lagged => self.engine.resync(),
            AppliedNotice::Closed => return false,
        }
        true
    }

    fn on_applied(&mut self, applied: &Applied) {
        let now = Instant::now();
        for effect in &applied.effects {
            match effect {
                Effect::Deliver {
                    agent_key,
                    cursor,
                    intent_id,
                } => self.engine.deliver(agent_key, *cursor, *intent_id, now),
                Effect::Withdraw {
                    agent_key,
                    cursor,
                    intent_id,
                } => self.engine.withdraw(agent_key, *cursor, *intent_id),
                Effect::Limit { intent_id, .. } => self.engine.time(*intent_id),
                Effect::PickedUp { .. }
                | Effect::Send { .. }
                | Effect::Timer { .. }
                | Effect::Replay { .. }
                | Effect::Endpoint { .. }
                | Effect::Notice
                | Effect::Meta { .. } => {}
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened { session, frames } => {
                self.engine.open_session(session);
                let stream = Stream {
                    frames,
                    outbox: VecDeque::new(),
                    renew: 0,
                };
                self.streams.insert(session, stream);
            }
            Event::Frame { session, frame } => self.on_frame(session, *frame),
            Event::Closed { session } => {
                self.streams.remove(&session);
                self.engine.close_session(session, Instant::now());
            }
        }
    }

    fn on_frame(&mut self, session: u64, frame: WorkUp) {
        let now = Instant::now();
        let Some(stream) = self.streams.get_mut(&session) else {
            return;
        };
        stream.renew = stream.renew.max(frame.renew);
        for open in frame.open {
            self.engine.open(session, open, now);
        }
        for credits in &frame.credits {
            self.engine.credit(session, credits);
        }
        for mark in &frame.written {
            self.engine.written(session, mark, now);
        }
        for report in frame.reports {
            self.engine.report(session, report, now);
        }
        for stop in &frame.stop {
            self.engine.stop(session, stop);
        }
    }

    fn on_landed(&mut self, answer: Answer) {
        if goes_elsewhere(self.led.as_ref(), answer.0, &answer.1) {
            self.elsewhere -= 1;
        }
        self.on_answer(answer);
    }

    fn on_answer(&mut self, (id, cause, result): Answer) {
        if let Err(error) = &result {
            debug!(group_id = self.led.group_id().0, intent_id = %id, %error, "a report was not recorded");
        }
        if !self.engine.proposed(id, cause, result, Instant::now()) {
            // Whoever waits here says it again to the next leader.
            self.streams.clear();
        }
    }

    /// Sends and proposes what came of it all.
    fn flush(&mut self, now: Instant) {
        for (session, stream) in &mut self.streams {
            push_out(stream);
            if stream.outbox.is_empty() {
                self.engine.make_room(*session);
            }
        }
        self.engine.assign(now);
        let out = std::mem::take(&mut self.engine.out);
        let proposals = self.send(out);
        self.queue(proposals);
        self.propose_elsewhere();
        while self.in_flight.len() < WORK_PROPOSALS_IN_FLIGHT_MAX
            && let Some(next) = self.waiting.pop_front()
        {
            let (led, network) = (Arc::clone(&self.led), Arc::clone(&self.network));
            self.in_flight.push(propose(led, network, next).boxed());
        }
    }

    fn queue(&mut self, proposals: Vec<Proposal>) {
        for proposal in proposals {
            if !goes_elsewhere(self.led.as_ref(), proposal.intent_id, &proposal.cause) {
                self.waiting.push_back(proposal);
            } else if self.waiting_elsewhere.len() < WORK_PROPOSALS_WAITING_MAX {
                self.waiting_elsewhere.push_back(proposal);
            } else {
                let message = "too many results wait for other groups; report again";
                let error = ServiceError::new(ErrorCode::Unavailable, message);
                self.on_answer((proposal.intent_id, proposal.cause, Err(error)));
            }
        }
    }

    /// At most half of what may be in flight: a group that is not there must not hold up the own one.
    fn propose_elsewhere(&mut self) {
        while self.elsewhere < WORK_PROPOSALS_IN_FLIGHT_MAX / 2
            && let Some(next) = self.waiting_elsewhere.pop_front()
        {
            let (led, network) = (Arc::clone(&self.led), Arc::clone(&self.network));
            self.elsewhere += 1;
            self.in_flight.push(propose(led, network, next).boxed());
        }
    }

    /// Frames for every stream that has something to be told; gives back what is to be proposed.
    fn send(&mut self, out: Output) -> Vec<Proposal> {
        let mut frames = Outgoing::new(self.led.term());
        for (session, stream) in &mut self.streams {
            let nonce = std::mem::take(&mut stream.renew);
            // A leader that is none any more grants nothing.
            if nonce != 0 && self.led.is_leader() {
                frames.to(*session).renewed(nonce, self.settings.lease_ms);
            }
        }
        for (session, closed) in out.closed {
            frames.to(session).closed(closed);
        }
        for (session, lost) in out.lost {
            frames.to(session).lost(lost);
        }
        for (session, receipt) in out.receipts {
            frames.to(session).receipt(receipt);
        }
        let ids: Vec<IntentId> = out.grants.iter().map(|grant| grant.intent_id).collect();
        let rows = if ids.is_empty() {
            Ok(Vec::new())
        } else {
            self.led.delivery_rows(&ids, WORK_PAYLOAD_BYTES_MAX)
        };
        let rows = rows.unwrap_or_else(|error| {
            warn!(group_id = self.led.group_id().0, %error, "cannot read deliveries");
            vec![None; ids.len()]
        });
        metrics::handed_out(ids.len());
        for (grant, row) in out.grants.into_iter().zip(rows) {
            let Some(row) = row else {
                self.engine.take_back(grant);
                continue;
            };
            // Decodes that one field of the row and nothing else.
            let limits = IntentLimits::decode(row.intent.clone())
                .unwrap_or_default()
                .limits;
            if limits.is_some_and(|limits| limits.execution_timeout_seconds.is_some()) {
                self.engine.time(grant.intent_id);
            }
            frames.to(grant.key.session).grant(AttemptGrant {
                worker: grant.key.worker,
                counter: grant.counter,
                cursor: grant.cursor,
                intent_id: grant.intent_id.to_bytes(),
                intent: row.intent,
                payload: row.payload.unwrap_or_default(),
            });
        }
        for (session, frames) in frames.streams {
            if let Some(stream) = self.streams.get_mut(&session) {
                stream.outbox.extend(frames.finish());
                push_out(stream);
            }
        }
        out.proposals
    }
}

/// Frames by stream.
struct Outgoing {
    term: u64,
    streams: HashMap<u64, DownFrames>,
}

impl Outgoing {
    fn new(term: u64) -> Self {
        Self {
            term,
            streams: HashMap::new(),
        }
    }

    fn to(&mut self, session: u64) -> &mut DownFrames {
        let term = self.term;
        self.streams
            .entry(session)
            .or_insert_with(|| DownFrames::new(term))
    }
}

fn push_out(stream: &mut Stream) {
    while let Some(frame) = stream.outbox.pop_front() {
        // A closed stream says so itself.
        if let Err(mpsc::error::TrySendError::Full(frame)) = stream.frames.try_send(frame) {
            stream.outbox.push_front(frame);
            return;
        }
    }
}

/// Whether the log of another group is asked.
fn goes_elsewhere(led: &dyn LedGroup, id: IntentId, cause: &Cause) -> bool {
    matches!(cause, Cause::Finish { .. }) && !led.owns(id.slot())
}

async fn propose(led: Arc<dyn LedGroup>, network: Arc<dyn Network>, proposal: Proposal) -> Answer {
    let Proposal {
        intent_id,
        cause,
        body,
    } = proposal;
    let answer = if goes_elsewhere(led.as_ref(), intent_id, &cause) {
        end_elsewhere(led.as_ref(), network.as_ref(), intent_id, body).await
    } else {
        led.propose(body).await
    };
    let result = answer.and_then(|reply| match reply.outcome {
        Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
        _ => Ok(()),
    });
    (intent_id, cause, result)
}

/// A result goes to where the intent lives. The fence was compared by the leader that handed the item out; the handler
/// generation in the command keeps out what was transferred meanwhile.
async fn end_elsewhere(
    led: &dyn LedGroup,
    network: &dyn Network,
    id: IntentId,
    body: command::Body,
) -> Result<Reply, ServiceError> {
    if !led.is_leader() {
        let message = "this node no longer leads the group";
        return Err(ServiceError::new(ErrorCode::NotLeader, message));
    }
    let answer = network.propose(Route::Slot(id.slot()), body).await;
    answer.map_err(|mut error| {
        // Of the other group: this leadership goes on.
        if error.code == ErrorCode::NotLeader {
            error.code = ErrorCode::Unavailable;
        }
        error
    })
}
