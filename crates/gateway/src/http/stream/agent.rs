//! `GET /v1/agents/{address}/intents/stream` (surface 4.3).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use baton_protocol::FeedItem;
use baton_protocol::proto::internal::{AgentRef, Status};
use tokio::sync::mpsc;

use super::{Segment, Wake, response};
use crate::http::App;
use crate::http::agents::{delivery_json, shown_status, status_filter};
use crate::http::call::Call;
use crate::http::error::ApiError;
use crate::http::sse::frame;

/// Between two attempts to subscribe while the agent's group has no leader.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn agent_stream(app: Arc<App>, address: &str, call: Call) -> Result<Response, ApiError> {
    let agent = app
        .patiently(|| app.service.owner(&call.caller, Some(address)))
        .await?;
    let since = call.query_number("since")?.unwrap_or(0);
    let statuses = status_filter(&call)?;
    let (segment, frames) = Segment::open(app, &call, "agent")?;
    let stream = AgentStream {
        segment,
        agent,
        cursor: since,
        statuses,
    };
    tokio::spawn(stream.run());
    Ok(response(frames))
}

struct AgentStream {
    segment: Segment,
    agent: AgentRef,
    /// Last delivery cursor sent, or where the client began.
    cursor: u64,
    statuses: Option<HashSet<Status>>,
}

impl AgentStream {
    async fn run(mut self) {
        let mut feed: Option<mpsc::Receiver<FeedItem>> = None;
        loop {
            let app = Arc::clone(&self.segment.app);
            let caller = Arc::clone(&self.segment.caller);
            let woken = match &mut feed {
                Some(open) => match self.segment.next(open.recv()).await {
                    Wake::Source(item) => Wake::Source(item.map(Ok)),
                    Wake::Recheck => Wake::Recheck,
                    Wake::End => Wake::End,
                    Wake::Gone => Wake::Gone,
                },
                None => match self
                    .segment
                    .next(app.service.listen(&caller, &self.agent, self.cursor))
                    .await
                {
                    Wake::Source(Ok(opened)) => {
                        feed = Some(opened);
                        continue;
                    }
                    Wake::Source(Err(error)) => Wake::Source(Some(Err(error))),
                    Wake::Recheck => Wake::Recheck,
                    Wake::End => Wake::End,
                    Wake::Gone => Wake::Gone,
                },
            };
            match woken {
                Wake::Gone => return,
                Wake::End => break,
                Wake::Recheck => {
                    if !self.segment.still_allowed().await {
                        break;
                    }
                }
                Wake::Source(Some(Ok(item))) => {
                    if !self.send(&item).await {
                        return;
                    }
                }
                // Closed or refused: the leader changed. The next subscription starts after what was sent.
                Wake::Source(None | Some(Err(_))) => {
                    feed = None;
                    tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
                }
            }
        }
        let cursor = self.cursor;
        self.segment.finish(cursor).await;
    }

    async fn send(&mut self, item: &FeedItem) -> bool {
        let status = shown_status(item.intent.status());
        if item.cursor <= self.cursor || self.statuses.as_ref().is_some_and(|s| !s.contains(&status)) {
            return true;
        }
        let with_payload = frame(item.cursor, "intent.delivered", &delivery_json(item, true));
        let sized =
            with_payload.or_else(|| frame(item.cursor, "intent.delivered", &delivery_json(item, false)));
        let Some(sized) = sized else {
            return true;
        };
        if !self.segment.write(sized).await {
            return false;
        }
        self.cursor = item.cursor;
        self.segment.sent_content();
        true
    }
}
