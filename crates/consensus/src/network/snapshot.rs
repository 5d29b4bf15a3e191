//! Sends one snapshot: asks how much the receiver has, then streams the rest.

use super::{GroupNetwork, Rpc, network_error, picked, rpc_error};
use crate::peer::{CallBody, frames};
use baton_protocol::proto::internal as pb;
use baton_raft_storage::codec::{log_id_to_pb, vote_from_pb, vote_to_pb};
use baton_raft_storage::{SnapshotFile, SnapshotReader, TypeConfig, Vote};
use futures::StreamExt;
use openraft::network::RPCOption;
use openraft::raft::SnapshotResponse;
use pb::peer_snapshot_chunk::Part;
use std::time::Duration;

/// Bytes of one chunk; HTTP/2 flow control bounds how many are under way.
const CHUNK_BYTES: usize = 256 * 1024;
const OFFSET_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn send(
    network: &GroupNetwork,
    vote: Vote,
    file: SnapshotFile,
) -> Rpc<SnapshotResponse<TypeConfig>> {
    let last_log_id = file.meta().last_log_id.as_ref().map(log_id_to_pb);
    let length_bytes = file.len_bytes();
    let ask = pb::PeerSnapshotOffsetRequest {
        last_log_id,
        length_bytes,
    };
    let answer = network
        .call(CallBody::SnapshotOffset(ask), &RPCOption::new(OFFSET_TIMEOUT))
        .await?;
    let offset = picked(answer, frames::snapshot_offset)?.offset;
    let meta = pb::PeerSnapshotMeta {
        vote: Some(vote_to_pb(&vote)),
        last_log_id,
        length_bytes,
    };
    let reader = file.reader().map_err(network_error)?;
    let first = futures::stream::iter([chunk(Part::Meta(meta))]);
    let chunks = first
        .chain(futures::stream::unfold(Some((reader, offset)), next_chunk))
        .boxed();
    let header = network.links.directory.header(network.node, Some(network.group));
    let client = network.links.client(network.node).map_err(rpc_error)?;
    tracing::info!(group_id = %network.group, peer = network.node, length_bytes, offset, "sending snapshot");
    let reply = client.snapshot(header, chunks).await.map_err(rpc_error)?;
    let vote = reply
        .vote
        .ok_or_else(|| network_error("snapshot reply without vote"))?;
    Ok(SnapshotResponse::new(vote_from_pb(&vote)))
}

fn chunk(part: Part) -> pb::PeerSnapshotChunk {
    pb::PeerSnapshotChunk { part: Some(part) }
}

/// Reads on a blocking thread: the groups of this node share the calling one. A read error ends the stream without
/// its end mark, which the receiver takes for a broken transfer.
async fn next_chunk(
    state: Option<(SnapshotReader, u64)>,
) -> Option<(pb::PeerSnapshotChunk, Option<(SnapshotReader, u64)>)> {
    let (mut reader, offset) = state?;
    let read = tokio::task::spawn_blocking(move || {
        let data = reader.read_chunk(offset, CHUNK_BYTES);
        (reader, data)
    });
    let (reader, data) = read.await.ok()?;
    match data {
        Ok(data) if data.is_empty() => Some((chunk(Part::End(pb::PeerBlank {})), None)),
        Ok(data) => {
            let next = offset + data.len() as u64;
            Some((
                chunk(Part::Data(pb::PeerSnapshotData { offset, data })),
                Some((reader, next)),
            ))
        }
        Err(error) => {
            tracing::warn!(%error, "reading a snapshot to send failed");
            None
        }
    }
}
