//! Hands deliveries to one listener, at its pace, and tells the leader what it took.

use super::lease::Lease;
use crate::frames::encode_up;
use baton_protocol::proto::internal::{FeedSubscribe, FeedUnsubscribe, FeedWritten, feed_up};
use baton_protocol::{FeedItem, Listen};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A place on a link, reserved for one listener.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) sub_id: u64,
    pub(super) up: mpsc::Sender<Bytes>,
    /// Never fuller than the leader's window.
    pub(super) queue: mpsc::Receiver<FeedItem>,
    pub(super) lease: Arc<Lease>,
    /// Cancelled when the link is lost.
    pub(super) lost: CancellationToken,
}

/// Runs until the listener leaves, the subscription is closed or the link is lost.
pub(super) async fn run(listen: Listen, place: Attachment, tx: mpsc::Sender<FeedItem>) {
    let (up, lost, sub_id) = (place.up.clone(), place.lost.clone(), place.sub_id);
    tokio::select! {
        () = lost.cancelled() => return,
        () = feed(listen, place, &tx) => {}
    }
    tokio::select! {
        () = lost.cancelled() => {}
        _ = up.send(encode_up(feed_up::Frame::Unsubscribe(FeedUnsubscribe { sub_id }))) => {}
    }
}

async fn feed(listen: Listen, place: Attachment, tx: &mpsc::Sender<FeedItem>) {
    let Attachment {
        sub_id,
        up,
        mut queue,
        lease,
        ..
    } = place;
    let subscribe = FeedSubscribe {
        sub_id,
        agent: Some(listen.agent),
        since: listen.since,
        credential: listen.credential,
    };
    if up
        .send(encode_up(feed_up::Frame::Subscribe(subscribe)))
        .await
        .is_err()
    {
        return;
    }
    let mut handed: Option<u64> = None;
    loop {
        // The channel holds one item: room for the next one means that the listener took the last one. A listener
        // that left with an item handed over is taken to have had it.
        let permit = tx.reserve().await;
        if let Some(cursor) = handed.take() {
            let written = FeedWritten { sub_id, cursor };
            if up
                .send(encode_up(feed_up::Frame::Written(written)))
                .await
                .is_err()
            {
                return;
            }
        }
        let Ok(permit) = permit else {
            return;
        };
        let item = tokio::select! {
            item = queue.recv() => item,
            () = tx.closed() => None,
        };
        let Some(item) = item else {
            return;
        };
        if !lease.is_valid() {
            return;
        }
        handed = Some(item.cursor);
        permit.send(item);
    }
}
