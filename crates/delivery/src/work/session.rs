//! One stream of a node with workers, as the leader serves it.

use super::group::Event;
use crate::ports::LedGroup;
use crate::settings::WORK_SESSION_FRAMES_MAX;
use baton_protocol::proto::internal::WorkUp;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

/// What a session shares with the group's task.
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) led: Arc<dyn LedGroup>,
    pub(super) events: mpsc::Sender<Event>,
    /// Notified when a frame has left.
    pub(super) room: Arc<Notify>,
}

impl Session {
    /// Runs until the stream or the leadership ends.
    pub(super) async fn serve(self, rx: mpsc::Receiver<Bytes>, tx: mpsc::Sender<Bytes>) {
        let (frames, queued) = mpsc::channel(WORK_SESSION_FRAMES_MAX);
        let opened = Event::Opened {
            session: self.id,
            frames,
        };
        if self.events.send(opened).await.is_err() {
            return;
        }
        // Reading goes on while a full stream holds up the writer, so the two ends never wait for each other.
        tokio::select! {
            () = tx.closed() => {}
            () = self.read(rx) => {}
            () = self.write(queued, &tx) => {}
        }
        // The group's task is gone when this fails.
        let _ = self.events.send(Event::Closed { session: self.id }).await;
    }

    async fn read(&self, mut rx: mpsc::Receiver<Bytes>) {
        while let Some(bytes) = rx.recv().await {
            let frame = match WorkUp::decode(bytes) {
                Ok(frame) => frame,
                Err(error) => {
                    debug!(group_id = self.led.group_id().0, %error, "work frame cannot be decoded");
                    return;
                }
            };
            let event = Event::Frame {
                session: self.id,
                frame: Box::new(frame),
            };
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn write(&self, mut queued: mpsc::Receiver<Bytes>, tx: &mpsc::Sender<Bytes>) {
        while let Some(frame) = queued.recv().await {
            self.room.notify_one();
            let Ok(permit) = tx.reserve().await else {
                return;
            };
            // Nothing waits between this question and the hand-over.
            if !self.led.is_leader() {
                return;
            }
            permit.send(frame);
        }
    }
}
