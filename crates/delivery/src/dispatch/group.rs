//! Deliveries of one led group: the board under its lock, the tables beside it.

use super::board::{Board, Need};
use super::ledger::{Delivery, Expiry, Start};
use crate::frames::encode_down;
use crate::metrics;
use crate::ports::LedGroup;
use crate::push::PushDirectory;
use crate::settings::{DeliverySettings, EXPIRIES_IN_FLIGHT_MAX, PAYLOAD_BYTES_MAX};
use baton_protocol::limits::MAILBOX_PAGE_MAX;
use baton_protocol::proto::internal::{
    AgentRef, EventType, FailAttempt, FeedDelivery, FeedLease, FeedSubscribe, ListMailbox, MailboxItem,
    Query, RedeliverIntent, StartAttempt, Status, command, feed_down, query, query_reply, reply,
};
use baton_protocol::{ErrorCode, IntentId, ServiceError, trace};
use baton_state_machine::{Applied, Effect};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, warn};

/// Headers read in one go, with the board locked, when a listener says what it has seen.
const INFER_PAGE_ITEMS: u32 = 128;
const _: () = assert!(INFER_PAGE_ITEMS <= MAILBOX_PAGE_MAX);
/// Pause before the log is told again about an expired delivery.
const EXPIRY_RETRY: Duration = Duration::from_millis(500);

/// Dispatch of one led group, for one term.
pub(crate) struct GroupDispatch {
    pub(super) led: Arc<dyn LedGroup>,
    settings: DeliverySettings,
    /// Agents whose attempts are posts, whoever listens beside.
    pub(super) pushed: Option<Arc<PushDirectory>>,
    pub(super) credits: watch::Sender<u64>,
    /// The tables are read under this lock. An entry is announced after the tables show it and its effects need the
    /// lock too, so whatever a read puts on the board is withdrawn by an effect that comes later.
    board: Mutex<Board>,
    timer_wake: Notify,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl GroupDispatch {
    /// Must be called inside the runtime on which deliveries shall run.
    pub(crate) fn new(
        led: Arc<dyn LedGroup>,
        settings: DeliverySettings,
        pushed: Option<Arc<PushDirectory>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            led,
            settings,
            pushed,
            credits: watch::Sender::new(0),
            board: Mutex::new(Board::new(settings)),
            timer_wake: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        })
    }

    /// Serves the stream of a listening node until either side ends it.
    pub(super) fn accept(self: &Arc<Self>, rx: mpsc::Receiver<Bytes>, tx: mpsc::Sender<Bytes>) {
        let session = super::session::serve(Arc::clone(self), rx, tx);
        self.tasks.spawn_on(session, &self.runtime);
    }

    /// Closes every stream and waits for the tasks.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        metrics::listeners(self.led.group_id(), 0);
    }

    /// Takes notice of an applied entry.
    pub(crate) fn on_applied(&self, applied: &Applied) {
        let now = Instant::now();
        let mut board = self.lock();
        for event in &applied.events {
            if matches!(event.r#type(), EventType::Acknowledged | EventType::InProgress)
                && let Some(intent_id) = IntentId::from_slice(&event.intent_id)
                && board.ledger.picked_up(intent_id, None, now)
            {
                metrics::attempt("picked_up");
            }
        }
        for effect in &applied.effects {
            match effect {
                Effect::Deliver { agent_key, .. } => board.wake_agent(agent_key),
                Effect::Withdraw {
                    agent_key, cursor, ..
                } => {
                    board.ledger.withdraw(agent_key, *cursor);
                    board.forget_idle(agent_key);
                }
                Effect::PickedUp { intent_id } => {
                    if board.ledger.picked_up(*intent_id, None, now) {
                        metrics::attempt("picked_up");
                    }
                }
                Effect::Limit {
                    agent_key, cursor, ..
                } => board.ledger.limit(agent_key, *cursor),
                Effect::Send { .. }
                | Effect::Timer { .. }
                | Effect::Replay { .. }
                | Effect::Endpoint { .. }
                | Effect::Notice
                | Effect::Meta { .. } => {}
            }
        }
        drop(board);
        self.timer_wake.notify_one();
    }

    /// Effects were missed: compares what is held with the tables and reads every mailbox again.
    pub(crate) fn resync(&self) {
        let held = self.lock().ledger.held();
        for (agent, cursors) in held {
            let mut board = self.lock();
            match self.open_cursors(&agent, &cursors) {
                Ok(open) => {
                    for cursor in cursors.iter().filter(|c| !open.contains(c)) {
                        board.ledger.withdraw(&agent, *cursor);
                    }
                    board.forget_idle(&agent);
                }
                // Whatever is stale is refused when its time is up, and dropped then.
                Err(error) => warn!(group_id = self.led.group_id().0, %error, "cannot read a mailbox"),
            }
        }
        self.lock().wake_all();
    }

    /// Reports deliveries whose time is up. Runs until dropped.
    pub(crate) async fn keep_time(&self) {
        loop {
            let (expired, starts, next) = {
                let mut board = self.lock();
                let expired = board.ledger.expired(Instant::now(), EXPIRIES_IN_FLIGHT_MAX);
                (expired, board.ledger.take_starts(), board.ledger.next_due())
            };
            if !starts.is_empty() {
                futures::stream::iter(starts)
                    .for_each_concurrent(EXPIRIES_IN_FLIGHT_MAX, |start| self.record_start(start))
                    .await;
            }
            if !expired.is_empty() {
                futures::stream::iter(expired)
                    .for_each_concurrent(EXPIRIES_IN_FLIGHT_MAX, |expiry| self.expire(expiry))
                    .await;
                continue;
            }
            match next {
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.timer_wake.notified() => {}
                },
                None => self.timer_wake.notified().await,
            }
        }
    }

    async fn expire(&self, expiry: Expiry) {
        if self
            .pushed
            .as_ref()
            .is_some_and(|pushed| pushed.covers(&expiry.agent))
        {
            // The posts decide; but should they end, the listener that has it owes an answer.
            let at = Instant::now() + self.settings.visibility_timeout();
            self.lock().ledger.retry(&expiry, at);
            return;
        }
        let span = debug_span!(
            "attempt.expire",
            group_id = self.led.group_id().0,
            intent_id = %expiry.intent_id,
            agent = %expiry.agent,
            attempt = expiry.attempt
        );
        trace::caused_by(&span, [expiry.trace_parent.as_str()]);
        self.record_expiry(expiry).instrument(span).await;
    }

    /// The time of an attempt runs in the log, so that it ends whoever leads by then.
    async fn record_start(&self, start: Start) {
        let body = command::Body::StartAttempt(StartAttempt {
            intent_id: start.intent_id.to_bytes(),
            cursor: start.cursor,
        });
        let Err(error) = self.led.propose(body).await else {
            return;
        };
        debug!(%error, intent_id = %start.intent_id, "the start of an attempt was not recorded");
        tokio::time::sleep(EXPIRY_RETRY).await;
        self.lock().ledger.start_again(start);
    }

    async fn record_expiry(&self, expiry: Expiry) {
        let intent_id = expiry.intent_id.to_bytes();
        let cursor = expiry.cursor;
        let body = if expiry.fails {
            command::Body::FailAttempt(FailAttempt {
                intent_id,
                cursor,
                push: None,
            })
        } else {
            command::Body::Redeliver(RedeliverIntent { intent_id, cursor })
        };
        let answer = self
            .led
            .propose(body)
            .await
            .and_then(|reply| match reply.outcome {
                Some(reply::Outcome::Rejected(rejection)) => Err(ServiceError::from(rejection)),
                _ => Ok(()),
            });
        match &answer {
            Ok(()) if expiry.fails => {
                metrics::attempt("failed");
                debug!("delivery was not picked up");
            }
            Ok(()) => {
                metrics::redelivery();
                debug!("delivery is sent again");
            }
            Err(error) => debug!(%error, "expired delivery was not recorded"),
        }
        let mut board = self.lock();
        match answer {
            Err(error) if error.code.retryable() || error.code == ErrorCode::Internal => {
                board.ledger.retry(&expiry, Instant::now() + EXPIRY_RETRY);
            }
            // Recorded, or refused because the delivery is another one by now: either way this cursor is gone.
            Ok(()) | Err(_) => {
                board.ledger.withdraw(&expiry.agent, cursor);
                board.wake_agent(&expiry.agent);
                board.forget_idle(&expiry.agent);
            }
        }
    }

    pub(super) fn open_session(&self) -> (u64, Arc<Notify>) {
        self.lock().open_session()
    }

    pub(super) fn close_session(&self, session_id: u64) {
        let mut board = self.lock();
        board.close_session(session_id);
        metrics::listeners(self.led.group_id(), board.listeners());
    }

    /// One page of inference for a new listener; `true` when there is nothing left to infer.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub(super) fn infer_page(&self, request: &FeedSubscribe, key: &Arc<str>) -> Result<bool, ServiceError> {
        let now = Instant::now();
        let credential = Arc::from(request.credential.as_str());
        let mut board = self.lock();
        let from = board.inferred_to(key);
        if from < request.since {
            let agent = request.agent.clone().unwrap_or_default();
            let items = self.mailbox(agent, from, INFER_PAGE_ITEMS, 0)?;
            let more = items.len() >= INFER_PAGE_ITEMS as usize;
            for item in items.into_iter().filter(|i| i.cursor <= request.since) {
                board.set_inferred_to(key, item.cursor);
                let Some((delivery, status)) = delivery(key, &item) else {
                    continue;
                };
                if !board.ledger.holds(key, item.cursor) && !board.claims.holds(key, item.cursor) {
                    let started = matches!(status, Status::Acknowledged | Status::InProgress);
                    board.ledger.infer(&delivery, &credential, started, now);
                }
            }
            if more && board.inferred_to(key) > from && board.inferred_to(key) < request.since {
                return Ok(false);
            }
        }
        board.ledger.infer_sent(key, request.since, &credential, now);
        drop(board);
        self.timer_wake.notify_one();
        Ok(true)
    }

    pub(super) fn subscribe(&self, session_id: u64, request: FeedSubscribe, key: &Arc<str>) {
        let mut board = self.lock();
        board.subscribe(session_id, request, key);
        metrics::listeners(self.led.group_id(), board.listeners());
    }

    pub(super) fn unsubscribe(&self, session_id: u64, sub_id: u64) {
        let mut board = self.lock();
        board.unsubscribe(session_id, sub_id);
        metrics::listeners(self.led.group_id(), board.listeners());
    }

    pub(super) fn refuse(&self, session_id: u64, sub_id: u64, reason: &str) {
        self.lock().refuse(session_id, sub_id, reason);
    }

    pub(super) fn ask_lease(&self, session_id: u64, nonce: u64) {
        self.lock().ask_lease(session_id, nonce);
    }

    pub(super) fn taken(&self, session_id: u64, sub_id: u64, cursor: u64) {
        let now = Instant::now();
        let mut board = self.lock();
        let Some((agent, cursors)) = board.taken(session_id, sub_id, cursor) else {
            return;
        };
        for cursor in cursors {
            // A worker has got it meanwhile: its lease decides.
            if !board.claims.holds(&agent, cursor) && board.ledger.written(&agent, cursor, now) {
                metrics::attempt("written");
            }
        }
        drop(board);
        self.timer_wake.notify_one();
    }

    pub(super) fn picked_up(&self, intent_id: IntentId, credential: &str) {
        let news = self
            .lock()
            .ledger
            .picked_up(intent_id, Some(credential), Instant::now());
        if news {
            metrics::attempt("picked_up");
        }
        self.timer_wake.notify_one();
    }

    /// The frames to send next: control before deliveries, at most one window. Empty when there is nothing to do.
    pub(super) fn next_frames(&self, session_id: u64) -> Vec<Bytes> {
        let mut board = self.lock();
        if let Some(nonce) = board.take_lease(session_id) {
            let valid_for_ms = self.settings.lease_ms;
            return vec![encode_down(feed_down::Frame::Lease(FeedLease {
                nonce,
                valid_for_ms,
            }))];
        }
        if let Some(closed) = board.take_closed(session_id) {
            return vec![encode_down(feed_down::Frame::Closed(closed))];
        }
        while let Some(need) = board.take_need(session_id) {
            // Woken when the credit is used up.
            if board.claims.has_credit(&need.key) {
                continue;
            }
            let limit = u32::try_from(need.room).unwrap_or(u32::MAX);
            match self.mailbox(need.agent.clone(), need.since, limit, PAYLOAD_BYTES_MAX) {
                Ok(items) if items.is_empty() => {}
                Ok(items) => {
                    let frames = self.send_out(&mut board, session_id, &need, items);
                    // Empty when workers have all of them: the listener is queued again to read on.
                    if !frames.is_empty() {
                        return frames;
                    }
                }
                Err(error) => {
                    warn!(group_id = self.led.group_id().0, agent = %need.key, %error, "cannot read a mailbox");
                    board.refuse(session_id, need.sub_id, "mailbox cannot be read");
                }
            }
        }
        Vec::new()
    }

    fn send_out(
        &self,
        board: &mut Board,
        session_id: u64,
        need: &Need,
        items: Vec<MailboxItem>,
    ) -> Vec<Bytes> {
        let mut frames = Vec::with_capacity(items.len());
        for item in items {
            if board.claims.pass_over(&need.key, item.cursor) {
                board.pass_over(session_id, need.sub_id, item.cursor);
                continue;
            }
            board.advance(session_id, need.sub_id, item.cursor);
            let Some((delivery, _)) = delivery(&need.key, &item) else {
                // Counted as under way for ever, it would hold the window: give the place back.
                board.taken(session_id, need.sub_id, item.cursor);
                continue;
            };
            board.ledger.sent(&delivery, &need.credential);
            let span = debug_span!(
                "attempt.stream",
                group_id = self.led.group_id().0,
                intent_id = %delivery.intent_id,
                agent = %need.key,
                attempt = delivery.attempt
            );
            trace::caused_by(&span, [delivery.trace_parent]);
            span.in_scope(|| debug!("delivery is sent"));
            frames.push(encode_down(feed_down::Frame::Delivery(FeedDelivery {
                sub_id: need.sub_id,
                cursor: item.cursor,
                attempt: delivery.attempt,
                intent: item.intent,
                payload: item.payload,
            })));
        }
        frames
    }

    fn open_cursors(&self, agent: &str, held: &[u64]) -> Result<BTreeSet<u64>, ServiceError> {
        let mut open = BTreeSet::new();
        let (Some(first), Some(last)) = (held.first(), held.last()) else {
            return Ok(open);
        };
        let mut since = first.saturating_sub(1);
        while since < *last {
            let agent = AgentRef {
                key: agent.to_owned(),
                ..AgentRef::default()
            };
            let items = self.mailbox(agent, since, MAILBOX_PAGE_MAX, 0)?;
            let Some(end) = items.last() else {
                break;
            };
            since = end.cursor;
            open.extend(items.iter().map(|i| i.cursor));
        }
        Ok(open)
    }

    fn mailbox(
        &self,
        agent: AgentRef,
        since: u64,
        limit: u32,
        payload_bytes_max: u32,
    ) -> Result<Vec<MailboxItem>, ServiceError> {
        let list = ListMailbox {
            agent: Some(agent),
            since,
            limit,
            payload_bytes_max,
        };
        let reply = self.led.query(&Query {
            actor: None,
            body: Some(query::Body::ListMailbox(list)),
        })?;
        match reply.outcome {
            Some(query_reply::Outcome::Mailbox(page)) => Ok(page.items),
            Some(query_reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(ServiceError::new(
                ErrorCode::Internal,
                "mailbox query got an answer of another kind",
            )),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the ledger needs of a mailbox item; `None` for one without a readable intent.
fn delivery<'a>(key: &'a Arc<str>, item: &'a MailboxItem) -> Option<(Delivery<'a>, Status)> {
    let intent = item.intent.as_ref()?;
    let delivery = Delivery {
        agent: key,
        cursor: item.cursor,
        intent_id: IntentId::from_slice(&intent.intent_id)?,
        attempt: intent.failed_attempts.saturating_add(1),
        trace_parent: &intent.trace_parent,
        timed: intent
            .limits
            .is_some_and(|limits| limits.execution_timeout_seconds.is_some()),
    };
    Some((delivery, intent.status()))
}
