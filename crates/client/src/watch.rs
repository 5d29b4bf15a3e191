//! The events of one intent, as they happen.

use crate::client::MESSAGE_BYTES_MAX;
use crate::types::Event;
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tonic::Streaming;

/// Events of one intent in order, each once; ends after the terminal one. Survives lost connections: it goes on with
/// the event after the last one seen, at another node if need be.
///
/// ```no_run
/// # async fn example(client: baton_client::Client) -> Result<(), baton_client::Error> {
/// let mut watch = client.watch("0193a1c2-0000-8000-8000-000000000000");
/// while let Some(event) = watch.next().await {
///     let event = event?;
///     println!("{} {}", event.seq, event.event_type);
/// }
/// # Ok(()) }
/// ```
pub struct Watch {
    events: BoxStream<'static, Result<Event, Error>>,
}

impl Client {
    /// All events of an intent: those that are there, then those to come.
    #[must_use]
    pub fn watch(&self, intent_id: impl Into<String>) -> Watch {
        self.watch_from(intent_id, 0)
    }

    /// Events after `since_seq`.
    #[must_use]
    pub fn watch_from(&self, intent_id: impl Into<String>, since_seq: u32) -> Watch {
        let follower = Follower {
            client: self.clone(),
            intent_id: intent_id.into(),
            seen: since_seq,
            stream: None,
            failures: 0,
            alone_since: Instant::now(),
            ended: false,
        };
        let events = futures::stream::unfold(follower, |mut follower| async move {
            let item = follower.next().await?;
            Some((item, follower))
        });
        Watch {
            events: events.boxed(),
        }
    }
}

impl Watch {
    /// The next event; `None` after the terminal one or after an error.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        self.events.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(context)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

struct Follower {
    client: Client,
    intent_id: String,
    /// `seq` of the last event that was given out.
    seen: u32,
    stream: Option<Streaming<v1::WatchResponse>>,
    /// Streams in a row that brought nothing.
    failures: u32,
    alone_since: Instant,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Event, Error>> {
        if self.ended {
            return None;
        }
        loop {
            let error = match self.receive().await {
                Ok(Some(event)) => {
                    self.ended = event.status.is_terminal();
                    return Some(Ok(event));
                }
                // Servers end long streams; that is no failure of theirs.
                Ok(None) => None,
                Err(error) => Some(error),
            };
            self.stream = None;
            self.failures += 1;
            if let Some(error) = error {
                let patient = self.alone_since.elapsed() < self.client.stream_patience();
                if !error.retryable() || !patient {
                    self.ended = true;
                    return Some(Err(error));
                }
                tracing::debug!(%error, intent_id = self.intent_id, "watch goes on at another node");
            }
            if self.failures > 1 {
                tokio::time::sleep(self.client.retry().pause(self.failures, None)).await;
            }
        }
    }

    /// The next new event of the current stream, which is opened when there is none.
    async fn receive(&mut self) -> Result<Option<Event>, Error> {
        if self.stream.is_none() {
            self.stream = Some(self.open().await?);
            self.alone_since = Instant::now();
        }
        while let Some(stream) = &mut self.stream {
            let message = stream.message().await;
            let message = message.map_err(|status| Error::from_status(&status, self.client.endpoint()))?;
            self.alone_since = Instant::now();
            match message {
                None => return Ok(None),
                Some(message) => {
                    let event = message.event.map(Event::from_wire);
                    if let Some(event) = event.filter(|event| event.seq > self.seen) {
                        self.seen = event.seq;
                        self.failures = 0;
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn open(&self) -> Result<Streaming<v1::WatchResponse>, Error> {
        let request = v1::WatchRequest {
            intent_id: self.intent_id.clone(),
            since_seq: self.seen,
        };
        self.client
            .call(self.client.stream_call(), |channel, outgoing| {
                let request = outgoing.carry(request.clone());
                async move {
                    IntentServiceClient::new(channel)
                        .max_decoding_message_size(MESSAGE_BYTES_MAX)
                        .watch(request)
                        .await
                }
            })
            .await
    }
}
