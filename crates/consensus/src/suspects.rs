//! How a replica that may have lost the end of its log becomes whole again. The rule is at
//! [`VoteGate`](crate::vote_gate::VoteGate).

use crate::core::Core;
use crate::group::Group;
use crate::peer::{CallBody, call_body, frames};
use baton_protocol::proto::internal as pb;
use baton_raft_storage::LogId;
use baton_raft_storage::codec::log_id_from_pb;
use std::sync::Arc;
use std::time::Duration;

/// One try to catch up with a leader.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until the replica is whole.
pub(crate) async fn recover(core: Arc<Core>, group: Arc<Group>) {
    loop {
        // Without a leader this costs its whole timeout, so the voters are asked first.
        if let Some(longest) = longest_log(&core, &group).await {
            group.gate.longest_heard(longest);
            if group.log.last_log_id() >= longest {
                tracing::info!(group_id = %group.id, "no voter has a longer log; voting again");
                break;
            }
        }
        if core.catch_up(group.id, CATCH_UP_TIMEOUT).await.is_ok() {
            tracing::info!(group_id = %group.id, "caught up with the leader; voting again");
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if let Err(error) = group.log.clear_suspect() {
        // The next start repeats this.
        tracing::warn!(group_id = %group.id, %error, "cannot note that this replica has caught up");
    }
    group.gate.caught_up();
    group.raft.runtime_config().elect(core.may_lead());
}

/// The end of the longest log of the group, this replica's included; `None` unless every voter answered.
async fn longest_log(core: &Core, group: &Group) -> Option<Option<LogId>> {
    let voters = core
        .directory
        .peers()
        .filter(|node| core.directory.replica_on(group.id, *node).is_some());
    let asked = voters.map(|node| async move {
        let body = CallBody::LogEnd(pb::LogEndRequest {});
        let reply = core.links.call(node, Some(group.id), body, ASK_TIMEOUT).await;
        let end = reply.and_then(|reply| call_body(reply, frames::log_end)).ok()?;
        Some(end.last_log_id.as_ref().map(log_id_from_pb))
    });
    let mut longest = group.log.last_log_id();
    for end in futures::future::join_all(asked).await {
        longest = longest.max(end?);
    }
    Some(longest)
}
