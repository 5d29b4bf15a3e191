//! A worker and an item, as the leader sees them.

use baton_protocol::IntentId;
use baton_protocol::proto::internal::{Actor, AttemptFence};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A worker: the stream of its node, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::work) struct WorkerKey {
    pub(in crate::work) session: u64,
    pub(in crate::work) worker: u64,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) agent: Arc<str>,
    pub(super) actor: Actor,
    pub(super) lease: Duration,
    pub(super) credits: u32,
    pub(super) items: HashSet<IntentId>,
    /// Takes no more items.
    pub(super) stopped: bool,
    /// Its node's stream was lost: until then somebody may come back with its items.
    pub(super) orphan_until: Option<Instant>,
}

/// How far an item has come with its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// On its way; nothing counts yet.
    Sent,
    /// With the worker: fails at `due`.
    Written,
    /// The log is being told that it is done: this many times at once.
    Finishing(u32),
    /// The log is being told that the attempt failed.
    Failing,
    /// The log could not be told; again at `due`.
    FailAgain,
}

/// An item that a worker has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) agent: Arc<str>,
    pub(super) cursor: u64,
    pub(super) fence: AttemptFence,
    pub(super) worker: WorkerKey,
    pub(super) stage: Stage,
    pub(super) due: Instant,
    pub(super) start: Start,
}

/// Whether the log is to be told that an attempt has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Attempts may take as long as they like.
    Untimed,
    /// Once the worker has it.
    Wanted,
    Told,
}
