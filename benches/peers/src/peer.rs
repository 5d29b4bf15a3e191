//! What a broker must be able to do here.

use anyhow::Context as _;
use async_trait::async_trait;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest wait for a result.
const PATIENCE: Duration = Duration::from_secs(30);

#[async_trait]
pub(crate) trait Peer: Send + Sync {
    /// Hands over message `number`; ends when the broker has said that it is safe. Nobody takes these messages.
    async fn submit(&self, number: u64) -> anyhow::Result<()>;
    /// Hands over message `number` to the workers; ends when its own result was seen.
    async fn cycle(&self, number: u64) -> anyhow::Result<()>;
}

/// JSON of this size, as far as the number fits in it; the same text as `baton bench` sends.
pub(crate) fn payload(number: u64, bytes: usize) -> String {
    let frame_bytes = format!("{{\"filler\":\"\",\"number\":{number}}}").len();
    let filler = "x".repeat(bytes.saturating_sub(frame_bytes));
    format!("{{\"filler\":\"{filler}\",\"number\":{number}}}")
}

/// A worker's result.
pub(crate) fn result(number: u64) -> String {
    format!("{{\"number\":{number}}}")
}

/// The number of a payload or result.
pub(crate) fn number_of(json: &[u8]) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        number: u64,
    }
    Ok(serde_json::from_slice::<Numbered>(json)?.number)
}

/// Submitters that wait for their results.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    open: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Waiting {
    /// To be called before the message is sent.
    pub(crate) fn expect(&self, number: u64) -> oneshot::Receiver<()> {
        let (seen, end) = oneshot::channel();
        self.lock().insert(number, seen);
        end
    }

    pub(crate) async fn end(&self, number: u64, end: oneshot::Receiver<()>) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(PATIENCE, end).await;
        self.lock().remove(&number);
        Ok(ended.context("no result was seen in time")??)
    }

    pub(crate) fn seen(&self, number: u64) {
        if let Some(waiting) = self.lock().remove(&number) {
            // A submitter that has given up is gone.
            _ = waiting.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_number() {
        for bytes in [0, 40, 256] {
            let text = payload(123, bytes);
            assert_eq!(number_of(text.as_bytes()).ok(), Some(123));
            assert!(text.len() >= bytes && (text.len() == bytes || bytes < 40));
        }
        assert_eq!(number_of(result(7).as_bytes()).ok(), Some(7));
    }

    #[tokio::test]
    async fn a_result_ends_its_own_wait_only() {
        let waiting = Waiting::default();
        let (one, two) = (waiting.expect(1), waiting.expect(2));
        waiting.seen(1);
        assert!(waiting.end(1, one).await.is_ok());
        drop(two);
        waiting.seen(2);
        assert!(waiting.lock().is_empty());
    }
}
