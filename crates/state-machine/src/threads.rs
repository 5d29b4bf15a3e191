//! Inbox threads of one owner: those that were written to, and views of the intents it received.

use crate::commands::deliver::event_id;
use crate::keys;
use crate::mailbox;
use crate::query::{page, received, require_agent};
use crate::references;
use crate::retention;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, Transaction, not_found, reject};
use crate::visibility;
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::{
    Actor, AgentRef, GetThread, Intent, ListThreadChanges, ListThreads, Thread, ThreadPage, TimelineEntry,
    TimerKind,
};
use baton_protocol::{ErrorCode, IntentId, limits};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Encoded size of the stored part of a thread.
const THREAD_BYTES_MAX: usize = 512 * 1024;

/// Rows looked at for one list: an inbox that is larger shows its newest part.
const SCAN_ROWS_MAX: usize = limits::LIST_PAGE_MAX as usize;

/// Encoded size of the stored threads of one list, give or take one thread.
const SCAN_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(crate) fn list(tables: &dyn Tables, actor: Option<&Actor>, q: &ListThreads) -> Result<ThreadPage, Stop> {
    let owner = require_agent(q.owner.as_ref())?;
    require_owner(actor, owner)?;
    let mut threads = all(tables, owner)?;
    threads.retain(|t| q.status.is_empty() || t.status == q.status);
    threads.reverse();
    threads.truncate(page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX));
    Ok(ThreadPage {
        threads,
        held_back: false,
    })
}

/// Threads in the order they were last written to, behind a place in that order. What was written in the millisecond
/// that log time is at is held back: another thread of that millisecond may come, with a place before those.
pub(crate) fn changes(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &ListThreadChanges,
) -> Result<ThreadPage, Stop> {
    let owner = require_agent(q.owner.as_ref())?;
    require_owner(actor, owner)?;
    let mut threads = all(tables, owner)?;
    let after = (q.after_ms, q.after_thread_id.as_ref());
    threads.retain(|t| (t.updated_at_ms, t.thread_id.as_ref()) > after);
    let now_ms = rows::read_u64(tables, &keys::clock())?.unwrap_or(0);
    let settled = threads.partition_point(|t| t.updated_at_ms < now_ms);
    let limit = page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX);
    let held_back = settled < threads.len().min(limit);
    threads.truncate(settled.min(limit));
    Ok(ThreadPage { threads, held_back })
}

/// Threads of an inbox, least recently written to first.
fn all(tables: &dyn Tables, owner: &AgentRef) -> Result<Vec<Thread>, Stop> {
    let mut found: BTreeMap<Vec<u8>, Thread> = BTreeMap::new();
    for intent in received(tables, owner, SCAN_ROWS_MAX)? {
        found.insert(intent.intent_id.to_vec(), view(owner, &intent)?);
    }
    for stored in newest_stored(tables, owner)? {
        let id = stored.thread_id.to_vec();
        let merged = merge(found.remove(&id), stored);
        found.insert(id, merged);
    }
    let mut threads: Vec<Thread> = found.into_values().collect();
    threads.sort_by(|a, b| {
        let order = a.updated_at_ms.cmp(&b.updated_at_ms);
        order.then_with(|| a.thread_id.cmp(&b.thread_id))
    });
    Ok(threads)
}

/// What was written to an inbox, the threads of the newest intents first, within bounds.
fn newest_stored(tables: &dyn Tables, owner: &AgentRef) -> Result<Vec<Thread>, TableError> {
    let range = keys::threads(owner);
    let (mut found, mut bytes) = (Vec::new(), 0);
    tables.scan(&range.from, &range.to, &mut |key, value| {
        bytes += value.len();
        found.push((key.to_vec(), value.clone()));
        if found.len() < SCAN_ROWS_MAX && bytes < SCAN_BYTES_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    found
        .into_iter()
        .map(|(key, value)| rows::decode(&key, value))
        .collect()
}

pub(crate) fn get(tables: &dyn Tables, actor: Option<&Actor>, q: &GetThread) -> Result<Thread, Stop> {
    let missing = || not_found("thread");
    let owner = require_agent(q.owner.as_ref())?;
    require_owner(actor, owner)?;
    let id = IntentId::from_slice(&q.thread_id).ok_or_else(missing)?;
    shown(tables, owner, id)?.ok_or_else(missing)
}

/// A thread as its owner sees it.
pub(crate) fn shown(
    tables: &dyn Tables,
    owner: &AgentRef,
    id: IntentId,
) -> Result<Option<Thread>, TableError> {
    let stored: Option<Thread> = rows::read(tables, &keys::thread(owner, id.as_bytes()))?;
    let received = match tables.get(&keys::recipient(owner, id))? {
        Some(_) => references::header(tables, id)?,
        None => None,
    };
    let view = received.map(|intent| view(owner, &intent)).transpose()?;
    Ok(match (view, stored) {
        (view, Some(stored)) => Some(merge(view, stored)),
        (view, None) => view,
    })
}

/// The stored part of a thread that is shown: what was written to it so far.
pub(crate) fn stored_or_new(
    tables: &dyn Tables,
    owner: &AgentRef,
    shown: &Thread,
) -> Result<Thread, TableError> {
    let stored: Option<Thread> = rows::read(tables, &keys::thread(owner, &shown.thread_id))?;
    Ok(stored.unwrap_or_else(|| Thread {
        timeline: Vec::new(),
        ..shown.clone()
    }))
}

/// Writes the stored part of a thread that changed now.
pub(crate) fn store(
    tx: &mut Transaction<'_, '_>,
    owner: &AgentRef,
    id: IntentId,
    mut thread: Thread,
) -> Result<(), Stop> {
    thread.updated_at_ms = tx.now_ms;
    put(tx, owner, id, &thread)
}

/// Writes the stored part of a thread. Its retention begins anew.
pub(crate) fn put(
    tx: &mut Transaction<'_, '_>,
    owner: &AgentRef,
    id: IntentId,
    thread: &Thread,
) -> Result<(), Stop> {
    let key = keys::thread(owner, id.as_bytes());
    let (slot, kind) = (slot_of(owner), TimerKind::ThreadRetention);
    let subject = [id.as_bytes().as_slice(), owner.key.as_bytes()].concat();
    let workspace_id = &owner.workspace_id;
    let former: Option<Thread> = rows::read(&*tx.tables, &key)?;
    if let Some(former) = former {
        retention::unfile(tx, workspace_id, touched_ms(&former), slot, kind, &subject);
    }
    rows::write(tx.tables, key, thread);
    let since_ms = touched_ms(thread);
    retention::file(tx, workspace_id, since_ms, slot, kind, &subject, since_ms)?;
    Ok(())
}

/// When its owner last did anything with a thread: what its retention counts from.
pub(crate) fn touched_ms(thread: &Thread) -> u64 {
    thread.updated_at_ms.max(thread.read_at_ms)
}

/// Refuses a thread that people have filled up. A completion always has room.
pub(crate) fn require_room(thread: &Thread) -> Result<(), Stop> {
    if thread.encoded_len() > THREAD_BYTES_MAX {
        return Err(reject(
            ErrorCode::PayloadTooLarge,
            format!("the thread would exceed {THREAD_BYTES_MAX} bytes; delete messages first"),
        ));
    }
    Ok(())
}

/// Id of the entry that is written as the `position`th: the same on every replica.
pub(crate) fn entry_id(id: IntentId, owner: &AgentRef, kind: &str, now_ms: u64, position: usize) -> Bytes {
    event_id(id, &owner.key, &format!("{kind} {now_ms} {position}"))
}

/// Hides the text of a message; `false` when the entry is none, or has none any more.
pub(crate) fn hide(entry: &mut TimelineEntry) -> bool {
    let deleted = b"{\"deleted\":true}";
    if entry.event_type != "reply" || entry.details.as_ref() == deleted {
        return false;
    }
    entry.details = Bytes::from_static(deleted);
    true
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
        details: Bytes::new(),
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
        read_at_ms: 0,
    })
}

/// What was written goes on top of how it began.
fn merge(view: Option<Thread>, mut stored: Thread) -> Thread {
    if let Some(view) = view {
        stored.created_at_ms = view.created_at_ms;
        if view.status == "done" {
            stored.status = view.status;
        }
        stored.updated_at_ms = stored.updated_at_ms.max(view.updated_at_ms);
        let mut timeline = view.timeline;
        timeline.append(&mut stored.timeline);
        stored.timeline = timeline;
    }
    stored
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, agent, submit};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{ListThreadChanges, Pulse, query, query_reply};

    #[test]
    fn nothing_of_the_millisecond_that_log_time_is_at_is_shown() {
        let mut replica = Replica::new(1, 1);
        replica.now_ms += 1;
        // The higher id first: a cursor at it would pass over the other one, written in the same millisecond.
        replica.run(Body::Submit(submit("worker", 2)));
        let page = |replica: &Replica| {
            let q = ListThreadChanges {
                owner: Some(agent("worker")),
                limit: 10,
                ..ListThreadChanges::default()
            };
            let query_reply::Outcome::Threads(page) = replica.ask(query::Body::ListThreadChanges(q)) else {
                panic!("refused")
            };
            page
        };
        let early = page(&replica);
        assert!(early.threads.is_empty() && early.held_back);
        replica.run(Body::Submit(submit("worker", 1)));
        replica.now_ms += 1;
        replica.run(Body::Pulse(Pulse {}));
        let settled = page(&replica);
        assert_eq!((settled.threads.len(), settled.held_back), (2, false));
    }
}
