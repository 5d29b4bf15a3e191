//! One stream of a listening node, as the leader serves it.

use super::group::GroupDispatch;
use crate::frames;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{FeedSubscribe, feed_up};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

/// Runs until the stream, the leadership or the service ends.
pub(super) async fn serve(group: Arc<GroupDispatch>, mut rx: mpsc::Receiver<Bytes>, tx: mpsc::Sender<Bytes>) {
    let (id, wake) = group.open_session();
    // Reading goes on while a full stream holds up the writer, so the two ends never wait for each other.
    tokio::select! {
        () = group.stop.cancelled() => {}
        () = tx.closed() => {}
        () = read(&group, id, &mut rx) => {}
        () = write(&group, id, &wake, &tx) => {}
    }
    group.close_session(id);
}

async fn read(group: &GroupDispatch, id: u64, rx: &mut mpsc::Receiver<Bytes>) {
    while let Some(bytes) = rx.recv().await {
        let frame = match frames::decode_up(bytes) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(error) => {
                debug!(group_id = group.led.group_id().0, %error, "feed frame cannot be decoded");
                return;
            }
        };
        match frame {
            feed_up::Frame::Subscribe(request) => subscribe(group, id, request).await,
            feed_up::Frame::Unsubscribe(f) => group.unsubscribe(id, f.sub_id),
            feed_up::Frame::Written(f) => group.taken(id, f.sub_id, f.cursor),
            feed_up::Frame::PickedUp(f) => {
                if let Some(intent_id) = IntentId::from_slice(&f.intent_id) {
                    group.picked_up(intent_id, &f.credential);
                }
            }
            feed_up::Frame::Renew(f) => group.ask_lease(id, f.nonce),
        }
    }
}

async fn subscribe(group: &GroupDispatch, id: u64, request: FeedSubscribe) {
    let key: Arc<str> = match &request.agent {
        Some(agent) => Arc::from(agent.key.as_str()),
        None => {
            group.refuse(id, request.sub_id, "subscription names no agent");
            return;
        }
    };
    loop {
        match group.infer_page(&request, &key) {
            Ok(true) => break,
            Ok(false) => tokio::task::yield_now().await,
            Err(error) => {
                debug!(group_id = group.led.group_id().0, agent = %key, %error, "cannot read a mailbox");
                group.refuse(id, request.sub_id, "mailbox cannot be read");
                return;
            }
        }
    }
    group.subscribe(id, request, &key);
}

async fn write(group: &GroupDispatch, id: u64, wake: &Notify, tx: &mpsc::Sender<Bytes>) {
    loop {
        let frames = group.next_frames(id);
        if frames.is_empty() {
            wake.notified().await;
            continue;
        }
        for frame in frames {
            let Ok(permit) = tx.reserve().await else {
                return;
            };
            // Nothing waits between this question and the hand-over.
            if !group.led.is_leader() {
                return;
            }
            permit.send(frame);
        }
    }
}
