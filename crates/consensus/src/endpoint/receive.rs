//! Receives a snapshot: chunks go to a file beside the current one, and only a complete, verified file is installed.

use super::stopped;
use crate::group::Group;
use crate::peer::{PeerError, SnapshotInput};
use baton_protocol::proto::internal as pb;
use baton_raft_storage::codec::{log_id_from_pb, vote_from_pb, vote_to_pb};
use baton_raft_storage::{Snapshot, SnapshotFile, SnapshotReceiver};
use futures::StreamExt;
use pb::peer_failure::Kind;
use pb::peer_snapshot_chunk::Part;

fn broken(reason: impl std::fmt::Display) -> PeerError {
    PeerError::failed(Kind::Unavailable, format!("snapshot transfer broken: {reason}"))
}

/// How much is there from an earlier, broken transfer of the same snapshot.
pub(super) fn offset(
    group: &Group,
    ask: &pb::PeerSnapshotOffsetRequest,
) -> Result<pb::PeerSnapshotOffset, PeerError> {
    let _busy = group
        .receiving
        .try_lock()
        .map_err(|_| broken("another transfer is under way"))?;
    let last = ask.last_log_id.as_ref().ok_or_else(|| broken("no log id"))?;
    let receiver = group
        .tables
        .snapshots()
        .receiver(log_id_from_pb(last), ask.length_bytes)
        .map_err(broken)?;
    Ok(pb::PeerSnapshotOffset {
        offset: receiver.offset(),
    })
}

pub(super) async fn snapshot(
    group: &Group,
    mut chunks: SnapshotInput,
) -> Result<pb::PeerSnapshotReply, PeerError> {
    let _busy = group
        .receiving
        .try_lock()
        .map_err(|_| broken("another transfer is under way"))?;
    let Some(Part::Meta(meta)) = next_part(&mut chunks).await? else {
        return Err(broken("it does not begin with its meta part"));
    };
    let vote = meta
        .vote
        .as_ref()
        .map(vote_from_pb)
        .ok_or_else(|| broken("no vote"))?;
    let last = meta
        .last_log_id
        .as_ref()
        .map(log_id_from_pb)
        .ok_or_else(|| broken("no log id"))?;
    if last.leader_id.term > vote.leader_id.term {
        // Raft asserts this.
        return Err(broken("its log id is of a later term than the vote"));
    }
    let receiver = group
        .tables
        .snapshots()
        .receiver(last, meta.length_bytes)
        .map_err(broken)?;
    let file = receive(receiver, &mut chunks).await?;
    if file.meta().last_log_id != Some(last) {
        return Err(broken("the file is of another log id than announced"));
    }
    tracing::info!(group_id = %group.id, length_bytes = meta.length_bytes, "installing snapshot");
    let snapshot = Snapshot {
        meta: file.meta().clone(),
        snapshot: file,
    };
    let response = group
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(stopped)?;
    Ok(pb::PeerSnapshotReply {
        vote: Some(vote_to_pb(&response.vote)),
    })
}

/// Writes on a blocking thread: the groups of this node share the calling one.
async fn receive(
    mut receiver: SnapshotReceiver,
    chunks: &mut SnapshotInput,
) -> Result<SnapshotFile, PeerError> {
    loop {
        match next_part(chunks).await? {
            Some(Part::Data(part)) => {
                let write = tokio::task::spawn_blocking(move || {
                    let result = receiver.write_chunk(part.offset, &part.data);
                    (receiver, result)
                });
                let (back, result) = write.await.map_err(broken)?;
                result.map_err(broken)?;
                receiver = back;
            }
            Some(Part::End(_)) => {
                let finish = tokio::task::spawn_blocking(move || receiver.finish());
                return finish.await.map_err(broken)?.map_err(broken);
            }
            Some(Part::Meta(_)) => return Err(broken("a second meta part")),
            None => return Err(broken("it ended early")),
        }
    }
}

async fn next_part(chunks: &mut SnapshotInput) -> Result<Option<Part>, PeerError> {
    Ok(chunks.next().await.transpose()?.and_then(|chunk| chunk.part))
}
