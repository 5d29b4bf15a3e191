//! The shared stream of one peer: many calls in flight, answers in any order.

use super::{CallBody, PeerError, ReplyBody};
use baton_protocol::proto::internal as pb;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Raft frames that wait to be written: a handful per group.
const URGENT_FRAMES_MAX: usize = 1_024;
/// Forwarded commands and queries that wait to be written.
const BULK_FRAMES_MAX: usize = 4_096;

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<ReplyBody>>>>;

/// An open shared stream. Ends for good when the stream ends; its owner then opens another.
#[derive(Debug)]
pub(super) struct Link {
    urgent: mpsc::Sender<pb::CallFrame>,
    bulk: mpsc::Sender<pb::CallFrame>,
    pending: Pending,
    next_id: AtomicU64,
    open: Arc<AtomicBool>,
}

/// Removes an abandoned call, so that the table holds only calls somebody waits for.
struct Abandon<'a>(&'a Pending, u64);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.1);
    }
}

/// The frames to write. Raft frames overtake forwarded commands: a heartbeat must not queue behind bulk.
pub(super) fn outgoing(
    mut urgent: mpsc::Receiver<pb::CallFrame>,
    mut bulk: mpsc::Receiver<pb::CallFrame>,
) -> impl Stream<Item = pb::CallFrame> + Send + 'static {
    futures::stream::poll_fn(move |cx| match urgent.poll_recv(cx) {
        Poll::Ready(item) => Poll::Ready(item),
        Poll::Pending => match bulk.poll_recv(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(item)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        },
    })
}

impl Link {
    /// The queues to hand to the transport, and the link they belong to.
    pub(super) fn new() -> (Arc<Self>, impl Stream<Item = pb::CallFrame> + Send + 'static) {
        let (urgent, urgent_rx) = mpsc::channel(URGENT_FRAMES_MAX);
        let (bulk, bulk_rx) = mpsc::channel(BULK_FRAMES_MAX);
        let link = Self {
            urgent,
            bulk,
            pending: Pending::default(),
            next_id: AtomicU64::new(1),
            open: Arc::new(AtomicBool::new(true)),
        };
        (Arc::new(link), outgoing(urgent_rx, bulk_rx))
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Hands answers to their callers until the stream ends; then fails all that wait.
    pub(super) async fn read<S, E>(self: Arc<Self>, mut replies: S)
    where
        S: Stream<Item = Result<pb::ReplyFrame, E>> + Unpin,
    {
        while let Some(Ok(frame)) = replies.next().await {
            let waiter = self
                .pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&frame.request_id);
            if let (Some(waiter), Some(body)) = (waiter, frame.body) {
                // The caller may have given up in this moment.
                let _ = waiter.send(body);
            }
        }
        self.open.store(false, Ordering::Release);
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(super) async fn call(
        &self,
        group: Option<pb::PeerGroup>,
        body: CallBody,
        deadline: Duration,
    ) -> Result<ReplyBody, PeerError> {
        let request_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(request_id, tx);
        let _abandon = Abandon(&self.pending, request_id);
        if !self.is_open() {
            return Err(PeerError::Lost("shared stream closed".into()));
        }
        let queue = if is_bulk(&body) { &self.bulk } else { &self.urgent };
        let frame = pb::CallFrame {
            request_id,
            group,
            body: Some(body),
        };
        let exchange = async {
            queue
                .send(frame)
                .await
                .map_err(|_| PeerError::Lost("shared stream closed".into()))?;
            rx.await
                .map_err(|_| PeerError::Lost("shared stream ended".into()))
        };
        tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| PeerError::Lost(format!("no answer within {} ms", deadline.as_millis())))?
    }
}

/// Whether a frame may wait behind others of its kind.
pub(super) fn is_bulk(body: &CallBody) -> bool {
    match body {
        CallBody::Forward(_) | CallBody::Query(_) | CallBody::HandOver(_) => true,
        CallBody::Append(_)
        | CallBody::Vote(_)
        | CallBody::PreVote(_)
        | CallBody::Transfer(_)
        | CallBody::ReadIndex(_)
        | CallBody::Time(_)
        | CallBody::SnapshotOffset(_)
        | CallBody::LogEnd(_) => false,
    }
}
