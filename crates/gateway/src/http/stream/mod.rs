//! Event streams: bounded in time and number, closed early for clients that read whole bodies.

mod agent;
mod intent;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use baton_protocol::ServiceError;
use baton_protocol::limits::{WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::call::Call;
use super::sse::{PING, timeout_frame};
use crate::auth::Credential;
use crate::metrics::{GaugeGuard, STREAMS_OPEN};
use crate::service::Caller;

pub(crate) use agent::agent_stream;
pub(crate) use intent::intent_stream;

/// Frames written but not yet taken by the connection.
const FRAMES_QUEUED_MAX: usize = 64;
/// A revoked key's streams end within this time.
const RECHECK: Duration = Duration::from_secs(1);

/// Why a stream woke up.
enum Wake<T> {
    /// Something from its source.
    Source(T),
    /// Time to look whether the key still holds.
    Recheck,
    /// The segment is over.
    End,
    /// Nobody reads any more.
    Gone,
}

/// One open stream: where frames go and when it ends.
struct Segment {
    app: Arc<App>,
    caller: Arc<Caller>,
    credential: Credential,
    frames: mpsc::Sender<Bytes>,
    end: Instant,
    /// How long after the first frames to stay; `None` = until `end`.
    linger: Option<Duration>,
    ping_at: Instant,
    recheck_at: Instant,
    _permit: OwnedSemaphorePermit,
    _open: GaugeGuard,
}

impl Segment {
    fn open(
        app: Arc<App>,
        call: &Call,
        kind: &'static str,
    ) -> Result<(Self, mpsc::Receiver<Bytes>), ServiceError> {
        let permit = app.stream_permit()?;
        let wait = wait(call)?.unwrap_or(Duration::from_secs(WAIT_SECONDS_DEFAULT));
        let (frames, receiver) = mpsc::channel(FRAMES_QUEUED_MAX);
        let now = Instant::now();
        let config = &app.service.config;
        let segment = Self {
            caller: Arc::clone(&call.caller),
            credential: call.credential,
            frames,
            end: now + wait,
            linger: reads_whole_body(call).then(|| Duration::from_millis(config.stream_linger_ms)),
            ping_at: now + Duration::from_millis(config.stream_ping_ms),
            recheck_at: now + RECHECK,
            _permit: permit,
            _open: GaugeGuard::new(STREAMS_OPEN, kind),
            app,
        };
        Ok((segment, receiver))
    }

    /// Waits for `source`, sending pings meanwhile.
    async fn next<T>(&mut self, source: impl Future<Output = T>) -> Wake<T> {
        let mut source = std::pin::pin!(source);
        let shutdown = self.app.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = self.frames.closed() => return Wake::Gone,
                () = shutdown.cancelled() => return Wake::End,
                () = sleep_until(self.end) => return Wake::End,
                () = sleep_until(self.recheck_at) => {
                    self.recheck_at = Instant::now() + RECHECK;
                    return Wake::Recheck;
                }
                got = &mut source => return Wake::Source(got),
                () = sleep_until(self.ping_at) => {
                    if !self.write(PING).await {
                        return Wake::Gone;
                    }
                }
            }
        }
    }

    /// Writes one frame; `false` when the client is gone or does not read.
    async fn write(&mut self, frame: Bytes) -> bool {
        let config = &self.app.service.config;
        self.ping_at = Instant::now() + Duration::from_millis(config.stream_ping_ms);
        let patience = Duration::from_millis(config.write_timeout_ms);
        matches!(
            tokio::time::timeout(patience, self.frames.send(frame)).await,
            Ok(Ok(()))
        )
    }

    /// Notes that content was sent: clients that wait for the whole body get it soon.
    fn sent_content(&mut self) {
        if let Some(linger) = self.linger.take() {
            self.end = self.end.min(Instant::now() + linger);
        }
    }

    /// Whether the key still opens this stream.
    async fn still_allowed(&self) -> bool {
        self.app.service.authenticate(self.credential).await.is_ok()
    }

    async fn finish(mut self, next_seq: u64) {
        self.write(timeout_frame(next_seq)).await;
    }
}

/// `wait_seconds`, at least 1 and at most the limit.
pub(super) fn wait(call: &Call) -> Result<Option<Duration>, ServiceError> {
    let seconds = call.query_number("wait_seconds")?;
    Ok(seconds.map(|s| Duration::from_secs(s.clamp(1, WAIT_SECONDS_MAX))))
}

/// Python reads line by line; everyone else may show nothing until the body ends.
fn reads_whole_body(call: &Call) -> bool {
    let starts = |name: &str, prefix: &str| call.header(name).is_some_and(|v| v.starts_with(prefix));
    !(starts("x-axme-client", "axme-sdk-python") || starts("user-agent", "python-httpx"))
}

fn response(frames: mpsc::Receiver<Bytes>) -> Response {
    let body = Body::from_stream(ReceiverStream::new(frames).map(Ok::<_, Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
