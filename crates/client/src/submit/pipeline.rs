//! A stream of submits: many in flight over one stream per node, each answered by itself.

use super::Submit;
use super::driver::Driver;
use super::pending::Item;
use crate::client::About;
use crate::types::{Outcome, Receipt, Status};
use crate::{Client, Error};
use serde::Serialize;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Intents in flight when nothing else is said.
const IN_FLIGHT_DEFAULT: usize = 1_024;
/// Most intents in flight; each costs its payload's memory here.
pub const IN_FLIGHT_MAX: usize = 65_536;
/// Intents between callers and the connection.
const QUEUE_ITEMS_MAX: usize = 1_024;
pub(super) const NAME: &str = "the submitter";

/// Describes a submitter.
#[derive(Debug)]
#[must_use = "a builder does nothing until open"]
pub struct SubmitterBuilder {
    client: Client,
    in_flight_max: usize,
}

/// Submits a stream of intents; the cheapest way to submit many. Intents go to the node that leads their agent once
/// that is known, over one stream per node. When a stream breaks, what is unanswered goes to the next node with the same
/// idempotency keys. Clones share the streams.
///
/// ```no_run
/// # async fn example(client: baton_client::Client) -> Result<(), baton_client::Error> {
/// use baton_client::Submit;
///
/// let submitter = client.submitter().in_flight_max(256).open();
/// let mut tickets = Vec::new();
/// for n in 0..1_000 {
///     let submit = Submit::new("payment", "intent.payment.process.v1").json(&n)?;
///     tickets.push(submitter.submit(submit).await?); // waits while 256 are unanswered
/// }
/// for ticket in tickets {
///     println!("{}", ticket.await?.intent_id);
/// }
/// submitter.close().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Submitter {
    client: Client,
    places: Arc<Semaphore>,
    /// One lane per node.
    lanes: Arc<[mpsc::Sender<Item>]>,
    /// Why no further item will be answered.
    failed: Arc<OnceLock<Error>>,
    done: CancellationToken,
}

impl Client {
    /// Describes a submitter: many submits in flight over one stream per node.
    pub fn submitter(&self) -> SubmitterBuilder {
        SubmitterBuilder {
            client: self.clone(),
            in_flight_max: IN_FLIGHT_DEFAULT,
        }
    }
}

impl SubmitterBuilder {
    /// Intents without an answer at one time (1,024); at the bound, `submit` waits.
    pub fn in_flight_max(mut self, items: usize) -> Self {
        self.in_flight_max = items.clamp(1, IN_FLIGHT_MAX);
        self
    }

    /// The submitter. It connects with the first intent. Must be called inside a tokio runtime.
    #[must_use]
    pub fn open(self) -> Submitter {
        let failed = Arc::new(OnceLock::new());
        let done = CancellationToken::new();
        // Dropped with the last lane.
        let guard = Arc::new(done.clone().drop_guard());
        let lane = |endpoint| {
            let (queue, items) = mpsc::channel(QUEUE_ITEMS_MAX);
            let driver = Driver::new(self.client.clone(), endpoint, items, Arc::clone(&failed));
            let guard = Arc::clone(&guard);
            tokio::spawn(async move {
                driver.run().await;
                drop(guard);
            });
            queue
        };
        let lanes = (0..self.client.endpoints().count()).map(lane).collect();
        Submitter {
            client: self.client,
            places: Arc::new(Semaphore::new(self.in_flight_max)),
            lanes,
            failed,
            done,
        }
    }
}

impl Submitter {
    /// Sends one intent; the ticket gives the receipt. Waits while too many are unanswered. An intent whose ticket is
    /// dropped is submitted all the same.
    ///
    /// # Errors
    /// When the submitter cannot go on, for example because the key is not accepted.
    pub async fn submit(&self, submit: Submit) -> Result<Ticket, Error> {
        self.send(submit, None).await
    }

    /// As `submit`, and says when the intent has ended. It counts as in flight until then.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_and_follow(&self, submit: Submit) -> Result<(Ticket, Ending), Error> {
        let (ended, ending) = oneshot::channel();
        let ticket = self.send(submit, Some(ended)).await?;
        Ok((ticket, Ending(ending)))
    }

    async fn send(
        &self,
        submit: Submit,
        ended: Option<oneshot::Sender<Result<Ended, Error>>>,
    ) -> Result<Ticket, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| self.why_closed())?;
        let (receipt, ticket) = oneshot::channel();
        let spec = submit.into_spec(&self.client);
        let lane = self.client.endpoint_for(About::Agent(&spec.to_agent));
        let item = Item {
            spec,
            receipt,
            ended,
            place,
        };
        self.lanes[lane].send(item).await.map_err(|_| self.why_closed())?;
        Ok(Ticket(ticket))
    }

    /// Waits until everything that was submitted, through any clone, has its answer. The last clone must be closed or
    /// dropped for that.
    ///
    /// # Errors
    /// Why the submitter could not go on. What became of each intent is in its ticket.
    pub async fn close(self) -> Result<(), Error> {
        let Self {
            lanes, failed, done, ..
        } = self;
        drop(lanes);
        done.cancelled().await;
        failed.get().cloned().map_or(Ok(()), Err)
    }

    fn why_closed(&self) -> Error {
        self.failed.get().cloned().unwrap_or(Error::Closed(NAME))
    }
}

/// The receipt to come of one intent.
#[derive(Debug)]
#[must_use = "the receipt says whether the intent is committed"]
pub struct Ticket(oneshot::Receiver<Result<Receipt, Error>>);

impl Future for Ticket {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answer.unwrap_or(Err(Error::Closed(NAME))))
    }
}

/// The end to come of one intent.
#[derive(Debug)]
pub struct Ending(oneshot::Receiver<Result<Ended, Error>>);

impl Future for Ending {
    type Output = Result<Ended, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(answer.unwrap_or(Err(Error::Closed(NAME))))
    }
}

/// How an intent that was followed has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ended {
    pub intent_id: String,
    pub status: Status,
    pub outcome: Option<Outcome>,
}

/// The error of an intent that got no receipt within the client's timeout.
pub(super) fn timeout_error(client: &Client, last: Option<&Error>) -> Error {
    let last = last.map_or_else(|| "no answer came".to_owned(), ToString::to_string);
    Error::Timeout {
        after: client.timeout(),
        last,
    }
}
