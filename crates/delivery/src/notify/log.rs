//! Messages in the log of the node, for trying things out: whoever reads the log can answer every task.

use super::{Carrier, Letter, NotCarried};
use async_trait::async_trait;

/// Writes messages, with their links, to the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogCarrier;

#[async_trait]
impl Carrier for LogCarrier {
    async fn carry(&self, letter: &Letter, _now_ms: u64) -> Result<(), NotCarried> {
        tracing::info!(
            to = letter.to,
            subject = letter.subject,
            link = letter.link.as_deref().unwrap_or("none"),
            id = letter.id,
            "a message to somebody"
        );
        Ok(())
    }
}
