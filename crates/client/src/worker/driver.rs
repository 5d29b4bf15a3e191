//! The loop behind a worker: one stream at a time, handlers that outlive it.

use super::Worker;
use super::held::{HeldItems, Settled};
use super::job::{Job, JobError};
use crate::Error;
use crate::client::{About, MESSAGE_BYTES_MAX};
use crate::types::{Intent, Payload};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::agent_service_client::AgentServiceClient;
use baton_protocol::proto::v1::work_report::Report;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Messages between this task and the connection.
const STREAM_QUEUE_ITEMS_MAX: usize = 8;
/// Reports of one message.
const MESSAGE_REPORTS_MAX: usize = 256;
/// Items held, running or waiting for their receipt, per handler that may run.
const HELD_PER_HANDLER_MAX: u32 = 4;
/// Until the server names the lease.
const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// Signs of life within one lease.
const RENEWALS_PER_LEASE: u32 = 3;
/// Shortest time between them.
const RENEWAL_MIN: Duration = Duration::from_millis(100);
/// How long the last receipts may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A handler at work.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<Payload, JobError>> + Send>>;
type Handler = Arc<dyn Fn(Job) -> Running + Send + Sync>;
type Requests = mpsc::Sender<v1::WorkRequest>;
type Responses = Streaming<v1::WorkResponse>;

/// State of one worker.
pub(super) struct Driver {
    worker: Worker,
    handler: Handler,
    held: HeldItems,
    tasks: JoinSet<Result<Payload, JobError>>,
    task_items: HashMap<Id, String>,
    /// Items that the server may still send.
    credits: u32,
    /// Set by the server's first message.
    credits_max: u32,
    lease: Duration,
    /// When the shutdown was noticed: handlers may go on until then.
    drain_until: Option<Instant>,
    drain_told: bool,
    handed_back: bool,
    /// Nothing is held and no more comes: how long to wait for the server to end the stream.
    farewell_until: Option<Instant>,
    /// Streams in a row that brought nothing.
    barren: u32,
    /// Leads the agent and is not the node of this stream (`host:port`).
    leader: Option<String>,
    /// This stream was opened because its node leads.
    moved: bool,
}

/// Why a stream is left.
enum Left {
    /// Everything is done.
    Finished,
    /// Another node leads the agent: there the way is shorter.
    Moving,
    Lost(Error),
}

impl Driver {
    pub(super) fn new(worker: Worker, handler: Box<dyn Fn(Job) -> Running + Send + Sync>) -> Self {
        Self {
            lease: worker.lease.unwrap_or(LEASE_DEFAULT),
            credits_max: worker.concurrency,
            worker,
            handler: handler.into(),
            held: HeldItems::default(),
            tasks: JoinSet::new(),
            task_items: HashMap::new(),
            credits: 0,
            drain_until: None,
            drain_told: false,
            handed_back: false,
            farewell_until: None,
            barren: 0,
            leader: None,
            moved: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            let opened = tokio::select! {
                opened = self.open() => Some(opened),
                () = self.worker.shutdown.cancelled(), if self.held.is_empty() => None,
            };
            let left = match opened {
                None => return Ok(()),
                Some(Ok((requests, responses))) => self.serve(requests, responses).await,
                Some(Err(error)) => Left::Lost(error),
            };
            let error = match left {
                Left::Finished => return Ok(()),
                Left::Moving => continue,
                Left::Lost(error) => error,
            };
            self.notice_shutdown();
            let over = self.drain_until.is_some_and(|until| Instant::now() >= until);
            if over || self.drain_until.is_some() && self.held.is_empty() {
                return Ok(());
            }
            if !error.retryable() {
                self.let_handlers_end().await;
                return Err(error);
            }
            self.barren += 1;
            self.moved = false;
            tracing::warn!(%error, agent = self.worker.agent, held = self.held.len(), "worker lost its stream; trying again");
            let pause = self.worker.client.retry().pause(self.barren, error.retry_after());
            self.rest(pause).await;
        }
    }

    /// Handlers go on between two streams.
    async fn rest(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
        }
    }

    async fn open(&self) -> Result<(Requests, Responses), Error> {
        let client = &self.worker.client;
        let requests = Mutex::new(None);
        let responses = client
            .call_about(
                About::Agent(&self.worker.agent),
                client.stream_call(),
                |channel, outgoing| {
                    let (sender, receiver) = mpsc::channel(STREAM_QUEUE_ITEMS_MAX);
                    // A server may answer nothing before it has read who asks.
                    let first = sender.try_send(self.first_message());
                    *requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
                    let request = outgoing.carry(ReceiverStream::new(receiver));
                    async move {
                        first.map_err(|_| tonic::Status::internal("the stream has no room"))?;
                        AgentServiceClient::new(channel)
                            .max_decoding_message_size(MESSAGE_BYTES_MAX)
                            .work(request)
                            .await
                    }
                },
            )
            .await?;
        let sender = requests.into_inner().unwrap_or_else(PoisonError::into_inner);
        sender
            .map(|sender| (sender, responses))
            .ok_or(Error::Closed("the stream"))
    }

    fn first_message(&self) -> v1::WorkRequest {
        let lease = self.worker.lease.unwrap_or_default();
        v1::WorkRequest {
            open: Some(v1::WorkOpen {
                agent: self.worker.agent.clone(),
                worker: self.worker.name.clone(),
                lease_ms: u32::try_from(lease.as_millis()).unwrap_or(u32::MAX),
            }),
            ..v1::WorkRequest::default()
        }
    }

    async fn serve(&mut self, requests: Requests, mut responses: Responses) -> Left {
        self.credits = 0;
        self.drain_told = false;
        self.held.present_all();
        let mut renewals = renewals(self.lease);
        loop {
            self.plan_farewell();
            let has_message = self.held.has_reports() || self.grant() > 0 || self.owes_drain();
            let due = self.next_due();
            tokio::select! {
                biased;
                message = responses.message() => match message {
                    Ok(Some(message)) => {
                        let lease = self.lease;
                        self.received(message);
                        if self.should_move() {
                            return Left::Moving;
                        }
                        if self.lease != lease {
                            renewals = self::renewals(self.lease);
                        }
                    }
                    Ok(None) => return self.lost("the server ended the stream"),
                    Err(status) => {
                        let endpoint = self.worker.client.endpoint();
                        return Left::Lost(Error::from_status(&status, endpoint));
                    }
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                place = requests.reserve(), if has_message => match place {
                    Ok(place) => place.send(self.next_message()),
                    Err(_) => return self.lost("the connection broke"),
                },
                () = self.worker.shutdown.cancelled(), if self.drain_until.is_none() => self.notice_shutdown(),
                _ = renewals.tick() => self.held.renew(),
                () = sleep_until(due), if due.is_some() => {
                    if self.out_of_time() {
                        return Left::Finished;
                    }
                }
            }
        }
    }

    fn lost(&self, message: &str) -> Left {
        Left::Lost(Error::Unreachable {
            endpoint: self.worker.client.endpoint().to_owned(),
            message: message.to_owned(),
            sent: true,
        })
    }

    /// Credits to add now: handlers that are idle, as long as not too much is unacknowledged.
    fn grant(&self) -> u32 {
        if self.drain_until.is_some() {
            return 0;
        }
        let handlers = self.worker.concurrency.min(self.credits_max);
        let idle = handlers.saturating_sub(self.held.running() + self.credits);
        let room = (handlers * HELD_PER_HANDLER_MAX).saturating_sub(self.held.len() + self.credits);
        idle.min(room)
    }

    fn owes_drain(&self) -> bool {
        self.drain_until.is_some() && !self.drain_told
    }

    fn next_message(&mut self) -> v1::WorkRequest {
        let credits = self.grant();
        self.credits += credits;
        let drain = self.owes_drain();
        self.drain_told |= drain;
        v1::WorkRequest {
            open: None,
            credits,
            reports: self.held.reports(MESSAGE_REPORTS_MAX),
            drain,
        }
    }

    fn received(&mut self, message: v1::WorkResponse) {
        self.barren = 0;
        if let Some(opened) = message.opened {
            if opened.credits_max > 0 {
                self.credits_max = opened.credits_max;
            }
            if opened.lease_ms > 0 {
                self.lease = Duration::from_millis(opened.lease_ms.into());
            }
            self.leader = (!opened.leader.is_empty()).then_some(opened.leader);
        }
        for receipt in message.receipts {
            let intent_id = receipt.intent_id.clone();
            match self.held.receipt(receipt) {
                Settled::No | Settled::Done => {}
                Settled::Lost(code) => {
                    tracing::info!(intent_id, code, "the item is no longer this worker's");
                }
                Settled::Repeat(advice) => {
                    let advice = (!advice.is_zero()).then_some(advice);
                    let pause = self.worker.client.retry().pause(3, advice);
                    self.held.repeat_at(Instant::now() + pause, intent_id);
                }
            }
        }
        for item in message.items {
            self.credits = self.credits.saturating_sub(1);
            self.start(item);
        }
    }

    /// Whether to work at the node that leads the agent instead: once, until a stream there has broken.
    fn should_move(&mut self) -> bool {
        let Some(leader) = self.leader.take() else {
            return false;
        };
        let known = self.worker.client.learn_leader(&self.worker.agent, &leader);
        let moves = known && !self.moved && self.held.is_empty() && self.drain_until.is_none();
        self.moved |= moves;
        moves
    }

    fn start(&mut self, item: v1::WorkItem) {
        let (Some(intent), Some(fence)) = (item.intent, item.fence) else {
            tracing::warn!("the server sent an item without intent or fence");
            return;
        };
        let mut intent = Intent::from_wire(intent);
        let Some(lost) = self.held.take(&intent.intent_id, fence) else {
            return;
        };
        if let Some(payload) = Payload::from_wire(item.payload) {
            intent.payload = Some(payload);
        }
        let intent_id = intent.intent_id.clone();
        let job = Job {
            intent,
            attempt: item.attempt,
            lost,
            client: self.worker.client.clone(),
        };
        let task = self.tasks.spawn(handle(Arc::clone(&self.handler), job));
        self.task_items.insert(task.id(), intent_id);
    }

    fn ended(&mut self, ended: Result<(Id, Result<Payload, JobError>), tokio::task::JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => {
                let outcome = JobError::retry(Duration::from_secs(1)).because("the handler panicked");
                (error.id(), Err(outcome))
            }
        };
        let Some(intent_id) = self.task_items.remove(&id) else {
            return;
        };
        let report = match outcome {
            Ok(result) => Report::Complete(v1::Complete {
                result: Some(result.into_wire()),
            }),
            Err(error) => error.into_report(),
        };
        self.held.finished(&intent_id, report);
    }

    fn notice_shutdown(&mut self) {
        if self.worker.shutdown.is_cancelled() && self.drain_until.is_none() {
            self.drain_until = Some(Instant::now() + self.worker.drain_timeout);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let times = [self.held.next_repeat(), self.drain_until, self.farewell_until];
        times.into_iter().flatten().min()
    }

    /// Items may still be on their way when the drain is told, so the server has the last word.
    fn plan_farewell(&mut self) {
        let done = self.drain_told && self.held.is_empty();
        self.farewell_until = match self.farewell_until {
            Some(until) if done => Some(until),
            _ => done.then(|| Instant::now() + FAREWELL_TIMEOUT),
        };
    }

    /// Whether the time of the drain is over twice: first handlers are told to stop and their items handed back, then
    /// receipts are no longer waited for.
    fn out_of_time(&mut self) -> bool {
        let now = Instant::now();
        self.held.queue_repeats(now);
        if self.farewell_until.is_some_and(|until| until <= now) {
            return true;
        }
        if self.drain_until.is_none_or(|until| until > now) {
            return false;
        }
        if self.handed_back {
            return true;
        }
        self.handed_back = true;
        self.drain_until = Some(now + FAREWELL_TIMEOUT);
        let nak = JobError::retry(Duration::ZERO).because("the worker is stopping");
        let count = self.held.hand_back(&nak.into_report());
        self.task_items.clear();
        tracing::warn!(
            agent = self.worker.agent,
            count,
            "handlers did not end in time; their items are handed back"
        );
        false
    }

    /// No report will be taken any more; handlers learn that and may end in order.
    async fn let_handlers_end(&mut self) {
        self.held.lose_all();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        _ = tokio::time::timeout(self.worker.drain_timeout, all).await;
    }
}

/// Runs one handler; fetches the payload first when it was too large for the item.
async fn handle(handler: Handler, mut job: Job) -> Result<Payload, JobError> {
    if job.intent.payload.is_none() {
        job.intent = job.client.get(&job.intent.intent_id).await?;
    }
    handler(job).await
}

fn renewals(lease: Duration) -> tokio::time::Interval {
    let every = (lease / RENEWALS_PER_LEASE).max(RENEWAL_MIN);
    let mut renewals = tokio::time::interval_at(Instant::now() + every, every);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewals
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
