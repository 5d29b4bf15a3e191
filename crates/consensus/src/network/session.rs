//! One replication stream of one group to one peer.
//!
//! Rules that each keep something from going wrong:
//! - The first request is awaited before the peer is dialled: openraft sleeps its back-off inside the request
//!   stream, so dialling first turns a dead peer into a hot loop.
//! - A request without entries (a commit announcement) is held up to [`COMMIT_HOLD`] while the peer has other appends to
//!   answer; if one with entries follows, only that is sent. It carries a newer commit index, and answers acknowledge by
//!   log id. A peer with nothing else to do is told at once: somebody may wait there for the commit.
//! - The request stream holds a lock of openraft: it is dropped the moment the answers end, and never polled after
//!   its own end.

use super::{ANSWER_TIMEOUT_MIN, AppendAnswers, GroupNetwork, Rpc, network_error, rpc_error};
use crate::codec;
use crate::metrics;
use crate::peer::AppendOutput;
use baton_protocol::proto::internal as pb;
use baton_raft_storage::TypeConfig;
use futures::task::AtomicWaker;
use futures::{Stream, StreamExt};
use openraft::errors::RPCError;
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// How long a commit announcement may wait for entries to travel with.
const COMMIT_HOLD: Duration = Duration::from_millis(2);

type Request = AppendEntriesRequest<TypeConfig>;

/// Both ends of a session share this: the body that the transport polls, and the answers that openraft polls.
struct Shared<S> {
    slot: Mutex<Option<Source<S>>>,
    body: AtomicWaker,
    unanswered: Unanswered,
    sent: Notify,
}

/// Requests sent and not answered: of this session, and of all sessions to the same peer.
struct Unanswered {
    own: AtomicUsize,
    peer: Arc<AtomicUsize>,
}

impl Unanswered {
    fn sent(&self) {
        self.own.fetch_add(1, Ordering::AcqRel);
        self.peer.fetch_add(1, Ordering::AcqRel);
    }

    fn answered(&self) {
        let taken = self
            .own
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if taken.is_ok() {
            self.peer.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn peer_is_idle(&self) -> bool {
        self.peer.load(Ordering::Acquire) == 0
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.peer.fetch_sub(*self.own.get_mut(), Ordering::AcqRel);
    }
}

struct Source<S> {
    first: Option<Request>,
    input: S,
    held: Option<(Request, Pin<Box<Sleep>>)>,
    ended: bool,
}

impl<S> Shared<S> {
    fn close(&self) {
        let source = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Outside the lock: dropping the input releases openraft's own.
        drop(source);
        self.body.wake();
    }
}

struct Body<S>(Arc<Shared<S>>);

impl<S> Stream for Body<S>
where
    S: Stream<Item = Request> + Unpin,
{
    type Item = pb::PeerAppend;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<pb::PeerAppend>> {
        let shared = &self.0;
        shared.body.register(cx.waker());
        let mut slot = shared.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = slot.as_mut() else {
            return Poll::Ready(None);
        };
        match source.poll_request(cx, &shared.unanswered) {
            Poll::Ready(Some(request)) => {
                shared.unanswered.sent();
                shared.sent.notify_one();
                metrics::append_sent();
                Poll::Ready(Some(codec::append_to_pb(request)))
            }
            Poll::Ready(None) => {
                *slot = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Stream<Item = Request> + Unpin> Source<S> {
    fn poll_request(&mut self, cx: &mut Context<'_>, unanswered: &Unanswered) -> Poll<Option<Request>> {
        loop {
            let next = if let Some(first) = self.first.take() {
                Poll::Ready(Some(first))
            } else if self.ended {
                Poll::Ready(None)
            } else {
                self.input.poll_next_unpin(cx)
            };
            match next {
                Poll::Ready(Some(request)) if request.entries.is_empty() => self.hold(request),
                Poll::Ready(Some(request)) => {
                    if self.held.take().is_some() {
                        metrics::append_merged();
                    }
                    return Poll::Ready(Some(request));
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(self.held.take().map(|(request, _)| request));
                }
                Poll::Pending => {
                    let Some((_, until)) = self.held.as_mut() else {
                        return Poll::Pending;
                    };
                    if !unanswered.peer_is_idle() && until.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(self.held.take().map(|(request, _)| request));
                }
            }
        }
    }

    /// Keeps the newer of two announcements, and the older one's deadline.
    fn hold(&mut self, request: Request) {
        self.held = Some(match self.held.take() {
            Some((_, until)) => {
                metrics::append_merged();
                (request, until)
            }
            None => (request, Box::pin(tokio::time::sleep(COMMIT_HOLD))),
        });
    }
}

/// Drops the request stream when openraft drops the answers.
struct CloseOnDrop<S>(Arc<Shared<S>>);

impl<S> Drop for CloseOnDrop<S> {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(super) async fn open<'s, S>(
    network: &'s GroupNetwork,
    mut input: S,
    option: RPCOption,
) -> Rpc<AppendAnswers<'s>>
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    let Some(first) = input.next().await else {
        return Ok(futures::stream::empty().boxed());
    };
    let shared = Arc::new(Shared {
        slot: Mutex::new(Some(Source {
            first: Some(first),
            input,
            held: None,
            ended: false,
        })),
        body: AtomicWaker::new(),
        unanswered: Unanswered {
            own: AtomicUsize::new(0),
            peer: network.links.unanswered(network.node),
        },
        sent: Notify::new(),
    });
    let close = CloseOnDrop(shared.clone());
    let limit = option.soft_ttl().max(ANSWER_TIMEOUT_MIN);
    let client = network.links.client(network.node).map_err(rpc_error)?;
    let header = network.links.directory.header(network.node, Some(network.group));
    let answers = match tokio::time::timeout(limit, client.append_stream(header, Body(shared).boxed())).await
    {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            network.links.note(network.node, &error);
            return Err(rpc_error(error));
        }
        Err(_) => return Err(network.timeout(limit)),
    };
    let state = Some(Answers {
        network,
        answers,
        close,
        limit,
    });
    Ok(futures::stream::unfold(state, |state| async move {
        let mut state = state?;
        let item = state.next().await?;
        let go_on = item.is_ok().then_some(state);
        Some((item, go_on))
    })
    .boxed())
}

struct Answers<'s, S> {
    network: &'s GroupNetwork,
    answers: AppendOutput,
    close: CloseOnDrop<S>,
    limit: Duration,
}

impl<S> Answers<'_, S> {
    /// The next answer. A deadline runs only while a request is unanswered.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        let shared = self.close.0.clone();
        let item = loop {
            if shared.unanswered.own.load(Ordering::Acquire) == 0 {
                tokio::select! {
                    item = self.answers.next() => break item,
                    () = shared.sent.notified() => {}
                }
            } else {
                match tokio::time::timeout(self.limit, self.answers.next()).await {
                    Ok(item) => break item,
                    Err(_) => return Some(Err(self.network.timeout(self.limit))),
                }
            }
        }?;
        // Exactly one answer per request that was sent.
        shared.unanswered.answered();
        if shared.unanswered.peer_is_idle() {
            // What is held need not wait any longer.
            shared.body.wake();
        }
        Some(
            item.map_err(rpc_error)
                .and_then(|reply| codec::append_result_from_pb(reply).map_err(network_error)),
        )
    }
}
