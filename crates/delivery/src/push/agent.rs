//! One push agent of a led group: how far its mailbox has been posted, and what is under way.

use super::breaker::Breaker;
use super::directory::Endpoint;
use super::post::Job;
use super::settings::{PAGE_ITEMS, PASSED_OVER_MAX, PAYLOAD_BYTES_MAX, PushSettings, REPLAY_PAGE_ITEMS};
use crate::dispatch::GroupDispatch;
use crate::ports::LedGroup;
use baton_protocol::proto::internal::{Delivery, Intent, ListReplays, Payload, Query, query, query_reply};
use baton_protocol::{DeliveryId, ErrorCode, IntentId, ServiceError};
use baton_state_machine::DeliveryRows;
use prost::Message;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// What to do next for an agent.
#[derive(Debug)]
pub(super) enum Next {
    Post(Box<Job>),
    /// Nothing to post so far; there is more to look at.
    Again,
    Nothing,
}

/// Soft state.
#[derive(Debug)]
pub(super) struct AgentRun {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) breaker: Breaker,
    pub(super) in_flight: usize,
    /// Cursors of open deliveries under way, also to an endpoint that the agent has left.
    pub(super) posting: HashSet<u64>,
    /// Waits for its turn.
    pub(super) queued: bool,
    /// When it is looked at again, if that is planned.
    pub(super) wake_at: Option<Instant>,
    /// Everything up to this cursor has been looked at, or is in `page`.
    since: u64,
    page: VecDeque<(u64, IntentId)>,
    /// The mailbox may hold more behind `since`.
    more: bool,
    /// When the next replay is due, unix milliseconds; 0 = the tables are to be asked.
    replays_at_ms: Option<u64>,
    replaying: HashSet<DeliveryId>,
    /// The last post was a replay: an open delivery goes first now.
    replayed_last: bool,
}

impl AgentRun {
    pub(super) fn new(endpoint: Arc<Endpoint>, settings: &PushSettings) -> Self {
        Self {
            endpoint,
            breaker: Breaker::new(settings),
            in_flight: 0,
            posting: HashSet::new(),
            queued: false,
            wake_at: None,
            since: 0,
            page: VecDeque::new(),
            more: true,
            replays_at_ms: Some(0),
            replaying: HashSet::new(),
            replayed_last: false,
        }
    }

    /// The same agent with another endpoint: what is under way to the one before is not posted again meanwhile.
    pub(super) fn moved(self, endpoint: Arc<Endpoint>, settings: &PushSettings) -> Self {
        Self {
            queued: self.queued,
            in_flight: self.in_flight,
            posting: self.posting,
            replaying: self.replaying,
            ..Self::new(endpoint, settings)
        }
    }

    /// The mailbox got something.
    pub(super) fn has_more(&mut self) {
        self.more = true;
    }

    /// A replay was planned, or one is over.
    pub(super) fn has_replays(&mut self) {
        self.replays_at_ms = Some(0);
    }

    pub(super) fn replay_over(&mut self, id: DeliveryId) {
        self.replaying.remove(&id);
        self.has_replays();
    }

    /// A delivery that nobody knows the outcome of: it goes behind those that are known.
    pub(super) fn put_back(&mut self, cursor: u64, id: IntentId) {
        self.page.push_back((cursor, id));
    }

    /// When a replay is due, if one is known.
    pub(super) fn replay_due_ms(&self) -> Option<u64> {
        self.replays_at_ms
    }

    /// Whether there may be something to post at `now_ms`.
    pub(super) fn wants(&self, now_ms: u64) -> bool {
        self.more || !self.page.is_empty() || self.replays_at_ms.is_some_and(|due| due <= now_ms)
    }

    /// The next delivery to post; counts as under way from here on. Only a replay unless `open`.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub(super) fn next(
        &mut self,
        led: &dyn LedGroup,
        dispatch: &GroupDispatch,
        key: &Arc<str>,
        open: bool,
    ) -> Result<Next, ServiceError> {
        let now_ms = led.now_ms();
        let replays = self.replays_at_ms.is_some_and(|due| due <= now_ms);
        // In turns: neither a backlog nor many replays hold up the others.
        if replays
            && !self.replayed_last
            && let Some(job) = self.next_replay(led, now_ms)?
        {
            self.replayed_last = true;
            return Ok(Next::Post(Box::new(job)));
        }
        let next = if open {
            self.next_open(led, dispatch, key)?
        } else {
            Next::Nothing
        };
        if replays
            && self.replayed_last
            && matches!(next, Next::Nothing)
            && let Some(job) = self.next_replay(led, now_ms)?
        {
            return Ok(Next::Post(Box::new(job)));
        }
        if let Next::Post(job) = &next {
            self.replayed_last = false;
            self.posting.insert(job.cursor);
        }
        Ok(next)
    }

    fn next_open(
        &mut self,
        led: &dyn LedGroup,
        dispatch: &GroupDispatch,
        key: &Arc<str>,
    ) -> Result<Next, ServiceError> {
        for _ in 0..PASSED_OVER_MAX {
            if self.page.is_empty() {
                if !self.more {
                    return Ok(Next::Nothing);
                }
                let page = led.open_deliveries(&self.endpoint.agent, self.since, PAGE_ITEMS)?;
                self.more = page.len() >= PAGE_ITEMS;
                self.since = page.last().map_or(self.since, |(cursor, _)| *cursor);
                self.page = page.into();
            }
            let Some(&(cursor, id)) = self.page.front() else {
                return Ok(Next::Nothing);
            };
            // The header alone says whether it is to be posted; most of a long mailbox is not.
            let due = match row(led, id, 0)? {
                Some(rows) => {
                    is_due(&header(&rows)?, cursor)
                        && !self.posting.contains(&cursor)
                        && !dispatch.pass_over(key, cursor)
                }
                None => false,
            };
            let rows = if due {
                row(led, id, PAYLOAD_BYTES_MAX)?
            } else {
                None
            };
            self.page.pop_front();
            let Some(rows) = rows else { continue };
            let intent = header(&rows)?;
            if !is_due(&intent, cursor) {
                continue;
            }
            let payload = rows.payload.map(Payload::decode).transpose();
            return Ok(Next::Post(Box::new(Job {
                id: DeliveryId::new(id, key),
                cursor,
                attempt: intent.failed_attempts.saturating_add(1),
                intent,
                payload: payload.map_err(|_| unreadable())?,
            })));
        }
        Ok(Next::Again)
    }

    /// The first replay that is due and not under way.
    fn next_replay(&mut self, led: &dyn LedGroup, now_ms: u64) -> Result<Option<Job>, ServiceError> {
        let list = query::Body::ListReplays(ListReplays {
            agent: Some(self.endpoint.agent.clone()),
            limit: REPLAY_PAGE_ITEMS,
        });
        let Some(query_reply::Outcome::Deliveries(page)) = ask(led, list)? else {
            return Err(unreadable());
        };
        self.replays_at_ms = None;
        for view in page.deliveries {
            let Some(row) = view.delivery else { continue };
            let Some(id) = row.key.as_ref().and_then(DeliveryId::of) else {
                continue;
            };
            if self.replaying.contains(&id) {
                continue;
            }
            if row.next_attempt_at_ms > now_ms {
                self.replays_at_ms = Some(row.next_attempt_at_ms);
                return Ok(None);
            }
            let read = replay(led, id, &row).inspect_err(|_| self.replays_at_ms = Some(0))?;
            if let Some(job) = read {
                self.replaying.insert(id);
                // There may be another one.
                self.replays_at_ms = Some(0);
                return Ok(Some(job));
            }
        }
        Ok(None)
    }
}

/// Whether the delivery under this cursor is to be posted now: not overtaken, not taken, not waiting for its turn.
fn is_due(intent: &Intent, cursor: u64) -> bool {
    let push = intent.push.unwrap_or_default();
    intent.mailbox_cursor == cursor && push.taken_cursor != cursor && push.waiting_cursor != cursor
}

fn row(
    led: &dyn LedGroup,
    id: IntentId,
    payload_bytes_max: usize,
) -> Result<Option<DeliveryRows>, ServiceError> {
    let rows = led.delivery_rows(&[id], payload_bytes_max)?;
    Ok(rows.into_iter().flatten().next())
}

fn header(rows: &DeliveryRows) -> Result<Intent, ServiceError> {
    Intent::decode(rows.intent.clone()).map_err(|_| unreadable())
}

fn replay(led: &dyn LedGroup, id: DeliveryId, delivery: &Delivery) -> Result<Option<Job>, ServiceError> {
    let Some(rows) = row(led, id.intent_id, PAYLOAD_BYTES_MAX)? else {
        return Ok(None);
    };
    let intent = header(&rows)?;
    let payload = rows.payload.map(Payload::decode).transpose();
    Ok(Some(Job {
        id,
        cursor: intent.mailbox_cursor,
        attempt: delivery.attempts.saturating_add(1),
        intent,
        payload: payload.map_err(|_| unreadable())?,
    }))
}

fn ask(led: &dyn LedGroup, body: query::Body) -> Result<Option<query_reply::Outcome>, ServiceError> {
    let query = Query {
        actor: None,
        body: Some(body),
    };
    Ok(led.query(&query)?.outcome)
}

fn unreadable() -> ServiceError {
    ServiceError::new(ErrorCode::Internal, "a delivery to push cannot be read")
}
