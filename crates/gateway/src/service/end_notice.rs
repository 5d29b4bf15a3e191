//! Telling whoever submitted an intent that it has ended, without a task or a read per intent.

use std::time::Duration;

use baton_protocol::proto::internal::{Event, GetIntent, IntentView, Query, query, query_reply};
use baton_protocol::{IntentId, Route, ServiceError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Caller, Service, outcome};
use crate::ports::EndSender;

/// How often a waiter looks for itself, in case this node's replica was restored and skipped the event.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the end of an intent is said, and under which number.
#[derive(Debug, Clone)]
pub(crate) struct EndNotice {
    pub(crate) token: u64,
    pub(crate) to: EndSender,
}

/// A notice that this node's feed has been asked for. Dropped unsettled (refused, given up) it is taken back.
pub(super) struct AskedForEnd<'a> {
    service: &'a Service,
    id: IntentId,
    notice: EndNotice,
    settled: bool,
}

impl<'a> AskedForEnd<'a> {
    pub(super) fn ask(service: &'a Service, id: IntentId, notice: EndNotice) -> Self {
        service.ports.events.notify_end(id, notice.token, &notice.to);
        Self {
            service,
            id,
            notice,
            settled: false,
        }
    }

    /// The intent exists. An earlier call's may have another id and may have ended before it was asked about.
    pub(super) async fn settle(mut self, caller: &Caller, intent_id: &[u8], replayed: bool) {
        let Some(id) = IntentId::from_slice(intent_id) else {
            return;
        };
        if id == self.id && !replayed {
            self.settled = true;
            return;
        }
        self.service.ports.events.forget_end(self.id, self.notice.token);
        self.id = id;
        self.settled = true;
        self.service
            .ports
            .events
            .notify_end(id, self.notice.token, &self.notice.to);
        if let Ok(view) = self.service.get_intent(caller, id, false).await
            && let Some(event) = view.terminal_event
        {
            self.service.ports.events.forget_end(id, self.notice.token);
            // Nobody listens: nobody to tell.
            let _ = self.notice.to.send((self.notice.token, event));
        }
    }
}

impl Drop for AskedForEnd<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.service.ports.events.forget_end(self.id, self.notice.token);
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.service.ports.events.forget_end(self.id, self.token);
    }
}

/// Takes a notice back when nobody waits any more.
struct Waiter<'a> {
    service: &'a Service,
    id: IntentId,
    token: u64,
}

impl Service {
    /// The intent once it is terminal, or as it is at `until`.
    pub(crate) async fn wait_for_end(
        &self,
        caller: &Caller,
        id: IntentId,
        token: u64,
        until: Instant,
    ) -> Result<IntentView, ServiceError> {
        let (to, mut ended) = mpsc::unbounded_channel();
        // Asked for before the read, so that no end falls between the two.
        self.ports.events.notify_end(id, token, &to);
        let _waiter = Waiter {
            service: self,
            id,
            token,
        };
        let mut view = self.get_intent(caller, id, true).await?;
        while !is_terminal(&view) {
            let look = (Instant::now() + LOOK_EVERY).min(until);
            let told = timeout_at(look, ended.recv()).await.is_ok();
            let over = told || self.end_nearby(caller, id).is_some();
            if over || Instant::now() >= until {
                view = self.get_intent(caller, id, true).await?;
                break;
            }
        }
        Ok(view)
    }

    /// The terminal event of an intent as far as this node has applied it. For notices that a restored replica may
    /// have missed.
    pub(crate) fn end_nearby(&self, caller: &Caller, id: IntentId) -> Option<Event> {
        let query = Query {
            actor: Some(caller.actor(None, None)),
            body: Some(query::Body::GetIntent(GetIntent {
                intent_id: id.to_bytes(),
                with_payload: false,
            })),
        };
        let reply = self
            .ports
            .reader
            .read_local(Route::Slot(id.slot()), &query)
            .ok()?;
        let query_reply::Outcome::Intent(view) = outcome(reply).ok()? else {
            return None;
        };
        view.terminal_event
    }
}

fn is_terminal(view: &IntentView) -> bool {
    view.intent.as_ref().is_some_and(|i| i.status().is_terminal())
}
