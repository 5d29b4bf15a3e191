//! Turns the commands that wait for a group into log entries.
//!
//! All commands waiting at that moment become one entry. An idle group proposes at once; while entries are in flight, the
//! next one waits until enough commands have gathered or the last entry is back: an entry costs the same for one command
//! as for many. The stamp is cluster time.

use crate::cluster_time::ClusterTime;
use crate::directory::Directory;
use crate::metrics;
use baton_protocol::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, PROPOSER_QUEUE_ITEMS_MAX};
use baton_protocol::proto::internal as pb;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use baton_raft_storage::{BoxResponder, EntryData, GroupMachine, TypeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::Raft;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc, oneshot};

/// Log entries proposed and not yet applied, per group.
const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// Commands that are worth an entry of their own while others are in flight.
const GATHER_COMMANDS: usize = 16;

/// Why a command got no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ProposeError {
    /// Not appended here.
    #[error("not the leader of this group")]
    NotLeader { leader_node: Option<u64> },
    /// May or may not take effect: retry under the same number.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Refused; nothing was appended.
    #[error(transparent)]
    Refused(#[from] ServiceError),
}

type Waiter = oneshot::Sender<Result<pb::Reply, ProposeError>>;

/// One encoded command and who waits for it.
struct Proposal {
    command: Bytes,
    waiter: Waiter,
}

/// Handle to one group's proposer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Proposal>,
}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proposal({} bytes)", self.command.len())
    }
}

impl Proposer {
    /// Starts the task on the current runtime.
    pub(crate) fn start(
        group: GroupId,
        raft: Raft<TypeConfig, GroupMachine>,
        time: Arc<ClusterTime>,
        directory: Arc<Directory>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(PROPOSER_QUEUE_ITEMS_MAX);
        let task = Task {
            group,
            raft,
            time,
            directory,
            waiting,
            gathered: VecDeque::new(),
            flights: Arc::default(),
        };
        tokio::spawn(task.run());
        Self { queue }
    }

    /// Proposes one encoded `Command` at this replica and waits until it is applied.
    pub(crate) async fn submit(&self, command: Bytes) -> Result<pb::Reply, ProposeError> {
        if command.len() > BATCH_BYTES_MAX {
            return Err(ServiceError::new(
                ErrorCode::PayloadTooLarge,
                format!("command is larger than {BATCH_BYTES_MAX} bytes"),
            )
            .into());
        }
        let (waiter, reply) = oneshot::channel();
        self.queue
            .try_send(Proposal { command, waiter })
            .map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => ServiceError::new(
                    ErrorCode::QueueFull,
                    "too many commands wait for this group; retry later",
                ),
                mpsc::error::TrySendError::Closed(_) => {
                    ServiceError::new(ErrorCode::ShuttingDown, "this node is stopping")
                }
            })?;
        reply
            .await
            .unwrap_or_else(|_| Err(ProposeError::Unknown("the group stopped".into())))
    }
}

struct Task {
    group: GroupId,
    raft: Raft<TypeConfig, GroupMachine>,
    time: Arc<ClusterTime>,
    directory: Arc<Directory>,
    waiting: mpsc::Receiver<Proposal>,
    /// Taken from `waiting`, not proposed yet.
    gathered: VecDeque<Proposal>,
    flights: Arc<Flights>,
}

/// Entries of this group that are proposed and not yet applied.
#[derive(Debug, Default)]
struct Flights {
    flying: AtomicUsize,
    landed: Notify,
}

/// One entry in flight.
#[derive(Debug)]
struct Flight(Arc<Flights>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.flying.fetch_sub(1, Ordering::AcqRel);
        self.0.landed.notify_one();
    }
}

impl Task {
    async fn run(mut self) {
        loop {
            if self.gathered.is_empty() {
                match self.waiting.recv().await {
                    Some(first) => self.gathered.push_back(first),
                    None => return,
                }
            }
            let flight = self.until_due().await;
            let batch = self.take_batch();
            if !batch.is_empty() {
                self.propose(batch, flight).await;
            }
        }
    }

    /// Waits until what has gathered is worth an entry.
    async fn until_due(&mut self) -> Flight {
        loop {
            while self.gathered.len() < GATHER_COMMANDS
                && let Ok(next) = self.waiting.try_recv()
            {
                self.gathered.push_back(next);
            }
            let flying = self.flights.flying.load(Ordering::Acquire);
            let enough = self.gathered.len() >= GATHER_COMMANDS;
            if flying == 0 || (enough && flying < ENTRIES_IN_FLIGHT_MAX) {
                self.flights.flying.fetch_add(1, Ordering::AcqRel);
                return Flight(self.flights.clone());
            }
            tokio::select! {
                () = self.flights.landed.notified() => {}
                Some(next) = self.waiting.recv(), if !enough => self.gathered.push_back(next),
            }
        }
    }

    /// Everything that waits, within the bounds of one entry. Commands whose caller has given up are left out.
    fn take_batch(&mut self) -> Vec<Proposal> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_COMMANDS_MAX {
            let Some(next) = self.gathered.pop_front().or_else(|| self.waiting.try_recv().ok()) else {
                break;
            };
            if next.waiter.is_closed() {
                continue;
            }
            bytes += next.command.len();
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                self.gathered.push_front(next);
                break;
            }
            batch.push(next);
        }
        batch
    }

    async fn propose(&self, batch: Vec<Proposal>, flight: Flight) {
        let entry = encode_batch(self.time.now_ms(), batch.iter().map(|p| &p.command));
        let waiters: Vec<Waiter> = batch.into_iter().map(|p| p.waiter).collect();
        metrics::proposals(self.group, waiters.len() as u64);
        let (group, directory) = (self.group, self.directory.clone());
        let responder = BoxResponder::new(move |result| {
            drop(flight);
            answer(group, &directory, result, waiters);
        });
        // A fatal error drops the responder and with it the waiters: outcome unknown.
        if let Err(error) = self.raft.client_write_ff(EntryData(entry), Some(responder)).await {
            tracing::debug!(group_id = %self.group, %error, "proposal not accepted");
        }
    }
}

fn answer(
    group: GroupId,
    directory: &Directory,
    result: ClientWriteResult<TypeConfig>,
    waiters: Vec<Waiter>,
) {
    let error = match result {
        Ok(response) => {
            metrics::commit(group);
            let mut replies = response.data.0.into_iter();
            for waiter in waiters {
                let reply = replies
                    .next()
                    .ok_or_else(|| ProposeError::Unknown("entry without reply".into()));
                // A closed waiter is a caller whose deadline passed.
                let _ = waiter.send(reply);
            }
            return;
        }
        Err(ClientWriteError::ForwardToLeader(to)) => ProposeError::NotLeader {
            leader_node: to.leader_id.and_then(|replica| directory.node_of(group, replica)),
        },
        Err(ClientWriteError::LogEntryDiscarded(_)) => {
            ProposeError::Unknown("the leader changed before the entry was applied".into())
        }
        Err(
            other @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
        ) => ProposeError::Unknown(other.to_string()),
    };
    for waiter in waiters {
        let _ = waiter.send(Err(error.clone()));
    }
}

/// A `Batch` from commands that are encoded already: what prost would write, without decoding them.
fn encode_batch<'a>(log_time_ms: u64, commands: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    const LOG_TIME: u32 = 1;
    const COMMANDS: u32 = 2;
    let body: usize = commands
        .clone()
        .map(|c| 1 + encoded_len_varint(c.len() as u64) + c.len())
        .sum();
    let mut out = BytesMut::with_capacity(body + 11);
    encode_key(LOG_TIME, WireType::Varint, &mut out);
    encode_varint(log_time_ms, &mut out);
    for command in commands {
        encode_key(COMMANDS, WireType::LengthDelimited, &mut out);
        encode_varint(command.len() as u64, &mut out);
        out.put_slice(command);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn spliced_batches_are_what_prost_writes() {
        let command = |id: u8| pb::Command {
            origin: u64::from(id),
            sequence: 1,
            settled_below: 1,
            expires_at_ms: u64::from(id) << 40,
            body: Some(pb::command::Body::Pulse(pb::Pulse {})),
        };
        let commands = vec![command(1), command(200)];
        let encoded: Vec<Bytes> = commands.iter().map(|c| c.encode_to_vec().into()).collect();
        let batch = pb::Batch {
            log_time_ms: 1_800_000_000_123,
            commands,
        };
        assert_eq!(
            encode_batch(batch.log_time_ms, encoded.iter()),
            batch.encode_to_vec()
        );
        assert_eq!(
            pb::Batch::decode(encode_batch(7, [].iter())).unwrap().log_time_ms,
            7
        );
    }
}
