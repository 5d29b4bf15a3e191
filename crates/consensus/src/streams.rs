//! Application streams toward the node that leads a group.

use crate::core::Core;
use crate::peer::{FrameStream, PeerError, STREAM_FRAMES_MAX};
use baton_protocol::proto::internal as pb;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use bytes::Bytes;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long opening a stream looks for the leader.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// Accepts application streams at the leader.
pub trait StreamHandler: Send + Sync + 'static {
    /// Takes over a stream that `peer_node` opened toward `group`, which this node leads. Called on the consensus
    /// thread: must return at once and do its work elsewhere. Dropping the frames ends the stream.
    ///
    /// # Errors
    /// When the stream is not wanted; the opener sees the error.
    fn accept(
        &self,
        peer_node: u64,
        group: GroupId,
        header: Bytes,
        frames: FrameStream,
    ) -> Result<(), ServiceError>;
}

impl Core {
    /// Opens a stream to the leader of `group`, in-process when that is this node.
    pub(crate) async fn open_stream(
        &self,
        group: GroupId,
        header: Bytes,
    ) -> Result<FrameStream, ServiceError> {
        let mut leadership = self.group(group)?.leadership.clone();
        let mut last = ServiceError::new(
            ErrorCode::Unavailable,
            format!("group {group} has no leader; retry"),
        );
        let search = async {
            loop {
                let lead = *leadership.borrow_and_update();
                let tried = match lead.leader_node {
                    Some(node) if node == self.directory.node_id => self.open_here(group, &header),
                    Some(node) => self.open_at(node, group, &header).await,
                    None => Err(last.clone()),
                };
                match tried {
                    Ok(frames) => return frames,
                    Err(error) => last = error,
                }
                // Whichever comes first: another leader, or the next try.
                let _ = tokio::time::timeout(OPEN_RETRY, leadership.changed()).await;
            }
        };
        tokio::time::timeout(OPEN_TIMEOUT, search).await.map_err(|_| last)
    }

    fn open_here(&self, group: GroupId, header: &Bytes) -> Result<FrameStream, ServiceError> {
        let (near_tx, far_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let (far_tx, near_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        self.accept_stream(self.directory.node_id, group, header.clone(), (far_tx, far_rx))?;
        Ok((near_tx, near_rx))
    }

    async fn open_at(&self, node: u64, group: GroupId, header: &Bytes) -> Result<FrameStream, ServiceError> {
        let unavailable = |error: PeerError| ServiceError::new(ErrorCode::Unavailable, error.to_string());
        let head = pb::PeerHeader {
            stream_header: header.clone(),
            ..self.directory.header(node, Some(group))
        };
        let client = self.links.client(node).map_err(unavailable)?;
        client.open_stream(head).await.map_err(unavailable)
    }

    /// The accepting side.
    pub(crate) fn accept_stream(
        &self,
        peer_node: u64,
        group: GroupId,
        header: Bytes,
        frames: FrameStream,
    ) -> Result<(), ServiceError> {
        if !self.group(group)?.lead().am_leader {
            return Err(ServiceError::new(
                ErrorCode::NotLeader,
                format!("this node does not lead group {group}"),
            ));
        }
        let handler: Option<Arc<dyn StreamHandler>> = self
            .stream_handler
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        handler
            .ok_or_else(|| ServiceError::new(ErrorCode::Unavailable, "this node takes no streams yet"))?
            .accept(peer_node, group, header, frames)
    }
}
