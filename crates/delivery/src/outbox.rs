//! The pump: sends waiting cross-group messages in order and acknowledges what arrived.

use crate::backoff::Backoff;
use crate::metrics;
use crate::ports::{LedGroup, Network};
use crate::settings::OUTBOX_IN_FLIGHT_MAX;
use baton_protocol::limits::OUTBOX_SEND_MAX;
use baton_protocol::proto::internal::{
    AcknowledgeOutbox, DeliverMessage, OutboxMessage, Reply, command, reply,
};
use baton_protocol::{ErrorCode, GroupId, Route, ServiceError};
use futures::stream::{self, FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// What the pump remembers of one target.
#[derive(Debug, Clone)]
struct Target {
    id: GroupId,
    /// Highest sequence that the target has accepted.
    accepted: u64,
    backoff: Backoff,
    /// Messages under way at the same time: fewer after they overtook each other.
    window: usize,
    /// Since when messages have been waiting without a break; `None` while nothing waits.
    waiting_since: Option<Instant>,
}

impl Target {
    fn new(id: GroupId) -> Self {
        Self {
            id,
            accepted: 0,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_secs(2)),
            window: OUTBOX_IN_FLIGHT_MAX,
            waiting_since: None,
        }
    }
}

/// Runs until dropped. `wake` is notified when messages wait. Never gives up on a message.
pub(crate) async fn run(led: &dyn LedGroup, network: &dyn Network, wake: &Notify) {
    // A target is here while it rests and in `busy` while a batch is under way: one batch per target at a time.
    let mut resting: HashMap<GroupId, Target> = HashMap::new();
    let mut known: Vec<GroupId> = Vec::new();
    let mut busy = FuturesUnordered::new();
    let mut unreadable = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match led.outbox_head(OUTBOX_SEND_MAX) {
            Ok(heads) => {
                unreadable.reset();
                for (id, messages) in heads {
                    if messages.is_empty() {
                        continue;
                    }
                    if !known.contains(&id) {
                        known.push(id);
                        resting.insert(id, Target::new(id));
                    }
                    if let Some(mut target) = resting.remove(&id) {
                        target.waiting_since.get_or_insert_with(Instant::now);
                        busy.push(pump(led, network, target, messages));
                    }
                }
            }
            Err(error) => {
                warn!(group_id = led.group_id().0, %error, "cannot read the outbox");
                sleep(unreadable.step()).await;
                continue;
            }
        }
        for target in resting.values_mut() {
            if target.waiting_since.take().is_some() {
                metrics::outbox_lag(led.group_id(), target.id, Duration::ZERO);
            }
        }
        tokio::select! {
            () = wake.notified() => {}
            Some(target) = busy.next(), if !busy.is_empty() => {
                let lag = target.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
                metrics::outbox_lag(led.group_id(), target.id, lag);
                resting.insert(target.id, target);
            }
        }
    }
}

/// Sends one batch and acknowledges what was accepted; rests before it returns when something went wrong.
async fn pump(
    led: &dyn LedGroup,
    network: &dyn Network,
    mut target: Target,
    messages: Vec<OutboxMessage>,
) -> Target {
    let before = target.accepted;
    let sent = send(led, network, &mut target, messages).await;
    let outcome = match acknowledge(led, &target).await {
        Ok(()) => sent,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => {
            target.backoff.reset();
            target.window = (target.window * 2).min(OUTBOX_IN_FLIGHT_MAX);
        }
        // Pipelined messages overtook each other; the head of the queue has moved, so go on at once.
        Err(e) if e.code == ErrorCode::OutOfOrder && target.accepted > before => {
            target.backoff.reset();
            target.window = (target.window / 2).max(1);
        }
        Err(error) => {
            debug!(
                group_id = led.group_id().0,
                target_group = target.id.0,
                %error,
                "outbox message waits for a retry"
            );
            sleep(target.backoff.step()).await;
        }
    }
    target
}

async fn send(
    led: &dyn LedGroup,
    network: &dyn Network,
    target: &mut Target,
    messages: Vec<OutboxMessage>,
) -> Result<(), ServiceError> {
    let route = Route::Group(target.id);
    let accepted = target.accepted;
    let mut answers = stream::iter(messages.into_iter().filter(|m| m.seq > accepted))
        .map(|message| async move {
            let seq = message.seq;
            if !led.is_leader() {
                return (seq, Err(not_leading()));
            }
            let body = command::Body::Deliver(DeliverMessage {
                message: Some(message),
            });
            (seq, network.propose(route, body).await.and_then(accepted_reply))
        })
        // Answers come in sequence order, so `accepted` never skips a message that failed.
        .buffered(target.window);
    while let Some((seq, answer)) = answers.next().await {
        answer?;
        target.accepted = seq;
    }
    Ok(())
}

async fn acknowledge(led: &dyn LedGroup, target: &Target) -> Result<(), ServiceError> {
    if target.accepted == 0 {
        return Ok(());
    }
    let body = command::Body::Acknowledge(AcknowledgeOutbox {
        target_group: target.id.0,
        seq: target.accepted,
    });
    led.propose(body).await.and_then(accepted_reply)
}

fn accepted_reply(reply: Reply) -> Result<(), ServiceError> {
    match reply.outcome {
        Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
        _ => Ok(()),
    }
}

fn not_leading() -> ServiceError {
    ServiceError::new(ErrorCode::NotLeader, "this node no longer leads the group")
}
