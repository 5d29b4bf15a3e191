//! Who leads a group, and since when this node may act as its leader.

use crate::directory::Directory;
use crate::metrics;
use baton_protocol::GroupId;
use baton_raft_storage::{GroupMachine, TypeConfig};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Raft, ServerState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Leadership of one group as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    pub group: GroupId,
    pub term: u64,
    /// Node id of the leader, if one is known.
    pub leader_node: Option<u64>,
    /// This node leads *and* has applied the first entry of its own term: its tables are up to date, so it may act
    /// on them.
    pub am_leader: bool,
}

/// Waits for a change of the leadership, at most `pause`; that long when the group has stopped and nothing will change.
pub(crate) async fn changed_within(leadership: &mut watch::Receiver<Leadership>, pause: Duration) {
    let changed = async {
        if leadership.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // The time is up: no change.
    let _ = timeout(pause, changed).await;
}

/// Follows a group's Raft object until it stops.
pub(crate) fn follow(
    group: GroupId,
    raft: Raft<TypeConfig, GroupMachine>,
    directory: Arc<Directory>,
) -> watch::Receiver<Leadership> {
    let (tx, rx) = watch::channel(Leadership {
        group,
        term: 0,
        leader_node: None,
        am_leader: false,
    });
    tokio::spawn(async move {
        let mut changes = raft.server_metrics();
        loop {
            let server = changes.borrow_watched().clone();
            let term = server.vote.leader_id.term;
            let leads = server.state == ServerState::Leader;
            let leader_node = server.current_leader.and_then(|id| directory.node_of(group, id));
            let before = *tx.borrow();
            let kept = leads && before.am_leader && before.term == term;
            publish(
                &tx,
                Leadership {
                    group,
                    term,
                    leader_node,
                    am_leader: kept,
                },
            );
            let confirmed = async {
                if leads && !kept {
                    own_entry_applied(&raft, term).await
                } else {
                    std::future::pending().await
                }
            };
            let applied = tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    continue;
                }
                applied = confirmed => applied,
            };
            let now = raft.server_metrics().borrow_watched().clone();
            if applied && now.state == ServerState::Leader && now.vote.leader_id.term == term {
                publish(
                    &tx,
                    Leadership {
                        group,
                        term,
                        leader_node,
                        am_leader: true,
                    },
                );
            }
            if changes.changed().await.is_err() {
                break;
            }
        }
        let last = *tx.borrow();
        publish(
            &tx,
            Leadership {
                leader_node: None,
                am_leader: false,
                ..last
            },
        );
    });
    rx
}

fn publish(tx: &watch::Sender<Leadership>, now: Leadership) {
    let mut new_leader = false;
    let changed = tx.send_if_modified(|last| {
        let changed = *last != now;
        // A leader that is lost and found again in its term has not changed.
        new_leader = now.leader_node.is_some()
            && (last.term != now.term || last.leader_node.is_some_and(|node| Some(node) != now.leader_node));
        *last = now;
        changed
    });
    if changed {
        let known = now.leader_node.is_some();
        metrics::leadership(now.group, now.term, now.am_leader, known, new_leader);
        tracing::debug!(
            group_id = %now.group, term = now.term, leader_node = now.leader_node, am_leader = now.am_leader,
            "leadership"
        );
    }
}

/// Waits until an entry of `term` is applied; false when the group stopped.
async fn own_entry_applied(raft: &Raft<TypeConfig, GroupMachine>, term: u64) -> bool {
    let mut data = raft.data_metrics();
    loop {
        let applied = data.borrow_watched().last_applied;
        if applied.is_some_and(|id| id.leader_id.term == term) {
            return true;
        }
        if data.changed().await.is_err() {
            return false;
        }
    }
}
