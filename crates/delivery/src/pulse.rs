//! Timers: proposes a pulse when something is due, and nothing while the group is idle.

use crate::backoff::Backoff;
use crate::ports::LedGroup;
use baton_protocol::ServiceError;
use baton_protocol::proto::internal::{Pulse, Reply, command, reply};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// Cluster time is steered against the local clock, so a long wait is checked again in between.
const RECHECK: Duration = Duration::from_secs(5);

/// Runs until dropped. `wake` is notified when the earliest timer may have changed.
pub(crate) async fn run(led: &dyn LedGroup, wake: &Notify) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        match led.next_due_ms() {
            Ok(None) => wake.notified().await,
            Ok(Some(due_ms)) => {
                let now_ms = led.now_ms();
                if due_ms > now_ms {
                    let pause = Duration::from_millis(due_ms - now_ms).min(RECHECK);
                    // Woken or due: either way the tables are asked again.
                    let _ = timeout(pause, wake.notified()).await;
                } else if fire(led).await {
                    backoff.reset();
                } else {
                    sleep(backoff.step()).await;
                }
            }
            Err(error) => {
                warn!(group_id = led.group_id().0, %error, "cannot read the next timer");
                sleep(backoff.step()).await;
            }
        }
    }
}

/// Whether the pulse got something done.
async fn fire(led: &dyn LedGroup) -> bool {
    let answer: Result<Reply, ServiceError> = led.propose(command::Body::Pulse(Pulse {})).await;
    match answer.map(|r| r.outcome) {
        Ok(Some(reply::Outcome::Pulsed(pulsed))) => pulsed.fired > 0,
        Ok(_) => false,
        Err(error) => {
            debug!(group_id = led.group_id().0, %error, "pulse was not committed");
            false
        }
    }
}
