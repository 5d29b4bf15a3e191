//! Submits of many workers on one stream: what waits goes out in one message, answers find their worker.

use super::REOPEN_PAUSE;
use super::grpc::{Node, problem};
use anyhow::Context as _;
use baton_protocol::proto::v1::submit_stream_result::Result as Item;
use baton_protocol::proto::v1::{
    Failure, IntentEnded, IntentSpec, Outcome, Status, SubmitStreamItem, SubmitStreamRequest,
    SubmitStreamResponse, SubmitStreamResult,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// Orders that wait for the stream; more make their workers wait.
const ORDERS_MAX: usize = 4096;
/// Items of one message.
const ITEMS_PER_MESSAGE_MAX: usize = 256;
/// Messages between the pipe and the connection.
const MESSAGES_MAX: usize = 4;
/// Patience until the stream is open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Committed,
    Ended,
}

/// One submit of one worker.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) intent: IntentSpec,
    pub(super) until: Until,
    pub(super) answer: oneshot::Sender<anyhow::Result<Answer>>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) intent_id: String,
    /// Present when the order was to wait for it.
    pub(super) end: Option<(Status, Option<Outcome>)>,
    /// The node that decides about the agent, when it is not the one that was asked (`host:port`).
    pub(super) leader: String,
}

/// The way to one submit stream, which is opened again, at the next node, whenever it breaks.
#[derive(Debug)]
pub(super) struct SubmitPipe {
    orders: mpsc::Sender<Order>,
}

impl SubmitPipe {
    pub(super) fn open(nodes: Arc<[Node]>, first: usize) -> Self {
        let (orders, mut waiting) = mpsc::channel(ORDERS_MAX);
        tokio::spawn(async move {
            let mut node = first;
            // Nothing is opened before somebody has something to send.
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, ITEMS_PER_MESSAGE_MAX).await > 0 {
                if let Err(error) = run(&nodes[node % nodes.len()], &mut waiting, &mut batch).await {
                    tracing::debug!(%error, "a submit stream is opened again");
                    refuse(&mut batch, &error);
                    node += 1;
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        });
        Self { orders }
    }

    pub(super) async fn send(&self, order: Order) -> anyhow::Result<()> {
        self.orders
            .send(order)
            .await
            .ok()
            .context("the submit pipe is closed")
    }
}

/// Tells the workers of unsent orders why.
fn refuse(batch: &mut Vec<Order>, error: &anyhow::Error) {
    for order in batch.drain(..) {
        // A worker that has given up is gone.
        _ = order
            .answer
            .send(Err(anyhow::anyhow!("submit stream: {error:#}")));
    }
}

/// One stream, until it breaks or nobody can order any more. Orders under way are lost with it, those in `batch` were
/// not sent.
async fn run(node: &Node, orders: &mut mpsc::Receiver<Order>, batch: &mut Vec<Order>) -> anyhow::Result<()> {
    let (messages, outgoing) = mpsc::channel(MESSAGES_MAX);
    let mut client = node.intents();
    let open = client.submit_stream(node.request(ReceiverStream::new(outgoing)));
    let mut answers = tokio::time::timeout(OPEN_TIMEOUT, open)
        .await
        .context("the submit stream did not open in time")?
        .map_err(problem)?
        .into_inner();
    let mut pending = Pending::default();
    loop {
        tokio::select! {
            answer = answers.message() => {
                pending.settle(answer.map_err(problem)?.context("the server closed the submit stream")?);
            }
            place = messages.reserve(), if !batch.is_empty() => {
                place?.send(SubmitStreamRequest { items: pending.add(batch.drain(..)) });
            }
            received = orders.recv_many(batch, ITEMS_PER_MESSAGE_MAX), if batch.is_empty() => {
                if received == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// Orders that were sent and have no final answer.
#[derive(Debug, Default)]
struct Pending {
    next: u64,
    orders: HashMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    until: Until,
    leader: String,
    answer: oneshot::Sender<anyhow::Result<Answer>>,
}

impl Pending {
    fn add(&mut self, orders: impl Iterator<Item = Order>) -> Vec<SubmitStreamItem> {
        orders
            .map(|order| {
                self.next += 1;
                let waiter = Waiter {
                    until: order.until,
                    leader: String::new(),
                    answer: order.answer,
                };
                self.orders.insert(self.next, waiter);
                SubmitStreamItem {
                    request_id: self.next,
                    intent: Some(order.intent),
                    notify_end: order.until == Until::Ended,
                }
            })
            .collect()
    }

    fn settle(&mut self, message: SubmitStreamResponse) {
        for result in message.results {
            self.committed(result);
        }
        for ended in message.ended {
            self.ended(ended);
        }
    }

    fn committed(&mut self, result: SubmitStreamResult) {
        let id = result.request_id;
        let answer = match result.result {
            Some(Item::Receipt(receipt)) => match self.orders.get_mut(&id) {
                // Its end comes later, under the same number.
                Some(waiter) if waiter.until == Until::Ended => {
                    waiter.leader = receipt.leader;
                    return;
                }
                Some(_) | None => Ok(Answer {
                    intent_id: receipt.intent_id,
                    end: None,
                    leader: receipt.leader,
                }),
            },
            Some(Item::Failure(failure)) => Err(failed(&failure)),
            None => Err(anyhow::anyhow!("an empty answer")),
        };
        self.answer(id, answer);
    }

    fn ended(&mut self, ended: IntentEnded) {
        let status = ended.status();
        let waiter = self.orders.get_mut(&ended.request_id);
        let answer = Answer {
            intent_id: ended.intent_id,
            end: Some((status, ended.outcome)),
            leader: waiter.map(|w| std::mem::take(&mut w.leader)).unwrap_or_default(),
        };
        self.answer(ended.request_id, Ok(answer));
    }

    fn answer(&mut self, id: u64, answer: anyhow::Result<Answer>) {
        if let Some(waiter) = self.orders.remove(&id) {
            // A worker that has given up is gone.
            _ = waiter.answer.send(answer);
        }
    }
}

/// A failure in one line.
pub(super) fn failed(failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("{}: {}", failure.code, failure.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::v1::SubmitReceipt;

    fn order(until: Until) -> (Order, oneshot::Receiver<anyhow::Result<Answer>>) {
        let (answer, answered) = oneshot::channel();
        let intent = IntentSpec::default();
        (
            Order {
                intent,
                until,
                answer,
            },
            answered,
        )
    }

    fn receipt(request_id: u64, intent_id: &str) -> SubmitStreamResult {
        let intent_id = intent_id.to_owned();
        SubmitStreamResult {
            request_id,
            result: Some(Item::Receipt(SubmitReceipt {
                intent_id,
                ..SubmitReceipt::default()
            })),
        }
    }

    #[test]
    fn answers_find_their_worker_and_a_cycle_waits_for_its_end() {
        let mut pending = Pending::default();
        let (submit, mut submitted) = order(Until::Committed);
        let (cycle, mut cycled) = order(Until::Ended);
        let items = pending.add([submit, cycle].into_iter());
        assert_eq!(
            items.iter().map(|i| i.notify_end).collect::<Vec<_>>(),
            [false, true]
        );
        let (first, second) = (items[0].request_id, items[1].request_id);
        pending.settle(SubmitStreamResponse {
            results: vec![receipt(second, "b"), receipt(first, "a")],
            ended: Vec::new(),
        });
        assert_eq!(submitted.try_recv().unwrap().unwrap().intent_id, "a");
        assert!(cycled.try_recv().is_err(), "committed is not ended");
        pending.settle(SubmitStreamResponse {
            results: Vec::new(),
            ended: vec![IntentEnded {
                request_id: second,
                intent_id: "b".to_owned(),
                status: Status::Completed.into(),
                outcome: None,
            }],
        });
        let answer = cycled.try_recv().unwrap().unwrap();
        assert_eq!(answer.end, Some((Status::Completed, None)));
        assert!(pending.orders.is_empty());
    }

    #[test]
    fn a_failure_ends_a_cycle_too_and_says_why() {
        let mut pending = Pending::default();
        let (cycle, mut cycled) = order(Until::Ended);
        let items = pending.add([cycle].into_iter());
        pending.settle(SubmitStreamResponse {
            results: vec![SubmitStreamResult {
                request_id: items[0].request_id,
                result: Some(Item::Failure(Failure {
                    code: "queue_full".to_owned(),
                    message: "try later".to_owned(),
                    ..Failure::default()
                })),
            }],
            ended: Vec::new(),
        });
        let error = cycled.try_recv().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "queue_full: try later");
    }
}
