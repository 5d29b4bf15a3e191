//! Whether the completion of an intent has reached the `reply_to` inbox.

use std::time::Duration;

use baton_protocol::proto::internal::{CompletionQueued, Intent, OutboxAcked, query, query_reply};
use baton_protocol::{IntentId, Route};
use tokio::time::{Instant, sleep};

use super::Service;

const FIRST_POLL: Duration = Duration::from_millis(1);
const LAST_POLL: Duration = Duration::from_millis(64);

/// What the answer to a terminal call says about `reply_to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompletionDelivery {
    /// The intent has no `reply_to`.
    NotSet,
    /// In the inbox of this address.
    Delivered { reply_to: String },
    /// Committed, and on its way to the inbox of this address.
    Pending { reply_to: String },
}

impl Service {
    /// Waits, bounded, until the completion has been acknowledged by the owner's group.
    pub(super) async fn completion(
        &self,
        intent: &Intent,
        queued: Option<&CompletionQueued>,
    ) -> CompletionDelivery {
        let Some(reply_to) = intent.reply_to.as_ref().map(|r| r.address.clone()) else {
            return CompletionDelivery::NotSet;
        };
        let (Some(queued), Some(id)) = (queued, IntentId::from_slice(&intent.intent_id)) else {
            return CompletionDelivery::Pending { reply_to };
        };
        let until = Instant::now() + Duration::from_millis(self.config.completion_wait_ms);
        let mut pause = FIRST_POLL;
        loop {
            let query = query::Body::OutboxAcked(OutboxAcked {
                target_group: queued.target_group,
                seq: queued.outbox_seq,
            });
            // Linearizable: a replica that lags would not know of the message yet.
            let answer = self.read(Route::Slot(id.slot()), None, query).await;
            if matches!(answer, Ok(query_reply::Outcome::Acked(true))) {
                return CompletionDelivery::Delivered { reply_to };
            }
            if Instant::now() + pause >= until {
                return CompletionDelivery::Pending { reply_to };
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_POLL);
        }
    }
}
