//! Push: the leader of an agent's group posts its deliveries to the agent's endpoint.
//!
//! Per agent a position moves through the mailbox, each open delivery is posted once per cursor, and what a post came
//! to is a command: taken (`AcknowledgeAttempt`) or failed (`FailAttempt`, which plans a fresh cursor as a replicated
//! timer). So a new leader goes on where the log says, and an agent that becomes a push agent gets what is open.
//!
//! While a worker of an agent has credit, nothing new is posted to it; what was posted or waits for its next attempt stays
//! with the endpoint.
//!
//! An endpoint, its host and its workspace cost at most their shares of posts, each bounded in time and bytes; one that keeps failing is left alone
//! for a while, which costs no attempts.

mod agent;
mod breaker;
mod client;
mod connect;
mod directory;
mod group;
mod guard;
mod ladder;
mod lookups;
mod post;
pub mod settings;
mod shares;
mod sign;

pub(crate) use client::Outcome;
pub(crate) use group::PushGroup;
pub(crate) use ladder::delay_ms;
pub(crate) use post::OUTCOMES;
pub(crate) use sign::{SigningKeys, headers as signed_headers};

pub use client::PushClient;
pub use connect::{Resolver, SystemResolver};
pub use directory::{MetaTables, PushDirectory};
pub use settings::PushSettings;

use baton_protocol::FeedItem;
use bytes::Bytes;
use shares::Shares;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Renders what is posted: one JSON object.
pub trait PushBody: Send + Sync + 'static {
    /// `item` as on an agent stream, with the delivery's id. A replay is for information.
    fn render(&self, item: &FeedItem, delivery_id: &str, replay: bool) -> Bytes;
}

/// What all led groups of a node share.
pub struct Push {
    pub(crate) directory: Arc<PushDirectory>,
    pub(crate) client: PushClient,
    pub(crate) settings: PushSettings,
    pub(crate) body: Arc<dyn PushBody>,
    /// Posts that may be under way.
    pub(crate) slots: Arc<Semaphore>,
    /// Of these, to one host and for one workspace.
    pub(crate) shares: Arc<Shares>,
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Push {
    /// What posts go out with.
    #[must_use]
    pub fn client(&self) -> PushClient {
        self.client.clone()
    }

    /// One for the whole node.
    #[must_use]
    pub fn new(
        directory: Arc<PushDirectory>,
        client: PushClient,
        settings: PushSettings,
        body: Arc<dyn PushBody>,
    ) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(settings.concurrency.max(1))),
            shares: Shares::new(settings.host_concurrency, settings.workspace_concurrency),
            directory,
            client,
            settings,
            body,
        })
    }
}
