//! The task behind one lane of a submitter: one stream at a time, everything unanswered kept until it is answered.

use super::pending::{Item, Pending};
use super::pipeline::{Ended, timeout_error};
use crate::client::{About, MESSAGE_BYTES_MAX};
use crate::types::{Outcome, Receipt, Status};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use baton_protocol::proto::v1::submit_stream_result::Result as Answer;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Messages between this task and the connection; what waits longer stays here.
const STREAM_QUEUE_ITEMS_MAX: usize = 8;
/// Items taken from the callers at once.
const TAKE_ITEMS_MAX: usize = 256;
/// Refusals in a row, without a receipt, after which another node is tried: this one may be cut off from the others.
const BLAMED_MAX: u32 = 8;
/// A followed intent that is older than this is not submitted again, but asked about: the server forgets keys.
const RESUBMIT_AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long one question about an old intent's end may take.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// Owns the stream and everything that is unanswered.
#[derive(Debug)]
pub(super) struct Driver {
    client: Client,
    /// The node whose agents' intents come here, by number; the stream is there while that node works.
    endpoint: usize,
    items: mpsc::Receiver<Item>,
    failed: Arc<OnceLock<Error>>,
    pending: Pending,
    /// No caller is left.
    closed: bool,
    /// Streams in a row that gave no answer.
    barren: u32,
    /// The node of this stream, by number.
    at: usize,
    /// Refusals in a row that another node might not have given.
    blamed: u32,
    /// Why this stream is to be left.
    leave: Option<Error>,
}

type Responses = Streaming<v1::SubmitStreamResponse>;

impl Driver {
    pub(super) fn new(
        client: Client,
        endpoint: usize,
        items: mpsc::Receiver<Item>,
        failed: Arc<OnceLock<Error>>,
    ) -> Self {
        Self {
            client,
            endpoint,
            items,
            failed,
            pending: Pending::default(),
            closed: false,
            barren: 0,
            at: endpoint,
            blamed: 0,
            leave: None,
        }
    }

    /// Runs until every caller is gone and everything is answered, or until nothing can ever be answered.
    pub(super) async fn run(mut self) {
        loop {
            if self.pending.is_empty() {
                // No connection before there is something to send.
                match self.items.recv().await {
                    Some(item) => self.take(item),
                    None => return,
                }
            }
            self.at = self.client.endpoint_for(About::Endpoint(self.endpoint));
            let served = match self.open().await {
                Ok((requests, responses)) => self.serve(requests, responses).await,
                Err(error) => Err(error),
            };
            match served {
                Ok(()) => return,
                Err(error) if error.retryable() => {
                    if error.blames_endpoint() {
                        self.client.blame(self.at);
                    }
                    tracing::debug!(%error, "submit stream ended; what is unanswered goes to the next node");
                    self.barren += 1;
                    if self.barren > 1 {
                        tokio::time::sleep(self.client.retry().pause(self.barren, error.retry_after())).await;
                    }
                    self.prepare_again(&error);
                }
                Err(error) => return self.give_up(error),
            }
        }
    }

    async fn open(&self) -> Result<(mpsc::Sender<v1::SubmitStreamRequest>, Responses), Error> {
        let requests = std::sync::Mutex::new(None);
        let responses = self
            .client
            .call_about(
                About::Endpoint(self.endpoint),
                self.client.stream_call(),
                |channel, outgoing| {
                    let (sender, receiver) = mpsc::channel(STREAM_QUEUE_ITEMS_MAX);
                    *requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
                    let request = outgoing.carry(ReceiverStream::new(receiver));
                    async move {
                        IntentServiceClient::new(channel)
                            .max_decoding_message_size(MESSAGE_BYTES_MAX)
                            .submit_stream(request)
                            .await
                    }
                },
            )
            .await?;
        let sender = requests
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        sender
            .map(|sender| (sender, responses))
            .ok_or(Error::Closed("the stream"))
    }

    /// One stream. `Ok` when everything is done.
    async fn serve(
        &mut self,
        requests: mpsc::Sender<v1::SubmitStreamRequest>,
        mut responses: Responses,
    ) -> Result<(), Error> {
        let mut taken = Vec::new();
        loop {
            if self.closed && self.pending.is_empty() {
                return Ok(());
            }
            let due = self.pending.next_due();
            tokio::select! {
                biased;
                answer = responses.message() => match answer {
                    Ok(Some(answer)) => {
                        self.answered(answer);
                        if let Some(error) = self.leave.take() {
                            return Err(error);
                        }
                    }
                    Ok(None) => return Err(self.lost("the server ended the stream")),
                    Err(status) => {
                        let error = Error::from_status(&status, self.client.endpoint());
                        return Err(error);
                    }
                },
                count = self.items.recv_many(&mut taken, TAKE_ITEMS_MAX), if !self.closed => {
                    self.closed = count == 0;
                    for item in taken.drain(..) {
                        self.take(item);
                    }
                }
                place = requests.reserve(), if self.pending.has_outgoing() => match place {
                    Ok(place) => place.send(self.pending.next_message()),
                    Err(_) => return Err(self.lost("the connection broke")),
                },
                () = sleep_until(due), if due.is_some() => self.expire(),
            }
        }
    }

    fn take(&mut self, item: Item) {
        self.pending.add(item, Instant::now() + self.client.timeout());
    }

    fn lost(&self, message: &str) -> Error {
        Error::Unreachable {
            endpoint: self.client.endpoint().to_owned(),
            message: message.to_owned(),
            sent: true,
        }
    }

    fn answered(&mut self, answer: v1::SubmitStreamResponse) {
        self.barren = 0;
        for result in answer.results {
            let id = result.request_id;
            match result.result {
                Some(Answer::Receipt(mut receipt)) => {
                    let leader = std::mem::take(&mut receipt.leader);
                    self.committed(id, &leader, Receipt::from_wire(receipt));
                }
                Some(Answer::Failure(failure)) => self.refused(id, Error::from_failure(failure)),
                None => self.refused(id, Error::Unexpected("an answer is empty".into())),
            }
        }
        for ended in answer.ended {
            let Some(entry) = self.pending.remove(ended.request_id) else {
                continue;
            };
            if let Some(sender) = entry.ended {
                _ = sender.send(Ok(Ended {
                    intent_id: ended.intent_id,
                    status: Status::from_wire(ended.status),
                    outcome: ended.outcome.map(Outcome::from_wire),
                }));
            }
        }
    }

    fn committed(&mut self, id: u64, leader: &str, receipt: Receipt) {
        let Some(entry) = self.pending.get_mut(id) else {
            return;
        };
        self.blamed = 0;
        if !leader.is_empty() {
            self.client.learn_leader(&entry.spec.to_agent, leader);
        }
        // A repetition keeps the age of the first receipt.
        entry
            .intent
            .get_or_insert_with(|| (receipt.intent_id.clone(), Instant::now()));
        if let Some(sender) = entry.receipt.take() {
            _ = sender.send(Ok(receipt));
        }
        if entry.ended.is_none() {
            self.pending.remove(id);
        }
    }

    fn refused(&mut self, id: u64, error: Error) {
        let Some(entry) = self.pending.get_mut(id) else {
            return;
        };
        entry.failures += 1;
        if error.blames_endpoint() {
            self.blamed += 1;
            if self.blamed >= BLAMED_MAX {
                self.blamed = 0;
                self.leave = Some(error.clone());
            }
        }
        let safe = entry.has_key() || error.proves_no_effect();
        if error.retryable() && safe {
            let pause = self.client.retry().pause(entry.failures, error.retry_after());
            entry.last = Some(error);
            self.pending.repeat_at(Instant::now() + pause, id);
        } else if let Some(entry) = self.pending.remove(id) {
            entry.fail(&error);
        }
    }

    fn expire(&mut self) {
        for id in self.pending.due(Instant::now()) {
            if let Some(entry) = self.pending.remove(id) {
                let error = timeout_error(&self.client, entry.last.as_ref());
                entry.fail(&error);
            }
        }
    }

    /// Before the next stream: everything that may be repeated is; the rest learns that its outcome is unknown.
    fn prepare_again(&mut self, error: &Error) {
        self.expire();
        for id in self.pending.send_all_again() {
            if let Some(entry) = self.pending.remove(id) {
                entry.fail(error);
            }
        }
        for (id, intent_id) in self.pending.older_than(RESUBMIT_AGE_MAX, Instant::now()) {
            if let Some(entry) = self.pending.remove(id) {
                follow(self.client.clone(), intent_id, entry);
            }
        }
    }

    fn give_up(mut self, error: Error) {
        tracing::debug!(%error, "submitter gives up");
        _ = self.failed.set(error.clone());
        self.items.close();
        while let Ok(item) = self.items.try_recv() {
            self.take(item);
        }
        for entry in self.pending.drain() {
            entry.fail(&error);
        }
    }
}

/// Asks about the end of one intent.
fn follow(client: Client, intent_id: String, mut entry: super::pending::Entry) {
    tokio::spawn(async move {
        let ended = client.wait_for(&intent_id, FOLLOW_TIMEOUT).await;
        if let Some(sender) = entry.ended.take() {
            _ = sender.send(ended.map(|intent| Ended {
                intent_id: intent.intent_id,
                status: intent.status,
                outcome: intent.outcome,
            }));
        }
    });
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
