//! `SubmitStream`: pipelined submits, answered in batches as they commit, and told when they end.
//!
//! One task per stream holds all items that are under way; an end costs one entry in the node's feed.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use baton_protocol::limits::{SUBMIT_ITEMS_MAX, SUBMIT_NOTICES_MAX, SUBMIT_UNANSWERED_MAX};
use baton_protocol::proto::internal::Event;
use baton_protocol::proto::v1::{
    IntentEnded, SubmitStreamItem, SubmitStreamRequest, SubmitStreamResponse, SubmitStreamResult,
    submit_stream_result,
};
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status, Streaming};

use crate::app::App;
use crate::grpc::auth::Admitted;
use crate::grpc::method::SUBMIT;
use crate::grpc::outbound::{Messages, Outbound, Wake};
use crate::grpc::status::{failure, unreadable};
use crate::grpc::{convert, decode, leader};
use crate::service::{EndNotice, Failure, Submit, SubmitReply};

/// Bytes of ended intents in one answer, from which on the rest goes into the next.
const ANSWER_BYTES: usize = 512 * 1024;
/// Results and ends in one answer.
const ANSWER_ITEMS_MAX: usize = 1_024;
/// Notices looked after in one second, in case this node's replica was restored and skipped their events.
const SWEEP_MAX: usize = 256;
/// A notice this old is worth a look.
const SWEEP_AGE: Duration = Duration::from_secs(10);

pub(super) fn serve(
    app: &Arc<App>,
    call: Admitted,
    inbound: Streaming<SubmitStreamRequest>,
) -> Result<Response<Messages<SubmitStreamResponse>>, Status> {
    let (out, response) = Outbound::open(Arc::clone(app), &call, "submit")?;
    let (ends_to, ends) = mpsc::unbounded_channel();
    let lane = Lane {
        out,
        call,
        under_way: FuturesUnordered::new(),
        notices: BTreeMap::new(),
        ends_to,
        ends,
        answer: SubmitStreamResponse::default(),
        answer_bytes: 0,
        swept: 0,
    };
    tokio::spawn(lane.run(inbound));
    Ok(response)
}

/// An item whose answer is known.
struct Done {
    request_id: u64,
    token: Option<u64>,
    result: Result<SubmitReply, Failure>,
}

async fn commit(app: Arc<App>, call: Admitted, item: Item) -> Done {
    Done {
        request_id: item.request_id,
        token: item.submit.end_notice.as_ref().map(|n| n.token),
        result: app.service.submit(&call.caller, item.submit).await,
    }
}

struct Item {
    request_id: u64,
    submit: Submit,
}

/// An intent whose end the client waits for.
struct Notice {
    request_id: u64,
    /// Absent until the item is answered.
    intent: Option<IntentId>,
    /// Came before the answer; the client gets the answer first.
    early: Option<Event>,
    since: Instant,
}

struct Lane {
    out: Outbound<SubmitStreamResponse>,
    call: Admitted,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// By token, which is by age.
    notices: BTreeMap<u64, Notice>,
    ends_to: mpsc::UnboundedSender<(u64, Event)>,
    ends: mpsc::UnboundedReceiver<(u64, Event)>,
    answer: SubmitStreamResponse,
    answer_bytes: usize,
    /// Token of the notice that was looked after last.
    swept: u64,
}

#[expect(
    clippy::large_enum_variant,
    reason = "lives for one turn of the loop, on the stack"
)]
enum Step {
    Done(Done),
    Ended((u64, Event)),
    Message(Result<Option<SubmitStreamRequest>, Status>),
}

impl Lane {
    async fn run(mut self, mut inbound: Streaming<SubmitStreamRequest>) {
        let mut reading = true;
        loop {
            if !reading && self.under_way.is_empty() && self.notices.is_empty() {
                return;
            }
            let room = self.under_way.len() < SUBMIT_UNANSWERED_MAX;
            let (under_way, ends) = (&mut self.under_way, &mut self.ends);
            let step = self.out.next_or_stop(async {
                tokio::select! {
                    Some(done) = under_way.next() => Step::Done(done),
                    Some(ended) = ends.recv() => Step::Ended(ended),
                    message = inbound.message(), if reading && room => Step::Message(message),
                }
            });
            match step.await {
                Wake::Over => return,
                Wake::Stop => return self.finish().await,
                Wake::Tick => self.sweep(),
                Wake::Source(Step::Done(done)) => self.settle(done),
                Wake::Source(Step::Ended(ended)) => self.ended(ended),
                Wake::Source(Step::Message(Ok(Some(message)))) => {
                    if let Err(error) = self.accept(message.items) {
                        return self.out.end(error).await;
                    }
                }
                Wake::Source(Step::Message(Ok(None))) => reading = false,
                Wake::Source(Step::Message(Err(found))) => {
                    if let Some(found) = unreadable(&found) {
                        self.out.end_with(found).await;
                    }
                    return;
                }
            }
            if !self.flush().await {
                return;
            }
        }
    }

    /// The node is stopping: what is under way is answered, then the stream ends.
    async fn finish(mut self) {
        let grace = Duration::from_millis(self.out.app.service.config.shutdown_grace_ms);
        let until = Instant::now() + grace / 2;
        while let Ok(Some(done)) = timeout_at(until, self.under_way.next()).await {
            self.settle(done);
        }
        if self.flush().await {
            self.out.end_for_stop().await;
        }
    }

    /// Begins the items of one message.
    fn accept(&mut self, items: Vec<SubmitStreamItem>) -> Result<(), ServiceError> {
        if items.len() > SUBMIT_ITEMS_MAX {
            let message = format!("items has more than {SUBMIT_ITEMS_MAX} entries; send several messages");
            return Err(ServiceError::new(ErrorCode::InvalidArgument, message).in_field("items"));
        }
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let rate = self.out.app.count(&self.call.caller, SUBMIT, count);
        let admitted = rate.map_or(items.len(), |rate| rate.admitted as usize);
        for (index, item) in items.into_iter().enumerate() {
            let request_id = item.request_id;
            let begun = match rate {
                Some(rate) if index >= admitted => Err(rate.refusal()),
                Some(_) | None => self.begin(item),
            };
            if let Err(error) = begun {
                self.put(request_id, submit_stream_result::Result::Failure(failure(error)));
            }
        }
        Ok(())
    }

    fn begin(&mut self, item: SubmitStreamItem) -> Result<(), ServiceError> {
        let mut submit = decode::submit(item.intent, &self.call.trace_parent)?;
        let request_id = item.request_id;
        if item.notify_end {
            if self.notices.len() >= SUBMIT_NOTICES_MAX {
                let message = format!(
                    "the ends of {SUBMIT_NOTICES_MAX} intents are waited for on this stream; open another one"
                );
                return Err(ServiceError::new(ErrorCode::QueueFull, message));
            }
            let token = self.out.app.token();
            submit.end_notice = Some(EndNotice {
                token,
                to: self.ends_to.clone(),
            });
            let notice = Notice {
                request_id,
                intent: None,
                early: None,
                since: Instant::now(),
            };
            self.notices.insert(token, notice);
        }
        let item = Item { request_id, submit };
        let committing = commit(Arc::clone(&self.out.app), self.call.clone(), item);
        self.under_way.push(committing.boxed());
        Ok(())
    }

    /// Puts the answer of an item into the next message.
    fn settle(&mut self, done: Done) {
        let known = done
            .result
            .as_ref()
            .ok()
            .and_then(|r| IntentId::from_slice(&r.submitted.intent_id));
        let result = match done.result {
            Ok(reply) => {
                let mut receipt = convert::receipt(reply);
                receipt.leader = known.and_then(|id| self.leader_elsewhere(id)).unwrap_or_default();
                submit_stream_result::Result::Receipt(receipt)
            }
            Err(error) => submit_stream_result::Result::Failure(failure(error)),
        };
        self.put(done.request_id, result);
        let Some(token) = done.token else {
            return;
        };
        let Some(notice) = self.notices.get_mut(&token) else {
            return;
        };
        notice.intent = known;
        let early = notice.early.take();
        if known.is_none() {
            self.notices.remove(&token);
        } else if let Some(event) = early {
            self.ended((token, event));
        }
    }

    fn leader_elsewhere(&self, intent: IntentId) -> Option<String> {
        let app = &self.out.app;
        let group = leader::group_of(app, intent.slot());
        app.service.ports.cluster.leader_elsewhere(group)
    }

    fn ended(&mut self, (token, event): (u64, Event)) {
        let Some(notice) = self.notices.get_mut(&token) else {
            return;
        };
        if notice.intent.is_none() {
            notice.early = Some(event);
            return;
        }
        let ended: IntentEnded = convert::ended(notice.request_id, event);
        self.notices.remove(&token);
        self.answer_bytes += ended.encoded_len();
        self.answer.ended.push(ended);
    }

    fn put(&mut self, request_id: u64, result: submit_stream_result::Result) {
        self.answer.results.push(SubmitStreamResult {
            request_id,
            result: Some(result),
        });
    }

    /// Adds what else is known by now and sends it all; `false` when the stream is over.
    async fn flush(&mut self) -> bool {
        while self.fits() {
            if let Some(Some(done)) = self.under_way.next().now_or_never() {
                self.settle(done);
            } else if let Ok(ended) = self.ends.try_recv() {
                self.ended(ended);
            } else {
                break;
            }
        }
        if self.answer.results.is_empty() && self.answer.ended.is_empty() {
            return true;
        }
        self.answer_bytes = 0;
        let answer = std::mem::take(&mut self.answer);
        self.out.send(answer).await
    }

    fn fits(&self) -> bool {
        self.answer.results.len() + self.answer.ended.len() < ANSWER_ITEMS_MAX
            && self.answer_bytes < ANSWER_BYTES
    }

    /// Looks after some of the oldest notices, taking turns.
    fn sweep(&mut self) {
        let now = Instant::now();
        let due: Vec<(u64, Option<IntentId>)> = self
            .notices
            .range((Excluded(self.swept), Unbounded))
            .take_while(|(_, notice)| now.duration_since(notice.since) >= SWEEP_AGE)
            .take(SWEEP_MAX)
            .map(|(token, notice)| (*token, notice.intent))
            .collect();
        self.swept = match due.last() {
            Some((token, _)) if due.len() == SWEEP_MAX => *token,
            Some(_) | None => 0,
        };
        for (token, intent) in due {
            let service = &self.out.app.service;
            let found = intent.and_then(|id| Some((id, service.end_nearby(&self.call.caller, id)?)));
            if let Some((id, event)) = found {
                service.ports.events.forget_end(id, token);
                self.ended((token, event));
            }
        }
    }
}
