//! `apply`: one log entry in, replies, events and effects out.

use crate::tables::{TableError, WriteBatch};
use baton_protocol::proto::internal::{Batch, Event, Reply};
use baton_protocol::{GroupId, GroupMap, IntentId, limits};
use bytes::Bytes;

/// Everything `apply` may know about the outside. Nothing else exists for it.
#[derive(Debug, Clone, Copy)]
pub struct ApplyContext {
    pub group: GroupId,
    pub map: GroupMap,
    pub log_index: u64,
    pub term: u64,
    pub settings: Settings,
}

/// Cluster-wide durations, fixed at creation so that every replica applies alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub command_dedup_ms: u64,
    pub idempotency_retention_ms: u64,
    pub terminal_retention_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            command_dedup_ms: limits::COMMAND_DEDUP_MS,
            idempotency_retention_ms: limits::IDEMPOTENCY_RETENTION_MS,
            terminal_retention_ms: limits::TERMINAL_RETENTION_MS,
        }
    }
}

/// What one entry did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// Log time after this entry.
    pub log_time_ms: u64,
    /// One per command, in order.
    pub replies: Vec<Reply>,
    /// Events appended, in order; the three birth events of a submit included.
    pub events: Vec<Event>,
    pub effects: Vec<Effect>,
}

/// What the leader may have to do. Hints: a new leader recomputes them from the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An open delivery got a (new) cursor.
    Deliver {
        agent_key: String,
        cursor: u64,
        intent_id: IntentId,
    },
    /// The open delivery at this cursor is gone: finished, moved or re-sent under another cursor.
    Withdraw {
        agent_key: String,
        cursor: u64,
        intent_id: IntentId,
    },
    /// Messages wait for this group.
    Send { target: GroupId },
    /// The earliest timer may have changed.
    Timer { due_ms: u64 },
    /// Tenants or keys changed (meta group); `token_sha256` names a key that was revoked.
    Meta { revoked_token_sha256: Option<Bytes> },
}

/// Applies one log entry.
///
/// # Errors
/// Only when storage fails or holds a row that cannot be decoded.
pub fn apply(
    _tables: &mut WriteBatch<'_>,
    entry: &Batch,
    _ctx: &ApplyContext,
) -> Result<Applied, TableError> {
    Ok(Applied {
        log_time_ms: entry.log_time_ms,
        ..Applied::default()
    })
}
