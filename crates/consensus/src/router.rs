//! Finds the leader: commands go to it, reads ask it for an index and are served here.

use crate::core::Core;
use crate::group::Group;
use crate::leadership;
use crate::metrics;
use crate::peer::{CallBody, PeerError, call_body, frames};
use crate::proposer::ProposeError;
use crate::reads::ReadError;
use crate::sequence::Ticket;
use baton_protocol::limits::COMMAND_EXPIRY_MS;
use baton_protocol::proto::internal as pb;
use baton_protocol::{ErrorCode, GroupId, Route, ServiceError};
use baton_state_machine::{TableError, is_deduplicated};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Retries of one command end here, before the command expires.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_millis(8_000);
/// Linearizable reads give up after this.
pub const READ_TIMEOUT: Duration = Duration::from_millis(5_000);
/// One try at one leader; a frozen one must not use up the whole time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(200);
/// How far a command's expiry may lie ahead of the leader's clock beyond its usual distance, ms.
const EXPIRY_AHEAD_MS: u64 = 2_000;

const _: () = assert!(PROPOSE_TIMEOUT.as_millis() < COMMAND_EXPIRY_MS as u128);

pub(crate) fn internal(error: &TableError) -> ServiceError {
    tracing::error!(%error, "reading tables failed");
    ServiceError::new(
        ErrorCode::Internal,
        "reading the local tables failed; see this node's log",
    )
}

impl Core {
    /// Proposes at the leader of `route`, wherever that is. One number for all tries, so that however late a
    /// pending entry commits, the command takes effect at most once.
    pub(crate) async fn propose(
        &self,
        route: Route,
        body: pb::command::Body,
    ) -> Result<pb::Reply, ServiceError> {
        let group = self.group(route.group(self.directory.map))?;
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let (command, _waiting) = self.mint(group, body, deadline).await?;
        let mut leadership = group.leadership.clone();
        let mut pause = RETRY_PAUSE_MIN;
        let mut hint = None;
        let mut unknown = false;
        while Instant::now() < deadline {
            let lead = *leadership.borrow_and_update();
            let node = hint.take().or(lead.leader_node);
            let tried = match node {
                Some(node) => {
                    self.attempt(group, node, command.clone(), deadline, &mut leadership)
                        .await
                }
                None => Err(ProposeError::NotLeader { leader_node: None }),
            };
            match tried {
                Ok(reply) => return Ok(reply),
                Err(ProposeError::NotLeader { leader_node }) => {
                    // Two that name each other must not keep this call from pausing.
                    hint = leader_node.filter(|_| leader_node != node && leader_node != lead.leader_node)
                }
                Err(ProposeError::Unknown(_)) => unknown = true,
                // After an unknown outcome a refusal says nothing about the first try.
                Err(ProposeError::Refused(error)) if !unknown => return Err(error),
                Err(ProposeError::Refused(_)) => {}
            }
            if hint.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                leadership::changed_within(&mut leadership, pause.min(left)).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
        Err(if unknown {
            ServiceError::new(
                ErrorCode::Timeout,
                "no answer in time and the outcome is unknown; retry with the same idempotency key",
            )
        } else {
            ServiceError::new(
                ErrorCode::Unavailable,
                format!("group {} has no leader; retry", group.id),
            )
        })
    }

    /// Proposes at this node only.
    pub(crate) async fn propose_as_leader(
        &self,
        group: GroupId,
        body: pb::command::Body,
    ) -> Result<pb::Reply, ServiceError> {
        let group = self.group(group)?;
        let not_leader = || {
            ServiceError::new(
                ErrorCode::NotLeader,
                format!("this node does not lead group {}", group.id),
            )
        };
        if !group.lead().am_leader {
            return Err(not_leader());
        }
        self.admit(group)?;
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let (command, _waiting) = self.mint(group, body, deadline).await?;
        let unknown =
            |reason: String| ServiceError::new(ErrorCode::Timeout, format!("outcome unknown: {reason}"));
        match timeout_at(deadline, group.proposer.submit(command)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(ProposeError::NotLeader { .. })) => Err(not_leader()),
            Ok(Err(ProposeError::Unknown(reason))) => Err(unknown(reason)),
            Ok(Err(ProposeError::Refused(error))) => Err(error),
            Err(_) => Err(unknown("no majority answered in time".into())),
        }
    }

    /// An encoded command with a number of its own, to be kept until its caller has the answer or gives up. Waits until
    /// cluster time is known: an expiry from a wrong clock would outlive the deduplication window.
    async fn mint<'g>(
        &self,
        group: &'g Group,
        body: pb::command::Body,
        deadline: Instant,
    ) -> Result<(Bytes, Option<Ticket<'g>>), ServiceError> {
        while !self.time.synced() {
            if Instant::now() >= deadline {
                return Err(ServiceError::new(
                    ErrorCode::Unavailable,
                    "cluster time is not known yet; are a majority of the nodes reachable?",
                ));
            }
            tokio::time::sleep(RETRY_PAUSE_MIN).await;
        }
        let ticket = is_deduplicated(&body).then(|| group.sequence.take());
        let (sequence, settled_below) = ticket.as_ref().map_or((0, 0), |t| (t.sequence, t.settled_below));
        let command = pb::Command {
            origin: if ticket.is_some() { self.origin } else { 0 },
            sequence,
            settled_below,
            expires_at_ms: self.time.now_ms() + COMMAND_EXPIRY_MS,
            body: Some(body),
        };
        Ok((command.encode_to_vec().into(), ticket))
    }

    async fn attempt(
        &self,
        group: &Arc<Group>,
        node: u64,
        command: Bytes,
        deadline: Instant,
        leadership: &mut watch::Receiver<crate::Leadership>,
    ) -> Result<pb::Reply, ProposeError> {
        let until = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
        let submit = async {
            if node == self.directory.node_id {
                self.admit(group)?;
                group.proposer.submit(command).await
            } else {
                self.forward(group.id, node, command, until).await
            }
        };
        let moved = async {
            // Only a different known leader ends the try: a moment without one is part of every election.
            loop {
                if leadership.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                if leadership
                    .borrow_and_update()
                    .leader_node
                    .is_some_and(|now| now != node)
                {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            result = timeout_at(until, submit) => {
                result.unwrap_or_else(|_| Err(ProposeError::Unknown("no answer in time".into())))
            }
            () = moved => Err(ProposeError::Unknown("the leader changed".into())),
        }
    }

    async fn forward(
        &self,
        group: GroupId,
        node: u64,
        command: Bytes,
        until: Instant,
    ) -> Result<pb::Reply, ProposeError> {
        metrics::forwarded();
        let body = CallBody::Forward(pb::ForwardCommand { command });
        let left = until.saturating_duration_since(Instant::now());
        let reply = self.links.call(node, Some(group), body, left).await;
        reply
            .and_then(|reply| call_body(reply, frames::forward))
            .map_err(propose_error)
    }

    /// The leader's side of a forwarded command.
    pub(crate) async fn accept_forwarded(
        &self,
        group: &Group,
        command: Bytes,
    ) -> Result<pb::Reply, ProposeError> {
        let decoded = pb::Command::decode(command.clone()).map_err(|_| {
            ServiceError::new(ErrorCode::InvalidArgument, "forwarded command cannot be decoded")
        })?;
        let now = self.time.now_ms();
        if decoded.expires_at_ms <= now {
            return Err(ServiceError::new(ErrorCode::CommandExpired, "command expired on its way").into());
        }
        if decoded.expires_at_ms > now + COMMAND_EXPIRY_MS + EXPIRY_AHEAD_MS {
            return Err(ServiceError::new(
                ErrorCode::Unavailable,
                "command expires too far ahead; check the sending node's clock",
            )
            .into());
        }
        self.admit(group)?;
        tokio::time::timeout(PROPOSE_TIMEOUT, group.proposer.submit(command))
            .await
            .unwrap_or_else(|_| Err(ProposeError::Unknown("no majority answered in time".into())))
    }

    /// A linearizable read, served from the local tables.
    pub(crate) async fn read(&self, route: Route, query: &pb::Query) -> Result<pb::QueryReply, ServiceError> {
        let group = route.group(self.directory.map);
        if !self.groups.contains_key(&group) {
            return self.read_elsewhere(group, query).await;
        }
        self.catch_up(group, READ_TIMEOUT).await?;
        self.read_local(route, query)
    }

    /// A read of the local tables as they are.
    pub(crate) fn read_local(&self, route: Route, query: &pb::Query) -> Result<pb::QueryReply, ServiceError> {
        let group = self.group(route.group(self.directory.map))?;
        group
            .tables
            .read(|tables| baton_state_machine::query(tables, query))
            .map_err(|e| internal(&e))
    }

    /// Waits until the local replica has applied everything acknowledged before this call.
    pub(crate) async fn catch_up(&self, group: GroupId, within: Duration) -> Result<(), ServiceError> {
        let group = self.group(group)?;
        let deadline = Instant::now() + within;
        let index = self.read_index(group, deadline).await?;
        let mut applied = group.tables.watch_applied();
        let reached = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ServiceError::new(
                ErrorCode::ShuttingDown,
                "this node is stopping",
            )),
            Err(_) => Err(ServiceError::new(
                ErrorCode::StaleReplica,
                format!("this node's replica of group {} is behind; retry", group.id),
            )),
        }
    }

    async fn read_index(&self, group: &Group, deadline: Instant) -> Result<u64, ServiceError> {
        let mut leadership = group.leadership.clone();
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            leadership.mark_unchanged();
            let reason = match timeout_at(deadline, group.reads.read_index(false)).await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(ReadError::QueueFull)) => {
                    return Err(ServiceError::new(
                        ErrorCode::QueueFull,
                        "too many reads wait; retry later",
                    ));
                }
                Ok(Err(error @ (ReadError::NotLeader { .. } | ReadError::Unavailable(_)))) => {
                    error.to_string()
                }
                Err(_) => "no answer in time".to_owned(),
            };
            if Instant::now() + pause >= deadline {
                return Err(ServiceError::new(
                    ErrorCode::Unavailable,
                    format!("group {} cannot be read: {reason}", group.id),
                ));
            }
            leadership::changed_within(&mut leadership, pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// For groups without a replica here: any node that has one answers.
    async fn read_elsewhere(
        &self,
        group: GroupId,
        query: &pb::Query,
    ) -> Result<pb::QueryReply, ServiceError> {
        let holders = self
            .directory
            .peers()
            .filter(|node| self.directory.replica_on(group, *node).is_some());
        let mut last = format!("group {group} does not exist");
        for node in holders {
            let body = CallBody::Query(query.clone());
            let reply = self.links.call(node, Some(group), body, READ_TIMEOUT).await;
            match reply.and_then(|reply| call_body(reply, frames::query)) {
                Ok(reply) => return Ok(reply),
                Err(error) => last = error.to_string(),
            }
        }
        Err(ServiceError::new(ErrorCode::Unavailable, last))
    }
}

pub(crate) fn propose_error(error: PeerError) -> ProposeError {
    use pb::peer_failure::Kind;
    match error {
        // Never sent.
        PeerError::Unreachable { .. } => ProposeError::NotLeader { leader_node: None },
        PeerError::Lost(reason) => ProposeError::Unknown(reason),
        PeerError::Failed(failure) => match failure.kind() {
            Kind::NotLeader => ProposeError::NotLeader {
                leader_node: Some(failure.leader_node).filter(|node| *node != 0),
            },
            Kind::Refused => ServiceError::new(ErrorCode::from_number(failure.code), failure.message).into(),
            Kind::UnknownOutcome => ProposeError::Unknown(failure.message),
            Kind::Identity | Kind::Unavailable | Kind::Unspecified => {
                ProposeError::NotLeader { leader_node: None }
            }
        },
    }
}
