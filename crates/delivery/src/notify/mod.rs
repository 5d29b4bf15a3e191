//! Messages to people: the leader of a group hands what waits in its queue to the carrier that the operator configured.
//!
//! The queue is in the tables, so a new leader goes on where the log says. What a message came to is a command
//! (`ReportNotice`). A message may be sent twice when a leader is lost in between; it has the same id both times.

mod group;
mod hook;
mod log;
mod smtp;

pub(crate) use group::NoticeGroup;
pub use hook::HookCarrier;
pub use log::LogCarrier;
pub use smtp::{SmtpCarrier, SmtpSettings, SmtpTls};

use async_trait::async_trait;
use baton_protocol::ServiceError;
use baton_protocol::proto::internal::NoticeView;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Messages of one group under way at the same time.
pub const GROUP_SENDS_MAX: usize = 8;

/// A message, ready to be carried. Links in it let whoever reads them answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The same for every attempt.
    pub id: String,
    /// A mail address, or a channel of a notification step.
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The page of the task it is about.
    pub link: Option<String>,
    /// The same as one JSON object.
    pub json: Bytes,
    /// When the reason for it arose, unix milliseconds.
    pub written_at_ms: u64,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Writes messages.
pub trait Letters: Send + Sync + 'static {
    /// The message of a notice; the same every time for the same notice.
    ///
    /// # Errors
    /// `Unavailable` when what it needs cannot be read now.
    fn write(&self, view: &NoticeView) -> Result<Letter, ServiceError>;
}

/// Why a message was not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCarried {
    /// In our words: nothing that came over a wire.
    pub reason: String,
    /// Trying again would end the same.
    pub for_good: bool,
}

impl NotCarried {
    fn for_now(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            for_good: false,
        }
    }

    fn for_good(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            for_good: true,
        }
    }
}

/// Carries messages out of the cluster. Bounded in time.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Carries one message.
    ///
    /// # Errors
    /// When nobody has taken it.
    async fn carry(&self, letter: &Letter, now_ms: u64) -> Result<(), NotCarried>;
}

/// How messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifierSettings {
    /// Messages of this node under way at the same time.
    pub concurrency: usize,
    /// Pauses after the first, second, … failed attempt; the last one repeats.
    pub retry_schedule_ms: Vec<u64>,
}

/// What all led groups of a node share.
pub struct Notifier {
    carrier: Arc<dyn Carrier>,
    letters: Arc<dyn Letters>,
    settings: NotifierSettings,
    slots: Semaphore,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Notifier {
    /// One for the whole node.
    #[must_use]
    pub fn new(
        carrier: Arc<dyn Carrier>,
        letters: Arc<dyn Letters>,
        settings: NotifierSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            slots: Semaphore::new(settings.concurrency.max(1)),
            carrier,
            letters,
            settings,
        })
    }
}
