//! Moving the leadership of a group to a node of one's choice, asked of any node.

use crate::core::Core;
use crate::group::Group;
use crate::leadership;
use crate::peer::{CallBody, call_body, frames};
use crate::proposer::ProposeError;
use crate::router::propose_error;
use baton_protocol::proto::internal as pb;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a chosen node may take to lead.
pub(crate) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);
/// Finding the leader and its transfer together.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two tries while no leader is known.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Core {
    /// Has the leader of `group`, wherever that is, hand it to `to_node`. Returns when this node knows the new leader.
    pub(crate) async fn transfer_leader(&self, group: GroupId, to_node: u64) -> Result<(), ServiceError> {
        let group = self.group(group)?;
        self.target(group, to_node)?;
        let until = Instant::now() + DEADLINE;
        let mut leadership = group.leadership.clone();
        let mut hint = None;
        loop {
            let lead = *leadership.borrow_and_update();
            let leader = hint.take().or(lead.leader_node);
            let moved = match leader {
                Some(node) if node == self.directory.node_id => self.hand_to(group, to_node).await,
                Some(node) => self.ask_to_hand(group, node, to_node, until).await,
                None => Err(ProposeError::NotLeader { leader_node: None }),
            };
            match moved {
                Ok(term) => {
                    let known = leadership.wait_for(|lead| lead.term >= term && lead.leader_node.is_some());
                    return match timeout_at(until, known).await {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(_)) | Err(_) => Err(late(group, to_node)),
                    };
                }
                Err(ProposeError::Refused(error)) => return Err(error),
                Err(ProposeError::NotLeader { leader_node }) => {
                    hint = leader_node.filter(|node| Some(*node) != leader && Some(*node) != lead.leader_node)
                }
                // Asking the same again changes nothing.
                Err(ProposeError::Unknown(_)) => {}
            }
            if Instant::now() + RETRY_PAUSE >= until {
                return Err(ServiceError::new(
                    ErrorCode::Unavailable,
                    format!("group {} has no leader; retry", group.id),
                ));
            }
            if hint.is_none() {
                leadership::changed_within(&mut leadership, RETRY_PAUSE).await;
            }
        }
    }

    async fn ask_to_hand(
        &self,
        group: &Group,
        leader: u64,
        to_node: u64,
        until: Instant,
    ) -> Result<u64, ProposeError> {
        let body = CallBody::HandOver(pb::HandOverRequest { to_node });
        let left = until.saturating_duration_since(Instant::now());
        let reply = self.links.call(leader, Some(group.id), body, left).await;
        reply
            .and_then(|reply| call_body(reply, frames::hand_over))
            .map(|reply| reply.term)
            .map_err(propose_error)
    }

    /// The leader's side: gives the term in which `to_node` leads.
    pub(crate) async fn hand_to(&self, group: &Group, to_node: u64) -> Result<u64, ProposeError> {
        let lead = group.lead();
        if !lead.am_leader {
            let leader_node = lead.leader_node.filter(|node| *node != self.directory.node_id);
            return Err(ProposeError::NotLeader { leader_node });
        }
        if to_node == self.directory.node_id {
            return Ok(lead.term);
        }
        let replica = self.target(group, to_node)?;
        let mut leadership = group.leadership.clone();
        let asked = group.raft.trigger().transfer_leader(replica).await;
        asked.map_err(|_| late(group, to_node))?;
        let moved = leadership.wait_for(|lead| lead.leader_node == Some(to_node));
        match timeout(TRANSFER_TIMEOUT, moved).await {
            Ok(Ok(lead)) => Ok(lead.term),
            Ok(Err(_)) | Err(_) => Err(late(group, to_node).into()),
        }
    }

    fn target(&self, group: &Group, to_node: u64) -> Result<u64, ServiceError> {
        self.directory.replica_on(group.id, to_node).ok_or_else(|| {
            ServiceError::new(
                ErrorCode::NotFound,
                format!("node {to_node} has no replica of group {}", group.id),
            )
        })
    }
}

fn late(group: &Group, to_node: u64) -> ServiceError {
    ServiceError::new(
        ErrorCode::Timeout,
        format!("node {to_node} did not take over group {}", group.id),
    )
}
