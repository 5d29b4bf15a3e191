//! Reading chains.

use super::may_read;
use crate::keys::{self, Range};
use crate::query::page;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, not_found, reject};
use crate::visibility;
use baton_protocol::proto::internal::{
    Actor, AuditChain, AuditChains, AuditEvent, AuditPage, AuditPlace, KeyKind, ListAudit, ListAuditChains,
};
use baton_protocol::{ErrorCode, limits};
use std::ops::ControlFlow;

/// Events that one page looks at; a page that ends here is short and says where it stopped.
const SCAN_EVENTS_MAX: usize = 2_000;

/// One page of a chain, newest first.
pub(crate) fn list(tables: &dyn Tables, actor: Option<&Actor>, q: &ListAudit) -> Result<AuditPage, Stop> {
    require_reader(actor, &q.workspace_id)?;
    let Some(chain): Option<AuditChain> = rows::read(tables, &keys::audit_chain(&q.workspace_id))? else {
        return Ok(AuditPage::default());
    };
    let newest = newest(tables, &chain, q)?;
    if newest <= chain.anchor_sequence {
        return Ok(AuditPage::default());
    }
    let limit = page(q.limit, limits::AUDIT_PAGE_DEFAULT, limits::AUDIT_PAGE_MAX);
    collect(tables, &chain, q, newest, limit)
}

/// The newest event that the bounds of a query admit; those of a chain are in the order of their times.
fn newest(tables: &dyn Tables, chain: &AuditChain, q: &ListAudit) -> Result<u64, TableError> {
    let mut high = match q.before_sequence {
        0 => chain.sequence,
        before => chain.sequence.min(before - 1),
    };
    if q.until_ms == 0 || chain.at_ms <= q.until_ms {
        return Ok(high);
    }
    let mut low = chain.anchor_sequence;
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let key = keys::audit_event(&chain.workspace_id, middle);
        let event: Option<AuditEvent> = rows::read(tables, &key)?;
        if event.is_some_and(|event| event.at_ms <= q.until_ms) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

fn collect(
    tables: &dyn Tables,
    chain: &AuditChain,
    q: &ListAudit,
    newest: u64,
    limit: usize,
) -> Result<AuditPage, Stop> {
    let Range { from, to } = keys::audit_events_from(&chain.workspace_id, newest);
    let (mut found, mut looked_at, mut failed) = (AuditPage::default(), 0, None);
    tables.scan(&from, &to, &mut |key, value| {
        let event: AuditEvent = match rows::decode(key, value.clone()) {
            Ok(event) => event,
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        };
        if event.at_ms < q.since_ms {
            return ControlFlow::Break(());
        }
        looked_at += 1;
        let place = AuditPlace {
            at_ms: event.at_ms,
            group_id: event.group_id,
            sequence: event.sequence,
        };
        let fits = event.action.starts_with(&q.action_prefix)
            && (q.owner_agent.is_empty() || event.owner_agent == q.owner_agent);
        if fits {
            found.events.push(event);
        }
        if found.events.len() < limit && looked_at < SCAN_EVENTS_MAX {
            return ControlFlow::Continue(());
        }
        found.reached = (place.sequence > chain.anchor_sequence + 1).then_some(place);
        ControlFlow::Break(())
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(found),
    }
}

/// How far chains have come.
pub(crate) fn chains(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &ListAuditChains,
) -> Result<AuditChains, Stop> {
    if !q.every_workspace {
        require_reader(actor, &q.workspace_id)?;
        let chain: Option<AuditChain> = rows::read(tables, &keys::audit_chain(&q.workspace_id))?;
        return Ok(AuditChains {
            chains: chain.into_iter().collect(),
            more: false,
        });
    }
    if !visibility::operates(actor) {
        return Err(reject(
            ErrorCode::PolicyDenied,
            "the chains of every workspace need an operator key; name one workspace",
        ));
    }
    let limit = page(q.limit, limits::LIST_PAGE_MAX, limits::LIST_PAGE_MAX);
    let range = keys::audit_chains_after(q.after_workspace_id.as_deref());
    let mut rows = rows::list(tables, &range, limit + 1)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let chains = rows.into_iter().map(|(key, value)| rows::decode(&key, value));
    Ok(AuditChains {
        chains: chains.collect::<Result<_, _>>()?,
        more,
    })
}

/// A workspace's audit is for who manages it; to others the workspace does not exist.
fn require_reader(actor: Option<&Actor>, workspace_id: &str) -> Result<(), Stop> {
    if may_read(actor, workspace_id) {
        return Ok(());
    }
    let inside = visibility::belongs_to(actor, workspace_id);
    if inside && actor.is_some_and(|actor| actor.kind() == KeyKind::Agent) {
        return Err(reject(
            ErrorCode::PolicyDenied,
            "audit events need a workspace key; an agent key does not show them",
        ));
    }
    Err(not_found("workspace"))
}
