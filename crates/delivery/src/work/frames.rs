//! Encoding of the frames between a node with workers and a leader.

use crate::settings::{WORK_FRAME_BYTES_MAX, WORK_FRAME_ITEMS_MAX};
use baton_protocol::proto::internal::{AttemptGrant, AttemptLost, AttemptReceipt, WorkDown, WorkerClosed};
use bytes::Bytes;
use prost::Message;

/// Packs what goes to one node into frames of bounded size.
#[derive(Debug)]
pub(super) struct DownFrames {
    term: u64,
    current: WorkDown,
    items: usize,
    bytes: usize,
    done: Vec<Bytes>,
}

impl DownFrames {
    pub(super) fn new(term: u64) -> Self {
        Self {
            term,
            current: WorkDown::default(),
            items: 0,
            bytes: 0,
            done: Vec::new(),
        }
    }

    pub(super) fn renewed(&mut self, nonce: u64, valid_for_ms: u32) {
        self.room(16);
        self.current.renewed = nonce;
        self.current.valid_for_ms = valid_for_ms;
    }

    pub(super) fn grant(&mut self, grant: AttemptGrant) {
        self.room(grant.intent.len() + grant.payload.len() + 48);
        self.current.grants.push(grant);
    }

    pub(super) fn receipt(&mut self, receipt: AttemptReceipt) {
        self.room(receipt.message.len() + 16);
        self.current.receipts.push(receipt);
    }

    pub(super) fn lost(&mut self, lost: AttemptLost) {
        self.room(48);
        self.current.lost.push(lost);
    }

    pub(super) fn closed(&mut self, closed: WorkerClosed) {
        self.room(closed.message.len() + 16);
        self.current.closed.push(closed);
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        self.done
    }

    fn room(&mut self, bytes: usize) {
        if self.items >= WORK_FRAME_ITEMS_MAX || self.bytes + bytes > WORK_FRAME_BYTES_MAX {
            self.cut();
        }
        self.items += 1;
        self.bytes += bytes;
    }

    fn cut(&mut self) {
        if self.items == 0 {
            return;
        }
        let mut frame = std::mem::take(&mut self.current);
        frame.term = self.term;
        self.done.push(frame.encode_to_vec().into());
        (self.items, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bounded_by_items_and_bytes() {
        let mut frames = DownFrames::new(7);
        for counter in 1..=300 {
            frames.grant(AttemptGrant {
                counter,
                ..AttemptGrant::default()
            });
        }
        frames.grant(AttemptGrant {
            counter: 301,
            payload: vec![0; WORK_FRAME_BYTES_MAX * 2].into(),
            ..AttemptGrant::default()
        });
        let sizes: Vec<_> = frames
            .finish()
            .into_iter()
            .map(|f| WorkDown::decode(f).unwrap())
            .map(|f| (f.term, f.grants.len()))
            .collect();
        assert_eq!(sizes, [(7, 256), (7, 44), (7, 1)], "a large item travels alone");
        assert!(DownFrames::new(7).finish().is_empty());
    }
}
