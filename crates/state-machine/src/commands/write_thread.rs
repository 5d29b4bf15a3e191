//! `WriteThread`: the owner of an inbox thread replies, delegates, decides, reads or deletes messages.

use crate::idempotency;
use crate::json::Object;
use crate::outbox;
use crate::threads;
use crate::transaction::{Outcome, Stop, Transaction, invalid, not_found, reply};
use crate::visibility;
use baton_protocol::IntentId;
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::write_thread::Write;
use baton_protocol::proto::internal::{
    AgentRef, Delegation, DeleteMessages, Thread, ThreadUpdate, ThreadWritten, TimelineEntry, WriteThread,
    outbox_message, reply as outcome,
};
use bytes::Bytes;

/// Messages that one call deletes at most.
const DELETED_MAX: usize = 100;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &WriteThread) -> Outcome {
    let owner = crate::query::require_agent(command.owner.as_ref())?.clone();
    tx.require_slot(slot_of(&owner))?;
    if !visibility::reads_for(command.actor.as_ref(), &owner) {
        return Err(not_found("thread"));
    }
    let id = IntentId::from_slice(&command.thread_id).ok_or_else(|| not_found("thread"))?;
    let claim = command.idempotency.as_ref();
    let mut answer = idempotency::once(tx, slot_of(&owner), claim, &Bytes::new(), |tx| {
        let shown = threads::shown(&*tx.tables, &owner, id)?.ok_or_else(|| not_found("thread"))?;
        let deleted_ids = write(tx, command, &owner, id, &shown)?;
        Ok(reply(outcome::Outcome::ThreadWritten(ThreadWritten {
            thread: None,
            deleted_ids,
        })))
    })?;
    // Not kept with the idempotency key: a thread is large, and may be read again.
    if let Some(outcome::Outcome::ThreadWritten(written)) = &mut answer.outcome {
        written.thread = threads::shown(&*tx.tables, &owner, id)?;
    }
    Ok(answer)
}

/// Returns the messages that were deleted.
fn write(
    tx: &mut Transaction<'_, '_>,
    command: &WriteThread,
    owner: &AgentRef,
    id: IntentId,
    shown: &Thread,
) -> Result<Vec<Bytes>, Stop> {
    let entry = |kind: &str, details: Object| TimelineEntry {
        event_id: threads::entry_id(id, owner, kind, tx.now_ms, shown.timeline.len()),
        event_type: kind.to_owned(),
        actor: visibility::label(command.actor.as_ref()).to_owned(),
        at_ms: tx.now_ms,
        details: details.finish().into(),
    };
    let mut thread = threads::stored_or_new(&*tx.tables, owner, shown)?;
    match &command.write {
        Some(Write::Reply(message)) => {
            let entry = entry("reply", Object::new().string("message", message));
            if thread.status != "done" {
                thread.status = "active".into();
            }
            tell(tx, command.counterpart.as_ref(), shown, Some(entry.clone()), &[])?;
            thread.timeline.push(entry);
        }
        Some(Write::Delegate(delegation)) => {
            let entry = entry("delegated", delegated(delegation));
            if thread.status != "done" {
                thread.status = "active".into();
            }
            tell(tx, delegation.to.as_ref(), shown, Some(entry.clone()), &[])?;
            thread.timeline.push(entry);
        }
        Some(Write::Decide(decision)) => {
            let kind = if decision.approve { "approved" } else { "rejected" };
            let mut details = Object::new();
            if !decision.comment.is_empty() {
                details = details.string("comment", &decision.comment);
            }
            thread.status = "done".into();
            thread.timeline.push(entry(kind, details));
        }
        Some(Write::Read(_)) => {
            // No change that followers of the inbox must hear of: a reader would hear of its own reading for ever.
            thread.read_at_ms = tx.now_ms;
            threads::put(tx, owner, id, &thread)?;
            return Ok(Vec::new());
        }
        Some(Write::Delete(delete)) => {
            let deleted = delete_messages(&mut thread, delete);
            if delete.both && !deleted.is_empty() {
                tell(tx, command.counterpart.as_ref(), shown, None, &deleted)?;
            }
            threads::store(tx, owner, id, thread)?;
            return Ok(deleted);
        }
        None => return Err(invalid("this version does not know what to write")),
    }
    threads::require_room(&thread)?;
    threads::store(tx, owner, id, thread)?;
    Ok(Vec::new())
}

fn delegated(delegation: &Delegation) -> Object {
    let mut details = Object::new();
    if let Some(to) = &delegation.to {
        details = details.string("delegate_to", &to.address);
    }
    if !delegation.note.is_empty() {
        details = details.string("note", &delegation.note);
    }
    details
}

/// Hides the text of messages; the entries stay, so that no timeline becomes empty.
fn delete_messages(thread: &mut Thread, delete: &DeleteMessages) -> Vec<Bytes> {
    let limit = match delete.limit as usize {
        0 => DELETED_MAX,
        given => given.min(DELETED_MAX),
    };
    let named =
        |entry: &TimelineEntry| delete.message_ids.is_empty() || delete.message_ids.contains(&entry.event_id);
    let mut deleted = Vec::new();
    for entry in thread.timeline.iter_mut().rev() {
        if deleted.len() < limit && named(entry) && threads::hide(entry) {
            deleted.push(entry.event_id.clone());
        }
    }
    deleted
}

/// Sends what was written to somebody else's inbox.
fn tell(
    tx: &mut Transaction<'_, '_>,
    to: Option<&AgentRef>,
    shown: &Thread,
    entry: Option<TimelineEntry>,
    deleted_ids: &[Bytes],
) -> Result<(), Stop> {
    let Some(to) = to else {
        return Ok(());
    };
    let update = ThreadUpdate {
        thread: Some(Thread {
            owner: Some(to.clone()),
            timeline: Vec::new(),
            read_at_ms: 0,
            status: "pending".into(),
            ..shown.clone()
        }),
        entry,
        deleted_ids: deleted_ids.to_vec(),
    };
    let target = tx.group_of(slot_of(to));
    outbox::send(tx, target, outbox_message::Body::ThreadUpdate(update))?;
    Ok(())
}

/// Takes in what another owner wrote.
pub(crate) fn receive(tx: &mut Transaction<'_, '_>, update: &ThreadUpdate) -> Result<(), Stop> {
    let missing = || invalid("the update names no thread");
    let new = update.thread.as_ref().ok_or_else(missing)?;
    let owner = crate::query::require_agent(new.owner.as_ref())?;
    let id = IntentId::from_slice(&new.thread_id).ok_or_else(missing)?;
    let shown = threads::shown(&*tx.tables, owner, id)?;
    let mut thread = match &shown {
        Some(shown) => threads::stored_or_new(&*tx.tables, owner, shown)?,
        None if update.entry.is_some() => new.clone(),
        None => return Ok(()),
    };
    for entry in &mut thread.timeline {
        if update.deleted_ids.contains(&entry.event_id) {
            threads::hide(entry);
        }
    }
    if let Some(entry) = &update.entry {
        if thread.status == "pending" && entry.event_type == "reply" {
            thread.status = "active".into();
        }
        thread.timeline.push(entry.clone());
    }
    threads::require_room(&thread)?;
    threads::store(tx, owner, id, thread)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id, refusal, settle, submit};
    use crate::{idempotency, keys, rows};
    use baton_protocol::address::slot_of;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::write_thread::Write;
    use baton_protocol::proto::internal::{
        Decision, Delegation, DeleteMessages, GetThread, IdempotencyClaim, KeyKind, ListThreadChanges, Pulse,
        Reply, ResolveIntent, Status, Thread, ThreadWritten, WriteThread, query, query_reply, reply,
    };
    use baton_protocol::{ErrorCode, limits};
    use bytes::Bytes;
    use prost::Message;

    fn delivered() -> Replica {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        replica
    }

    fn write(write: Write) -> WriteThread {
        WriteThread {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            owner: Some(agent("worker")),
            thread_id: intent_id(&agent("worker"), 1).to_bytes(),
            counterpart: Some(agent("sender")),
            write: Some(write),
            ..WriteThread::default()
        }
    }

    fn written(replica: &mut Replica, action: Write) -> ThreadWritten {
        let reply: Reply = replica.run(Body::WriteThread(write(action)));
        let mut groups = [Replica::new(0, 1), replica.clone()];
        settle(&mut groups);
        *replica = groups[1].clone();
        let Some(reply::Outcome::ThreadWritten(written)) = reply.outcome else {
            panic!("refused")
        };
        written
    }

    fn thread(replica: &Replica, owner: &str) -> Option<Thread> {
        let q = GetThread {
            owner: Some(agent(owner)),
            thread_id: intent_id(&agent("worker"), 1).to_bytes(),
        };
        let query_reply::Outcome::Thread(thread) = replica.ask(query::Body::GetThread(q)) else {
            return None;
        };
        Some(thread)
    }

    fn kinds(thread: &Thread) -> Vec<&str> {
        thread.timeline.iter().map(|e| e.event_type.as_str()).collect()
    }

    #[test]
    fn a_thread_is_replied_to_delegated_and_decided() {
        let mut replica = delivered();
        written(&mut replica, Write::Reply("on it".into()));
        let shown = thread(&replica, "worker").unwrap();
        assert_eq!(
            (shown.status.as_str(), kinds(&shown)),
            ("active", vec!["intent_received", "reply"])
        );
        let other = thread(&replica, "sender").unwrap();
        assert_eq!(kinds(&other), ["reply"]);
        assert_eq!(other.timeline[0].event_id, shown.timeline[1].event_id);
        let delegation = Delegation {
            to: Some(agent("backup")),
            note: "please".into(),
        };
        written(&mut replica, Write::Delegate(delegation));
        assert_eq!(kinds(&thread(&replica, "backup").unwrap()), ["delegated"]);
        let decided = written(
            &mut replica,
            Write::Decide(Decision {
                approve: true,
                comment: "ok".into(),
            }),
        );
        let shown = decided.thread.unwrap();
        assert_eq!(shown.status, "done");
        assert_eq!(
            kinds(&shown),
            ["intent_received", "reply", "delegated", "approved"]
        );
        // What is done takes replies all the same.
        let again = written(&mut replica, Write::Reply("thanks".into()))
            .thread
            .unwrap();
        assert_eq!(again.status, "done");
    }

    #[test]
    fn deleted_messages_lose_their_text_on_the_sides_that_were_asked_for() {
        let mut replica = delivered();
        for text in ["one", "two", "three"] {
            replica.now_ms += 1;
            written(&mut replica, Write::Reply(text.into()));
        }
        let delete = |both, limit| {
            Write::Delete(DeleteMessages {
                both,
                limit,
                ..DeleteMessages::default()
            })
        };
        let texts = |replica: &Replica, owner: &str| {
            let shown = thread(replica, owner).unwrap();
            let told = shown.timeline.iter().filter(|e| e.event_type == "reply");
            told.map(|e| String::from_utf8(e.details.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(written(&mut replica, delete(false, 1)).deleted_ids.len(), 1);
        assert_eq!(texts(&replica, "worker")[2], "{\"deleted\":true}");
        assert_eq!(texts(&replica, "sender")[2], "{\"message\":\"three\"}");
        assert_eq!(written(&mut replica, delete(true, 0)).deleted_ids.len(), 2);
        assert_eq!(texts(&replica, "sender")[..2], ["{\"deleted\":true}"; 2]);
        assert!(written(&mut replica, delete(true, 0)).deleted_ids.is_empty());
        assert_eq!(thread(&replica, "worker").unwrap().timeline.len(), 4);
    }

    #[test]
    fn reading_and_the_end_show_on_a_thread_that_was_written_to() {
        let mut replica = delivered();
        replica.now_ms += 5;
        let read = written(&mut replica, Write::Read(true)).thread.unwrap();
        assert_eq!(
            (read.read_at_ms, read.status.as_str()),
            (replica.now_ms, "pending")
        );
        written(&mut replica, Write::Reply("on it".into()));
        replica.run(Body::Resolve(ResolveIntent {
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            status: Status::Completed.into(),
            ..ResolveIntent::default()
        }));
        assert_eq!(thread(&replica, "worker").unwrap().status, "done");
    }

    #[test]
    fn only_the_owner_writes_and_only_what_is_there() {
        let mut replica = delivered();
        let before = replica.hash();
        for change in [
            |c: &mut WriteThread| c.actor = Some(actor(KeyKind::Agent, "stranger")),
            |c: &mut WriteThread| c.thread_id = intent_id(&agent("worker"), 9).to_bytes(),
            |c: &mut WriteThread| c.owner = Some(agent("other")),
        ] {
            let mut command = write(Write::Reply("x".into()));
            change(&mut command);
            assert_eq!(
                refusal(&replica.run(Body::WriteThread(command))),
                Some(ErrorCode::NotFound)
            );
        }
        let long = write(Write::Reply("x".repeat(600_000)));
        assert_eq!(
            refusal(&replica.run(Body::WriteThread(long))),
            Some(ErrorCode::PayloadTooLarge)
        );
        assert_eq!(replica.hash(), before);
    }

    #[test]
    fn changes_follow_the_order_of_writing() {
        let mut replica = Replica::new(1, 1);
        for n in 1..=3 {
            replica.now_ms += 1;
            replica.run(Body::Submit(submit("worker", n)));
        }
        replica.now_ms += 1;
        written(&mut replica, Write::Reply("on it".into()));
        replica.now_ms += 1;
        replica.run(Body::Pulse(Pulse {}));
        let (mut seen, mut after_ms, mut after_thread_id) = (Vec::new(), 0, Bytes::new());
        loop {
            let q = ListThreadChanges {
                owner: Some(agent("worker")),
                after_ms,
                after_thread_id: after_thread_id.clone(),
                limit: 1,
            };
            let query_reply::Outcome::Threads(page) = replica.ask(query::Body::ListThreadChanges(q)) else {
                panic!("refused")
            };
            let Some(last) = page.threads.last() else { break };
            (after_ms, after_thread_id) = (last.updated_at_ms, last.thread_id.clone());
            seen.extend(page.threads);
        }
        let ids: Vec<_> = seen.iter().map(|t| t.thread_id.clone()).collect();
        let expected = [2, 3, 1].map(|n| intent_id(&agent("worker"), n).to_bytes());
        assert_eq!(ids, expected, "the thread that was written to last comes last");
    }

    /// Log time goes on, so that nothing is held back.
    fn changed(replica: &mut Replica, after: Option<&Thread>) -> Vec<Thread> {
        replica.now_ms += 1;
        replica.run(Body::Pulse(Pulse {}));
        let q = ListThreadChanges {
            owner: Some(agent("worker")),
            after_ms: after.map_or(0, |t| t.updated_at_ms),
            after_thread_id: after.map(|t| t.thread_id.clone()).unwrap_or_default(),
            limit: 1_000,
        };
        let query_reply::Outcome::Threads(page) = replica.ask(query::Body::ListThreadChanges(q)) else {
            panic!("refused")
        };
        page.threads
    }

    /// Things that wait for the end of their retention.
    fn filed(replica: &Replica) -> usize {
        let found = rows::list(&replica.tables, &keys::retired_of("w1"), usize::MAX);
        found.unwrap().len()
    }

    #[test]
    fn reading_is_no_change_and_is_filed_once() {
        let mut replica = delivered();
        let (received, before) = (changed(&mut replica, None), filed(&replica));
        for _ in 0..3 {
            replica.now_ms += 1;
            written(&mut replica, Write::Read(true));
            assert!(changed(&mut replica, received.last()).is_empty());
            assert_eq!(filed(&replica), before + 1);
        }
        replica.now_ms += 1;
        written(&mut replica, Write::Reply("on it".into()));
        assert_eq!(
            filed(&replica),
            before + 2,
            "one more is that of the sender's thread"
        );
        let replied = changed(&mut replica, received.last());
        assert_eq!(replied.len(), 1);
        let due_ms = replica.now_ms + replica.ctx.settings.terminal_retention_ms;
        replica.now_ms += 1;
        written(&mut replica, Write::Read(true));
        assert!(changed(&mut replica, replied.last()).is_empty());
        // What was read is kept as long as what was written.
        replica.now_ms = due_ms;
        replica.run(Body::Pulse(Pulse {}));
        assert_eq!(
            kinds(&thread(&replica, "worker").unwrap()),
            ["intent_received", "reply"]
        );
        replica.now_ms += 1;
        replica.run(Body::Pulse(Pulse {}));
        assert_eq!(kinds(&thread(&replica, "worker").unwrap()), ["intent_received"]);
    }

    #[test]
    fn a_large_inbox_shows_what_was_written_to_its_newest_threads() {
        let mut replica = Replica::new(1, 1);
        let newest = u64::from(limits::LIST_PAGE_MAX) + 1;
        for n in 1..=newest {
            replica.now_ms += 1;
            replica.run(Body::Submit(submit("worker", n)));
            replica.run(Body::WriteThread(WriteThread {
                thread_id: intent_id(&agent("worker"), n).to_bytes(),
                counterpart: None,
                ..write(Write::Reply("on it".into()))
            }));
        }
        let shown = changed(&mut replica, None);
        let last = shown.last().unwrap();
        assert_eq!(last.thread_id, intent_id(&agent("worker"), newest).to_bytes());
        assert_eq!(kinds(last), ["intent_received", "reply"]);
    }

    #[test]
    fn a_repeated_call_is_answered_without_a_copy_of_the_thread() {
        let mut replica = delivered();
        let reply = WriteThread {
            idempotency: Some(IdempotencyClaim {
                key_hash: "key".into(),
                request_hash: "request".into(),
                in_intent_slot: true,
            }),
            ..write(Write::Reply("x".repeat(10_000)))
        };
        let first = replica.run(Body::WriteThread(reply.clone()));
        let again = replica.run(Body::WriteThread(reply));
        assert!(!first.replayed && again.replayed);
        assert_eq!(first.outcome, again.outcome);
        assert_eq!(
            kinds(&thread(&replica, "worker").unwrap()),
            ["intent_received", "reply"]
        );
        let record = idempotency::find(&replica.tables, slot_of(&agent("worker")), b"key").unwrap();
        assert!(record.unwrap().encoded_len() < 1_000);
    }
}
