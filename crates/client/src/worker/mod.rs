//! Working on intents: takes items of an address, runs a handler on each, reports what became of it.

mod driver;
mod held;
mod job;

pub use job::{Job, JobError};

use crate::types::Payload;
use crate::{Client, Error};
use driver::Driver;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Handlers at one time when nothing else is said.
const CONCURRENCY_DEFAULT: u32 = 16;
/// Most handlers of one worker.
const CONCURRENCY_MAX: u32 = 16_384;
/// How long handlers may go on after the shutdown.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Takes work of one address. Workers of an address compete: each item goes to one of them at a time. While a handler
/// runs its lease is renewed; when the connection breaks, running handlers go on and their items are presented to the
/// next node. Delivery is at least once: after a crash or a long partition another worker gets the item, so a handler
/// must bear to be repeated.
///
/// ```no_run
/// # async fn example(client: baton_client::Client) -> Result<(), baton_client::Error> {
/// use baton_client::{Job, JobError};
/// use std::time::Duration;
///
/// client
///     .worker("agent://acme/prod/payment")
///     .concurrency(32)
///     .run(|job: Job| async move {
///         let order: serde_json::Value = job.json()?;
///         if order["order_id"].is_null() {
///             return Err(JobError::fail("an order without an id"));
///         }
///         if job.attempt() == 1 {
///             return Err(JobError::retry(Duration::from_secs(5)).because("the bank is closed"));
///         }
///         Ok(serde_json::json!({"charged": true}))
///     })
///     .await
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a worker does nothing until run"]
pub struct Worker {
    client: Client,
    agent: String,
    name: String,
    concurrency: u32,
    lease: Option<Duration>,
    drain_timeout: Duration,
    shutdown: CancellationToken,
}

impl Client {
    /// Describes a worker of this agent.
    pub fn worker(&self, agent: impl Into<String>) -> Worker {
        Worker {
            client: self.clone(),
            agent: agent.into(),
            name: format!("rust-{}", std::process::id()),
            concurrency: CONCURRENCY_DEFAULT,
            lease: None,
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            shutdown: CancellationToken::new(),
        }
    }
}

impl Worker {
    /// Handlers at one time (16).
    pub fn concurrency(mut self, handlers: u32) -> Self {
        self.concurrency = handlers.clamp(1, CONCURRENCY_MAX);
        self
    }

    /// Which worker this is, for operators.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long an item may go without a sign of life of this worker before somebody else gets it; the server has a
    /// default and bounds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Stops the worker when it is cancelled: no new items, running handlers finish and report.
    pub fn shutdown(mut self, token: CancellationToken) -> Self {
        self.shutdown = token;
        self
    }

    /// How long handlers may go on after the shutdown (30 s); what still runs then is handed back.
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.drain_timeout = time;
        self
    }

    /// Works until the shutdown. Lost connections are no reason to return: it tries again, with back-off.
    ///
    /// # Errors
    /// What trying again does not help: a key that is not accepted, an agent that does not exist or was stopped.
    pub async fn run<F, Fut, T>(self, handler: F) -> Result<(), Error>
    where
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, JobError>> + Send + 'static,
        T: Into<Payload> + Send + 'static,
    {
        let handler = move |job: Job| -> driver::Running {
            let running = handler(job);
            Box::pin(async move { running.await.map(Into::into) })
        };
        Driver::new(self, Box::new(handler)).run().await
    }
}
