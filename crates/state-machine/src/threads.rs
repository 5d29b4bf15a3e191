//! Inbox threads of one owner: those that were written to, and views of the intents it received.

use crate::commands::deliver::event_id;
use crate::intents;
use crate::keys;
use crate::mailbox;
use crate::query::{page, received, require_agent};
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, not_found};
use crate::visibility;
use baton_protocol::proto::internal::{
    Actor, AgentRef, GetThread, Intent, ListThreads, Thread, ThreadPage, TimelineEntry,
};
use baton_protocol::{IntentId, limits};
use std::collections::BTreeMap;

/// Rows looked at for one list: an inbox that is larger shows its newest part.
const SCAN_ROWS_MAX: usize = limits::LIST_PAGE_MAX as usize;

pub(crate) fn list(tables: &dyn Tables, actor: Option<&Actor>, q: &ListThreads) -> Result<ThreadPage, Stop> {
    let owner = require_agent(q.owner.as_ref())?;
    require_owner(actor, owner)?;
    let mut found: BTreeMap<Vec<u8>, Thread> = BTreeMap::new();
    for intent in received(tables, owner, SCAN_ROWS_MAX)? {
        found.insert(intent.intent_id.to_vec(), view(owner, &intent)?);
    }
    for (key, value) in rows::list(tables, &keys::threads(owner), SCAN_ROWS_MAX)? {
        let stored: Thread = rows::decode(&key, value)?;
        let id = stored.thread_id.to_vec();
        let merged = merge(found.remove(&id), stored);
        found.insert(id, merged);
    }
    let mut threads: Vec<Thread> = found
        .into_values()
        .filter(|t| q.status.is_empty() || t.status == q.status)
        .collect();
    threads.sort_by(|a, b| {
        let order = b.updated_at_ms.cmp(&a.updated_at_ms);
        order.then_with(|| b.thread_id.cmp(&a.thread_id))
    });
    threads.truncate(page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX));
    Ok(ThreadPage { threads })
}

pub(crate) fn get(tables: &dyn Tables, actor: Option<&Actor>, q: &GetThread) -> Result<Thread, Stop> {
    let missing = || not_found("thread");
    let owner = require_agent(q.owner.as_ref())?;
    require_owner(actor, owner)?;
    let id = IntentId::from_slice(&q.thread_id).ok_or_else(missing)?;
    let stored: Option<Thread> = rows::read(tables, &keys::thread(owner, &q.thread_id))?;
    let received = match tables.get(&keys::recipient(owner, id))? {
        Some(_) => intents::intent(tables, id)?,
        None => None,
    };
    let view = received.map(|intent| view(owner, &intent)).transpose()?;
    match (view, stored) {
        (view, Some(stored)) => Ok(merge(view, stored)),
        (Some(view), None) => Ok(view),
        (None, None) => Err(missing()),
    }
}

/// Somebody else's inbox does not exist.
fn require_owner(actor: Option<&Actor>, owner: &AgentRef) -> Result<(), Stop> {
    if visibility::reads_for(actor, owner) {
        Ok(())
    } else {
        Err(not_found("thread"))
    }
}

/// The thread of a received intent that nobody wrote to.
fn view(owner: &AgentRef, intent: &Intent) -> Result<Thread, TableError> {
    let id = rows::id_of(intent)?;
    let received = TimelineEntry {
        event_id: event_id(id, &owner.key, "intent_received"),
        event_type: "intent_received".into(),
        actor: intent.from_agent.clone(),
        at_ms: intent.created_at_ms,
        details: bytes::Bytes::new(),
    };
    let status = if intent.status().is_terminal() {
        "done"
    } else {
        "pending"
    };
    Ok(Thread {
        thread_id: intent.intent_id.clone(),
        intent_id: intent.intent_id.clone(),
        status: status.into(),
        owner: Some(owner.clone()),
        from_agent: intent.from_agent.clone(),
        to_agent: mailbox::recipient_address(intent),
        created_at_ms: intent.created_at_ms,
        updated_at_ms: intent.updated_at_ms,
        timeline: vec![received],
    })
}

/// What was written goes on top of how it began.
fn merge(view: Option<Thread>, mut stored: Thread) -> Thread {
    if let Some(view) = view {
        stored.created_at_ms = view.created_at_ms;
        stored.updated_at_ms = stored.updated_at_ms.max(view.updated_at_ms);
        let mut timeline = view.timeline;
        timeline.append(&mut stored.timeline);
        stored.timeline = timeline;
    }
    stored
}
