//! Threads of an inbox.

use super::{Payload, text};
use baton_protocol::proto::v1;
use serde::Serialize;

/// What came for an owner, or what became of what it sent. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Thread {
    pub thread_id: String,
    pub intent_id: String,
    pub status: String,
    pub owner: String,
    pub from_agent: Option<String>,
    pub to_agent: Option<String>,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    pub entries: Vec<ThreadEntry>,
}

impl Thread {
    pub(crate) fn from_wire(thread: v1::Thread) -> Self {
        Self {
            thread_id: thread.thread_id,
            intent_id: thread.intent_id,
            status: thread.status,
            owner: thread.owner,
            from_agent: text(thread.from_agent),
            to_agent: text(thread.to_agent),
            created_at_ms: thread.created_at_ms,
            updated_at_ms: thread.updated_at_ms,
            entries: thread.entries.into_iter().map(ThreadEntry::from_wire).collect(),
        }
    }
}

/// One thing that happened in a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ThreadEntry {
    pub event_id: String,
    pub event_type: String,
    pub actor: Option<String>,
    /// Unix milliseconds.
    pub at_ms: u64,
    pub details: Option<Payload>,
}

impl ThreadEntry {
    fn from_wire(entry: v1::ThreadEntry) -> Self {
        let details = entry.details_json;
        Self {
            event_id: entry.event_id,
            event_type: entry.event_type,
            actor: text(entry.actor),
            at_ms: entry.at_ms,
            details: (!details.is_empty()).then(|| Payload::bytes(details, String::new())),
        }
    }
}
