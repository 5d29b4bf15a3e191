//! Read indexes: one round of the leader serves every read that waits at that moment.

use crate::directory::Directory;
use crate::leadership::Leadership;
use crate::metrics;
use crate::network::Links;
use crate::peer::{CallBody, PeerError, call_body, frames};
use baton_protocol::GroupId;
use baton_protocol::proto::internal as pb;
use baton_raft_storage::{GroupMachine, TypeConfig};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Reads waiting for an index, per group.
const READS_WAITING_MAX: usize = 8_192;
/// Rounds under way per group: a round that hangs must not hold up the next.
const ROUNDS_MAX: usize = 4;
const ROUND_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Why there is no read index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("not the leader of this group")]
    NotLeader { leader_node: Option<u64> },
    #[error("too many reads wait for this group")]
    QueueFull,
    #[error("no read index: {0}")]
    Unavailable(String),
}

struct Waiting {
    /// Only this replica may answer, as leader: somebody else asks.
    leader_only: bool,
    answer: oneshot::Sender<Result<u64, ReadError>>,
}

/// Handle to one group's read index rounds. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReadIndexer {
    queue: mpsc::Sender<Waiting>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("leader_only", &self.leader_only)
            .finish_non_exhaustive()
    }
}

impl ReadIndexer {
    pub(crate) fn start(
        group: GroupId,
        raft: Raft<TypeConfig, GroupMachine>,
        links: Arc<Links>,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(READS_WAITING_MAX);
        let rounds = Rounds {
            group,
            raft,
            links,
            leadership,
        };
        tokio::spawn(rounds.run(waiting));
        Self { queue }
    }

    /// An index such that a replica that has applied it sees every write acknowledged before this call.
    pub(crate) async fn read_index(&self, leader_only: bool) -> Result<u64, ReadError> {
        let (answer, index) = oneshot::channel();
        self.queue
            .try_send(Waiting { leader_only, answer })
            .map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => ReadError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => {
                    ReadError::Unavailable("this node is stopping".into())
                }
            })?;
        index
            .await
            .unwrap_or_else(|_| Err(ReadError::Unavailable("the group stopped".into())))
    }
}

#[derive(Clone)]
struct Rounds {
    group: GroupId,
    raft: Raft<TypeConfig, GroupMachine>,
    links: Arc<Links>,
    leadership: watch::Receiver<Leadership>,
}

impl Rounds {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let permits = Arc::new(Semaphore::new(ROUNDS_MAX));
        loop {
            let Some(first) = waiting.recv().await else { return };
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let mut round = vec![first];
            while let Ok(next) = waiting.try_recv() {
                round.push(next);
            }
            let this = self.clone();
            tokio::spawn(async move {
                this.round(round).await;
                drop(permit);
            });
        }
    }

    async fn round(&self, round: Vec<Waiting>) {
        metrics::read_round();
        let own = self.own_index().await;
        if !matches!(own, Err(ReadError::NotLeader { .. })) {
            return answer(round, &own);
        }
        let (leader_only, others): (Vec<_>, Vec<_>) = round.into_iter().partition(|w| w.leader_only);
        answer(leader_only, &own);
        if !others.is_empty() {
            answer(others, &self.leaders_index().await);
        }
    }

    /// As leader: confirmed by a majority now.
    async fn own_index(&self) -> Result<u64, ReadError> {
        if !self.raft.is_leader() {
            return Err(ReadError::NotLeader {
                leader_node: self.leadership.borrow().leader_node,
            });
        }
        let confirm = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        match tokio::time::timeout(ROUND_TIMEOUT, confirm).await {
            Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                let directory: &Directory = &self.links.directory;
                let node = to
                    .leader_id
                    .and_then(|replica| directory.node_of(self.group, replica));
                Err(ReadError::NotLeader { leader_node: node })
            }
            Ok(Err(error)) => Err(ReadError::Unavailable(error.to_string())),
            Err(_) => Err(ReadError::Unavailable("no majority answered in time".into())),
        }
    }

    async fn leaders_index(&self) -> Result<u64, ReadError> {
        let leader = self.leadership.borrow().leader_node;
        let Some(node) = leader.filter(|node| *node != self.links.directory.node_id) else {
            return Err(ReadError::NotLeader { leader_node: None });
        };
        let body = CallBody::ReadIndex(pb::ReadIndexRequest {});
        let reply = self.links.call(node, Some(self.group), body, ROUND_TIMEOUT).await;
        match reply.and_then(|reply| call_body(reply, frames::read_index)) {
            Ok(reply) => Ok(reply.log_index),
            Err(PeerError::Failed(failure)) if failure.kind() == pb::peer_failure::Kind::NotLeader => {
                let hint = Some(failure.leader_node).filter(|node| *node != 0);
                Err(ReadError::NotLeader { leader_node: hint })
            }
            Err(error) => Err(ReadError::Unavailable(error.to_string())),
        }
    }
}

fn answer(round: Vec<Waiting>, result: &Result<u64, ReadError>) {
    for waiting in round {
        // A closed waiter is a reader whose deadline passed.
        let _ = waiting.answer.send(result.clone());
    }
}
