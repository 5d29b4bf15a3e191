//! What a handler gets, and what it may answer.

use crate::Client;
use crate::types::{Intent, Payload};
use baton_protocol::limits::REASON_CHARS_MAX;
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::work_report::Report;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an item rests after a failure that says nothing about it.
const RETRY_DELAY_DEFAULT: Duration = Duration::from_secs(1);

/// One attempt at one intent. While the handler runs, its lease is renewed.
#[derive(Debug)]
pub struct Job {
    pub(super) intent: Intent,
    pub(super) attempt: u32,
    pub(super) lost: CancellationToken,
    pub(super) client: Client,
}

impl Job {
    /// The intent, with its payload.
    #[must_use]
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// What was sent.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        self.intent.payload.as_ref()
    }

    /// The payload as JSON of this shape.
    ///
    /// # Errors
    /// [`JobError::Fail`] when it is not: repeating would not help, so `?` is the right thing to do with it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        let payload = self
            .payload()
            .ok_or_else(|| JobError::fail("the intent has no payload"))?;
        payload
            .decode()
            .map_err(|error| JobError::fail(format!("the payload has another shape: {error}")))
    }

    /// 1 for the first attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Resolves when the item is no longer this worker's: somebody else got it, it was canceled or timed out, or the
    /// worker is stopping. What the handler returns after that changes nothing.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether [`lost`](Self::lost) has happened.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// The worker's client, for intents of the handler's own.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// Why a handler gives no result.
///
/// Any `std::error::Error` becomes a retry after a second, so that `?` works in handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobError {
    /// Not now: the item is handed out again after the delay. Counts as a failed attempt.
    Retry { delay: Duration, reason: String },
    /// It cannot be done: the intent is FAILED.
    Fail { error: Option<Payload>, reason: String },
    /// Must never be delivered again: FAILED, whatever attempts are left.
    Terminate { reason: String },
}

impl JobError {
    /// Not now; again after `delay`.
    #[must_use]
    pub fn retry(delay: Duration) -> Self {
        Self::Retry {
            delay,
            reason: String::new(),
        }
    }

    /// It cannot be done.
    #[must_use]
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail {
            error: None,
            reason: reason.into(),
        }
    }

    /// It cannot be done, with details for the sender.
    #[must_use]
    pub fn fail_with(error: impl Into<Payload>, reason: impl Into<String>) -> Self {
        Self::Fail {
            error: Some(error.into()),
            reason: reason.into(),
        }
    }

    /// Must never be delivered again.
    #[must_use]
    pub fn terminate(reason: impl Into<String>) -> Self {
        Self::Terminate {
            reason: reason.into(),
        }
    }

    /// The same with a reason, kept with the event.
    #[must_use]
    pub fn because(mut self, because: impl Into<String>) -> Self {
        match &mut self {
            Self::Retry { reason, .. } | Self::Fail { reason, .. } | Self::Terminate { reason } => {
                *reason = because.into();
            }
        }
        self
    }

    pub(super) fn into_report(self) -> Report {
        match self {
            Self::Retry { delay, reason } => Report::Nak(v1::Nak {
                delay_ms: u32::try_from(delay.as_millis()).unwrap_or(u32::MAX),
                reason: bounded(&reason),
            }),
            Self::Fail { error, reason } => Report::Fail(v1::Fail {
                error: error.map(Payload::into_wire),
                reason: bounded(&reason),
            }),
            Self::Terminate { reason } => Report::Terminate(v1::Terminate {
                reason: bounded(&reason),
            }),
        }
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::retry(RETRY_DELAY_DEFAULT).because(error.to_string())
    }
}

/// The server refuses longer reasons, and an error text has no bound.
fn bounded(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_reports() {
        let Report::Nak(nak) = JobError::retry(Duration::from_millis(1_500))
            .because("busy")
            .into_report()
        else {
            panic!("a retry is a nak");
        };
        assert_eq!((nak.delay_ms, nak.reason.as_str()), (1_500, "busy"));
        let error = JobError::from(std::io::Error::other("x".repeat(9_000)));
        let Report::Nak(nak) = error.into_report() else {
            panic!("an error is a retry");
        };
        assert_eq!(nak.reason.len(), REASON_CHARS_MAX);
        assert!(matches!(
            JobError::terminate("no").into_report(),
            Report::Terminate(_)
        ));
    }
}
