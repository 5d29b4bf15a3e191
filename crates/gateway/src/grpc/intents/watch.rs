//! `Watch`: the events of one intent, from any seq to the terminal one.

use std::sync::Arc;
use std::time::Duration;

use baton_protocol::limits::WAIT_SECONDS_MAX;
use baton_protocol::proto::internal::EventPage;
use baton_protocol::proto::v1::{WaitForRequest, WaitForResponse, WatchRequest, WatchResponse};
use baton_protocol::{IntentId, ServiceError};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Response, Status};

use crate::app::App;
use crate::grpc::auth::Admitted;
use crate::grpc::outbound::{Messages, Outbound, Wake};
use crate::grpc::status::status;
use crate::grpc::{convert, decode};

/// A wait ends one part in this many before the call's deadline, so that the answer still arrives.
const DEADLINE_MARGIN_SHARE: u32 = 5;

pub(super) async fn wait_for(
    app: &Arc<App>,
    call: &Admitted,
    request: &WaitForRequest,
) -> Result<Response<WaitForResponse>, Status> {
    let id = decode::intent_id(&request.intent_id).map_err(status)?;
    let _permit = app.stream_permit().map_err(status)?;
    let longest = Duration::from_secs(WAIT_SECONDS_MAX);
    let asked = match request.wait_ms {
        0 => longest,
        wait_ms => longest.min(Duration::from_millis(wait_ms.into())),
    };
    let now = Instant::now();
    let mut until = now + asked;
    if let Some(deadline) = call.deadline {
        let left = deadline.saturating_duration_since(now);
        until = until.min(now + (left - left / DEADLINE_MARGIN_SHARE));
    }
    let view = tokio::select! {
        view = app.service.wait_for_end(&call.caller, id, app.token(), until) => view,
        () = app.shutdown.cancelled() => app.service.get_intent(&call.caller, id, true).await,
    };
    let view = view.map_err(status)?;
    let terminal = view.intent.as_ref().is_some_and(|i| i.status().is_terminal());
    Ok(Response::new(WaitForResponse {
        intent: convert::view(view),
        terminal,
    }))
}

pub(super) async fn watch(
    app: &Arc<App>,
    call: &Admitted,
    request: &WatchRequest,
) -> Result<Response<Messages<WatchResponse>>, Status> {
    let id = decode::intent_id(&request.intent_id).map_err(status)?;
    let (out, response) = Outbound::open(Arc::clone(app), call, "intent")?;
    // Subscribed before the first read: an event in between wakes the stream.
    let changes = app.service.ports.events.subscribe(id);
    let since = request.since_seq;
    let first = app
        .patiently(|| app.service.list_events(&call.caller, id, since))
        .await
        .map_err(status)?;
    // A seq beyond the end must not hide the next event.
    let last = since.min(first.last_seq);
    tokio::spawn(Watch { out, id, last }.run(first, changes));
    Ok(response)
}

struct Watch {
    out: Outbound<WatchResponse>,
    id: IntentId,
    /// Last seq sent, or where the stream began.
    last: u32,
}

impl Watch {
    async fn run(mut self, first: EventPage, mut changes: watch::Receiver<u64>) {
        let mut page = Ok(first);
        loop {
            if let Ok(page) = page
                && !self.send(page).await
            {
                return;
            }
            match self.out.next(changes.changed()).await {
                Wake::Over | Wake::Stop => return,
                // A tick also finds what a wake-up may have missed: a replica that was restored from a snapshot.
                Wake::Source(Ok(())) | Wake::Tick => {}
                Wake::Source(Err(_)) => {
                    changes = self.out.app.service.ports.events.subscribe(self.id);
                    tokio::task::yield_now().await;
                }
            }
            changes.mark_unchanged();
            page = self.read().await;
        }
    }

    /// A replica that cannot answer now is asked again on the next wake-up.
    async fn read(&self) -> Result<EventPage, ServiceError> {
        let service = &self.out.app.service;
        service
            .list_events_nearby(&self.out.caller, self.id, self.last)
            .await
    }

    /// Sends a page and those after it; `false` when the stream is over.
    async fn send(&mut self, mut page: EventPage) -> bool {
        loop {
            let empty = page.events.is_empty();
            for event in page.events {
                if event.seq <= self.last {
                    continue;
                }
                self.last = event.seq;
                let terminal = event.status().is_terminal();
                let message = WatchResponse {
                    event: Some(convert::event(event)),
                };
                if !self.out.send(message).await || terminal {
                    return false;
                }
            }
            if page.terminal && self.last >= page.last_seq {
                return false;
            }
            if empty || self.last >= page.last_seq {
                return true;
            }
            match self.read().await {
                Ok(more) => page = more,
                Err(_) => return true,
            }
        }
    }
}
