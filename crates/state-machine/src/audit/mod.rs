//! Audit chains: one per workspace in each group. An event is written in the same entry as the change it tells of, and
//! sealed with the hash of the event before.

mod list;
mod outcome;
mod subject;

pub(crate) use list::{chains, list};
pub(crate) use outcome::record;
pub(crate) use subject::Subject;

use crate::keys;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::timers;
use crate::transaction::{Stop, Transaction};
use crate::visibility;
use baton_protocol::audit::{Hash, Record, genesis};
use baton_protocol::proto::internal::{Actor, AuditChain, AuditDetail, AuditEvent, KeyKind, TimerKind};
use baton_protocol::{GroupId, Slot, limits};

/// Events that one timer removes; what is left goes with the next.
const PRUNED_MAX: usize = 64;
/// Timers of a chain belong to no slot.
const CHAIN_SLOT: u16 = 0;
/// `actor` and `actor_kind` of what nobody asked for.
const SYSTEM: &str = "system";

/// `actor_kind` of who showed no key but a signed link.
const LINK: &str = "link";

/// What happened, without who did it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) workspace_id: String,
    pub(crate) action: &'static str,
    pub(crate) status_code: u32,
    pub(crate) target_type: &'static str,
    pub(crate) target_id: String,
    pub(crate) details: Vec<(&'static str, String)>,
}

/// Adds an event to the chain of its workspace.
pub(crate) fn append(
    tx: &mut Transaction<'_, '_>,
    actor: Option<&Actor>,
    entry: Entry,
) -> Result<(), TableError> {
    let mut chain = chain(&*tx.tables, &entry.workspace_id, tx.ctx.group)?;
    let previous = hash_of(&chain.hash)?;
    chain.sequence += 1;
    chain.at_ms = tx.now_ms;
    let mut event = event(&chain, actor, entry);
    let hash = Record::from(&event).hash(&previous);
    event.previous_hash = previous.to_vec().into();
    event.hash = hash.to_vec().into();
    chain.hash = event.hash.clone();
    let key = keys::audit_event(&chain.workspace_id, chain.sequence);
    rows::insert(tx.tables, key, &event);
    let kept = chain.sequence - chain.anchor_sequence;
    if kept == 1 {
        arm(tx, &chain.workspace_id, tx.now_ms);
    }
    if kept > limits::AUDIT_EVENTS_MAX
        && let Some(oldest) = oldest(&*tx.tables, &chain)?
    {
        drop_oldest(tx, &mut chain, &oldest);
    }
    rows::write(tx.tables, keys::audit_chain(&chain.workspace_id), &chain);
    Ok(())
}

fn event(chain: &AuditChain, actor: Option<&Actor>, entry: Entry) -> AuditEvent {
    let call = actor.and_then(|actor| actor.call.clone()).unwrap_or_default();
    let address = actor.map_or(SYSTEM, |actor| actor.address.as_str());
    let acting_for = actor.and_then(|actor| actor.acting_for.as_ref());
    let mut details: Vec<AuditDetail> = entry
        .details
        .into_iter()
        .map(|(name, value)| AuditDetail {
            name: name.to_owned(),
            value,
        })
        .collect();
    details.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    AuditEvent {
        workspace_id: entry.workspace_id,
        group_id: chain.group_id,
        sequence: chain.sequence,
        at_ms: chain.at_ms,
        action: entry.action.to_owned(),
        actor: address.to_owned(),
        actor_kind: kind_name(actor).to_owned(),
        actor_label: actor.map_or_else(String::new, |actor| actor.label.clone()),
        key_id: call.key_id,
        owner_agent: acting_for
            .map_or(address, |owner| owner.address.as_str())
            .to_owned(),
        request_id: call.request_id,
        trace_id: call.trace_id,
        endpoint: call.endpoint,
        method: call.method,
        status_code: entry.status_code,
        target_type: entry.target_type.to_owned(),
        target_id: entry.target_id,
        details,
        ..AuditEvent::default()
    }
}

fn kind_name(actor: Option<&Actor>) -> &'static str {
    match actor.map(Actor::kind) {
        Some(KeyKind::Operator) => "operator",
        Some(KeyKind::Workspace) => "workspace",
        Some(KeyKind::Agent) => "agent",
        Some(KeyKind::Unspecified) => LINK,
        None => SYSTEM,
    }
}

/// Removes what is older than the retention of audit events, and remembers where the rest begins.
pub(crate) fn prune(tx: &mut Transaction<'_, '_>, workspace_id: &[u8]) -> Result<(), Stop> {
    let Ok(workspace_id) = std::str::from_utf8(workspace_id) else {
        return Ok(());
    };
    let mut chain = chain(&*tx.tables, workspace_id, tx.ctx.group)?;
    let keep_ms = tx.ctx.settings.audit_retention_ms;
    for _ in 0..PRUNED_MAX {
        match oldest(&*tx.tables, &chain)? {
            Some(event) if event.at_ms.saturating_add(keep_ms) <= tx.now_ms => {
                drop_oldest(tx, &mut chain, &event);
            }
            Some(_) | None => break,
        }
    }
    if let Some(event) = oldest(&*tx.tables, &chain)? {
        arm(tx, workspace_id, event.at_ms);
    }
    rows::write(tx.tables, keys::audit_chain(workspace_id), &chain);
    Ok(())
}

/// Arms the timer that removes an event of `oldest_at_ms`.
fn arm(tx: &mut Transaction<'_, '_>, workspace_id: &str, oldest_at_ms: u64) {
    let due_ms = oldest_at_ms.saturating_add(tx.ctx.settings.audit_retention_ms);
    // What is overdue gets in line behind what else is.
    let due_ms = due_ms.max(tx.now_ms);
    let subject = workspace_id.as_bytes();
    let slot = Slot::from_bits(CHAIN_SLOT);
    timers::add(tx, due_ms, slot, TimerKind::AuditRetention, subject, 0);
}

fn oldest(tables: &dyn Tables, chain: &AuditChain) -> Result<Option<AuditEvent>, TableError> {
    rows::read(
        tables,
        &keys::audit_event(&chain.workspace_id, chain.anchor_sequence + 1),
    )
}

fn drop_oldest(tx: &mut Transaction<'_, '_>, chain: &mut AuditChain, event: &AuditEvent) {
    tx.tables
        .delete(keys::audit_event(&chain.workspace_id, event.sequence));
    chain.anchor_sequence = event.sequence;
    chain.anchor_hash = event.hash.clone();
    chain.anchor_at_ms = event.at_ms;
}

/// The chain of a workspace, an empty one where there is none yet.
fn chain(tables: &dyn Tables, workspace_id: &str, group: GroupId) -> Result<AuditChain, TableError> {
    let stored = rows::read(tables, &keys::audit_chain(workspace_id))?;
    Ok(stored.unwrap_or_else(|| {
        let empty = genesis(workspace_id, group.0).to_vec();
        AuditChain {
            workspace_id: workspace_id.to_owned(),
            group_id: group.0,
            hash: empty.clone().into(),
            anchor_hash: empty.into(),
            ..AuditChain::default()
        }
    }))
}

fn hash_of(bytes: &[u8]) -> Result<Hash, TableError> {
    Hash::try_from(bytes).map_err(|_| TableError::Corrupt("audit chain without a hash".into()))
}

/// Whether the actor may read the chain of a workspace; that of the cluster is for who runs it.
fn may_read(actor: Option<&Actor>, workspace_id: &str) -> bool {
    visibility::operates(actor) || visibility::manages(actor, workspace_id)
}

#[cfg(test)]
mod tests;
