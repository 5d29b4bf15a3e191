//! The answering side of a streaming call: bounded, ended by a revoked key, by shutdown and by clients that do not
//! read.

use std::sync::Arc;
use std::time::Duration;

use baton_protocol::{ErrorCode, ServiceError};
use futures::StreamExt as _;
use futures::stream::Map;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::auth::Admitted;
use super::status::status;
use crate::app::App;
use crate::auth::Credential;
use crate::metrics::{GaugeGuard, STREAMS_OPEN};
use crate::service::Caller;

/// Messages written but not yet taken by the connection.
const MESSAGES_QUEUED_MAX: usize = 16;
/// A revoked key's streams end within this time.
const RECHECK: Duration = Duration::from_secs(1);

/// The body of a streaming answer.
pub(crate) type Messages<T> = Map<ReceiverStream<Queued<T>>, fn(Queued<T>) -> Result<T, Status>>;

/// A message on its way out. Boxed, because a channel sets 32 places aside: that is what an idle stream costs.
type Queued<T> = Box<Result<T, Status>>;

/// Why a stream woke up.
pub(crate) enum Wake<S> {
    /// Something from its source.
    Source(S),
    /// The key still holds; a second has passed.
    Tick,
    /// The node is stopping. Only for who asks for it.
    Stop,
    /// The stream is over: the client is gone, or it was told why.
    Over,
}

/// One open stream.
pub(crate) struct Outbound<T> {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Arc<Caller>,
    credential: Credential,
    messages: mpsc::Sender<Queued<T>>,
    recheck_at: Instant,
    _permit: OwnedSemaphorePermit,
    _open: GaugeGuard,
}

impl<T> Outbound<T> {
    /// Takes one of the node's streams.
    ///
    /// # Errors
    /// `Unavailable` when all are taken.
    pub(crate) fn open(
        app: Arc<App>,
        admitted: &Admitted,
        kind: &'static str,
    ) -> Result<(Self, Response<Messages<T>>), Status> {
        let permit = app.stream_permit().map_err(status)?;
        let (messages, receiver) = mpsc::channel(MESSAGES_QUEUED_MAX);
        let outbound = Self {
            caller: Arc::clone(&admitted.caller),
            credential: admitted.credential,
            messages,
            recheck_at: Instant::now() + RECHECK,
            _permit: permit,
            _open: GaugeGuard::new(STREAMS_OPEN, kind),
            app,
        };
        let unboxed: fn(Queued<T>) -> Result<T, Status> = |queued| *queued;
        Ok((
            outbound,
            Response::new(ReceiverStream::new(receiver).map(unboxed)),
        ))
    }

    /// Waits for `source`, looking after the stream meanwhile. What `source` had begun is dropped unless it answers.
    pub(crate) async fn next<S>(&mut self, source: impl Future<Output = S>) -> Wake<S> {
        let woken = self.next_or_stop(source).await;
        if !matches!(woken, Wake::Stop) {
            return woken;
        }
        self.end_for_stop().await;
        Wake::Over
    }

    /// The same, for a stream that has something to finish before it ends.
    pub(crate) async fn next_or_stop<S>(&mut self, source: impl Future<Output = S>) -> Wake<S> {
        let shutdown = self.app.shutdown.clone();
        tokio::select! {
            biased;
            () = self.messages.closed() => Wake::Over,
            () = shutdown.cancelled() => Wake::Stop,
            () = sleep_until(self.recheck_at) => self.recheck().await,
            got = source => Wake::Source(got),
        }
    }

    async fn recheck<S>(&mut self) -> Wake<S> {
        self.recheck_at = Instant::now() + RECHECK;
        match self.app.service.authenticate(self.credential).await {
            Err(error) if !error.code.retryable() => {
                self.end(error).await;
                Wake::Over
            }
            // A node that cannot tell now asks again in a second, and says so when it cannot for long.
            Err(_) | Ok(_) => Wake::Tick,
        }
    }

    /// Sends one message; `false` when the client is gone or does not read.
    pub(crate) async fn send(&mut self, message: T) -> bool {
        self.put(Ok(message)).await
    }

    /// Ends the stream with an error.
    pub(crate) async fn end(&mut self, error: impl Into<crate::service::Failure>) {
        self.put(Err(status(error))).await;
    }

    /// Ends the stream because the node stops.
    pub(crate) async fn end_for_stop(&mut self) {
        let stopping = "this node is stopping; go on at another one";
        self.end(ServiceError::new(ErrorCode::ShuttingDown, stopping))
            .await;
    }

    /// Ends the stream with a status.
    pub(crate) async fn end_with(&mut self, found: Status) {
        self.put(Err(found)).await;
    }

    async fn put(&mut self, message: Result<T, Status>) -> bool {
        let patience = Duration::from_millis(self.app.service.config.write_timeout_ms);
        matches!(
            timeout(patience, self.messages.send(Box::new(message))).await,
            Ok(Ok(()))
        )
    }
}
