//! Reads of one group's tables, with tenant checks.

use crate::tables::{TableError, Tables};
use baton_protocol::GroupId;
use baton_protocol::proto::internal::{OutboxMessage, Query, QueryReply};

/// Answers a query. A rejection (not found, not visible) is an `Ok` reply.
///
/// # Errors
/// When storage fails.
pub fn query(_tables: &dyn Tables, _query: &Query) -> Result<QueryReply, TableError> {
    Ok(QueryReply::default())
}

/// Log time of the last applied entry, unix milliseconds; 0 for an empty group.
///
/// # Errors
/// When storage fails.
pub fn log_time_ms(_tables: &dyn Tables) -> Result<u64, TableError> {
    Ok(0)
}

/// When the earliest timer is due; `None` without timers.
///
/// # Errors
/// When storage fails.
pub fn next_due_ms(_tables: &dyn Tables) -> Result<Option<u64>, TableError> {
    Ok(None)
}

/// The first messages waiting for each target, at most `limit` per target, in sequence order.
///
/// # Errors
/// When storage fails.
pub fn outbox_head(
    _tables: &dyn Tables,
    _limit: usize,
) -> Result<Vec<(GroupId, Vec<OutboxMessage>)>, TableError> {
    Ok(Vec::new())
}
