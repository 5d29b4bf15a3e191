//! `GET /v1/intents/{id}/events/stream` (surface 4.2).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{Event, EventPage};

use super::{Segment, Wake, response};
use crate::http::App;
use crate::http::call::{Call, intent_id};
use crate::http::error::ApiError;
use crate::http::render::{EventForm, event_json};
use crate::http::sse::frame;

pub(crate) async fn intent_stream(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    call: Call,
) -> Result<Response, ApiError> {
    let id = intent_id(&id)?;
    let since = call.query_number("since")?.unwrap_or(0);
    let (segment, frames) = Segment::open(Arc::clone(&app), &call, "intent")?;
    // Subscribed before the first read: an event in between wakes the stream.
    let changes = app.service.ports.events.subscribe(id);
    let asked = u32::try_from(since).unwrap_or(u32::MAX);
    let from = if counts_inclusively(&call) {
        asked.saturating_sub(1)
    } else {
        asked
    };
    let mut page = app
        .patiently(|| app.service.list_events(&call.caller, id, from))
        .await?;
    // A cursor beyond the end must not hide the next event.
    let last = from.min(page.last_seq);
    page.events.retain(|event| event.seq > last);
    let stream = IntentStream {
        segment,
        id,
        last,
        asked: since,
    };
    tokio::spawn(stream.run(page, changes));
    Ok(response(frames))
}

/// The command line's watcher asks for `last + 1`; it is the Go client that names no library.
fn counts_inclusively(call: &Call) -> bool {
    call.header("user-agent")
        .is_some_and(|agent| agent.starts_with("Go-http-client/"))
        && call.header("x-axme-client").is_none()
}

struct IntentStream {
    segment: Segment,
    id: IntentId,
    /// Last `seq` sent, or where the stream began.
    last: u32,
    asked: u64,
}

/// Whether the stream goes on.
enum Next {
    Continue,
    /// The intent is over.
    Terminal,
    Gone,
}

impl IntentStream {
    async fn run(mut self, first: EventPage, mut changes: tokio::sync::watch::Receiver<u64>) {
        let mut page = Some(first);
        loop {
            if let Some(page) = page.take() {
                match self.send(page).await {
                    Next::Continue => {}
                    Next::Terminal => break,
                    Next::Gone => return,
                }
            }
            let woken = self.segment.next(changes.changed()).await;
            match woken {
                Wake::Gone => return,
                Wake::End => break,
                Wake::Source(Ok(())) => {}
                // The feed was dropped; a new one carries on.
                Wake::Source(Err(_)) => {
                    changes = self.segment.app.service.ports.events.subscribe(self.id);
                    tokio::task::yield_now().await;
                }
                Wake::Recheck => {
                    if !self.segment.still_allowed().await {
                        break;
                    }
                }
            }
            changes.mark_unchanged();
            page = self.read().await;
        }
        let sent = u64::from(self.last);
        let next_seq = if sent == 0 { self.asked } else { sent };
        self.segment.finish(next_seq).await;
    }

    async fn read(&self) -> Option<EventPage> {
        let service = &self.segment.app.service;
        let read = service
            .list_events_nearby(&self.segment.caller, self.id, self.last)
            .await;
        // A replica that cannot answer now is asked again on the next wake-up.
        read.ok()
    }

    async fn send(&mut self, mut page: EventPage) -> Next {
        loop {
            for event in &page.events {
                if event.seq <= self.last {
                    continue;
                }
                if !self.segment.write(event_frame(event)).await {
                    return Next::Gone;
                }
                self.last = event.seq;
                self.segment.sent_content();
                if event.status().is_terminal() {
                    return Next::Terminal;
                }
            }
            if page.terminal && self.last >= page.last_seq {
                return Next::Terminal;
            }
            if page.events.is_empty() || self.last >= page.last_seq {
                return Next::Continue;
            }
            match self.read().await {
                Some(more) => page = more,
                None => return Next::Continue,
            }
        }
    }
}

fn event_frame(event: &Event) -> bytes::Bytes {
    let name = event.r#type().wire_name();
    [EventForm::Full, EventForm::Closed, EventForm::Brief]
        .into_iter()
        .find_map(|form| frame(event.seq.into(), name, &event_json(event, form)))
        .unwrap_or_default()
}
