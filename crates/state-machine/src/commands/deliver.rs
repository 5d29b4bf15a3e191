//! `DeliverMessage`: a message from another group's outbox (or our own) arrives, in order and once.

use crate::commands::write_thread;
use crate::handover;
use crate::intents;
use crate::json::Object;
use crate::keys;
use crate::lifecycle;
use crate::mailbox::require_agent;
use crate::outbox;
use crate::references;
use crate::retention;
use crate::rows;
use crate::scenario;
use crate::threads;
use crate::transaction::{Outcome, Stop, Transaction, done, invalid, reject};
use baton_protocol::proto::internal::outbox_message::Body;
use baton_protocol::proto::internal::{
    CancelIntent, CompletionNotice, DeliverMessage, EventDetails, StartStep, Status, StepFinished, Thread,
    TimelineEntry,
};
use baton_protocol::{ErrorCode, IntentId};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &DeliverMessage) -> Outcome {
    let message = command
        .message
        .as_ref()
        .ok_or_else(|| invalid("the message is missing"))?;
    if message.target_group != tx.ctx.group.0 {
        return Err(invalid(format!(
            "message is for group {}, this is group {}",
            message.target_group, tx.ctx.group
        )));
    }
    let next_key = keys::inbound(message.source_group);
    let expected = rows::read_u64(&*tx.tables, &next_key)?.unwrap_or(1);
    if message.seq < expected {
        return Ok(done());
    }
    if message.seq > expected {
        return Err(reject(
            ErrorCode::OutOfOrder,
            format!(
                "message {} came before message {expected}; send that first",
                message.seq
            ),
        ));
    }
    rows::write_u64(tx.tables, next_key, expected.saturating_add(1));
    // A message that cannot be used is consumed all the same: it must not hold up those behind it.
    let _refused = tx.atomically(|tx| receive(tx, message.body.as_ref()))?;
    Ok(done())
}

fn receive(tx: &mut Transaction<'_, '_>, body: Option<&Body>) -> Result<(), Stop> {
    match body {
        Some(Body::StartStep(message)) => start_step(tx, message),
        Some(Body::StepFinished(message)) => scenario::step_finished(tx, message),
        Some(Body::Completion(message)) => complete(tx, message),
        Some(Body::Cancel(message)) => cancel(tx, message),
        Some(Body::ThreadUpdate(message)) => write_thread::receive(tx, message),
        Some(Body::ReferenceUpdate(message)) => references::receive(tx, message),
        Some(Body::StepNote(message)) => scenario::noted(tx, message),
        Some(Body::ReferenceReport(message)) => handover::reported(tx, message),
        Some(Body::RetentionChanged(message)) => retention::change(tx, message),
        None => Ok(()),
    }
}

fn start_step(tx: &mut Transaction<'_, '_>, message: &StartStep) -> Result<(), Stop> {
    let Some(intent) = &message.intent else {
        return Ok(());
    };
    let created = tx.atomically(|tx| {
        let id = IntentId::from_slice(&intent.intent_id)
            .ok_or_else(|| invalid("step intent id must have 16 bytes"))?;
        tx.require_slot(id.slot())?;
        require_agent(intent.to_agent.as_ref(), "to_agent")?;
        if !intents::exists(&*tx.tables, id)? {
            lifecycle::create(tx, intent.clone(), message.payload.as_ref())?;
        }
        Ok(())
    })?;
    match created {
        Ok(()) => Ok(()),
        Err(rejection) => refuse_step(tx, message, rejection.message),
    }
}

/// Tells the parent that its step could not be placed.
fn refuse_step(tx: &mut Transaction<'_, '_>, message: &StartStep, reason: String) -> Result<(), Stop> {
    let Some((intent, step)) = message.intent.as_ref().and_then(|i| Some((i, i.step.as_ref()?))) else {
        return Ok(());
    };
    let Some(parent) = IntentId::from_slice(&step.parent_intent_id) else {
        return Ok(());
    };
    let finished = StepFinished {
        parent_intent_id: step.parent_intent_id.clone(),
        step_id: step.step_id.clone(),
        run: step.run,
        step_intent_id: intent.intent_id.clone(),
        status: Status::Failed.into(),
        reason,
        ..StepFinished::default()
    };
    outbox::send(tx, tx.group_of(parent.slot()), Body::StepFinished(finished))?;
    Ok(())
}

fn cancel(tx: &mut Transaction<'_, '_>, message: &CancelIntent) -> Result<(), Stop> {
    let Some(id) = IntentId::from_slice(&message.intent_id) else {
        return Ok(());
    };
    let Some(mut intent) = intents::intent(&*tx.tables, id)?.filter(|i| !i.status().is_terminal()) else {
        return Ok(());
    };
    let details = EventDetails {
        reason: message.reason.clone(),
        ..EventDetails::default()
    };
    lifecycle::finish(tx, &mut intent, Status::Canceled, &message.actor, details)?;
    Ok(())
}

/// Puts the completion in the inbox of whoever asked for it.
fn complete(tx: &mut Transaction<'_, '_>, notice: &CompletionNotice) -> Result<(), Stop> {
    let owner = require_agent(notice.owner.as_ref(), "owner")?;
    let id =
        IntentId::from_slice(&notice.intent_id).ok_or_else(|| invalid("intent id must have 16 bytes"))?;
    let key = keys::thread(owner, id.as_bytes());
    let stored: Option<Thread> = rows::read(&*tx.tables, &key)?;
    let mut thread = stored.unwrap_or_else(|| Thread {
        thread_id: notice.intent_id.clone(),
        intent_id: notice.intent_id.clone(),
        owner: Some(owner.clone()),
        from_agent: notice.from_agent.clone(),
        to_agent: notice.to_agent.clone(),
        created_at_ms: tx.now_ms,
        ..Thread::default()
    });
    thread.status = "done".into();
    thread.timeline.push(TimelineEntry {
        event_id: event_id(id, &owner.key, "intent_completion_delivered"),
        event_type: "intent_completion_delivered".into(),
        actor: "gateway".into(),
        at_ms: tx.now_ms,
        details: completion_details(id, notice).into(),
    });
    threads::store(tx, owner, id, thread)
}

fn completion_details(id: IntentId, notice: &CompletionNotice) -> Vec<u8> {
    let details = Object::new()
        .string("type", "intent_completion")
        .string("intent_id", &id.to_string())
        .string("status", notice.status().wire_name());
    match &notice.result {
        Some(result) if result.content_type.is_empty() => details.document("result", &result.data).finish(),
        Some(_) | None => details.finish(),
    }
}

/// Id of a timeline entry: the same on every replica, different for every owner and kind.
pub(crate) fn event_id(id: IntentId, owner_key: &str, kind: &str) -> Bytes {
    let hashed = [
        id.as_bytes().as_slice(),
        owner_key.as_bytes(),
        b"|",
        kind.as_bytes(),
    ]
    .concat();
    Bytes::copy_from_slice(&xxh3_128(&hashed).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use crate::outbox_head;
    use crate::testing::{Replica, actor, agent, intent_id, json, refusal, settle, submit};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        AcknowledgeOutbox, Actor, DeliverMessage, GetThread, KeyKind, ListThreads, OutboxAcked,
        OutboxMessage, ResolveIntent, Status, SubmitIntent, Thread, query, query_reply,
    };

    fn resolved(replica: &mut Replica, n: u64) {
        let submit = SubmitIntent {
            reply_to: Some(agent("owner")),
            ..submit("worker", n)
        };
        replica.run(Body::Submit(submit));
        let resolve = ResolveIntent {
            intent_id: intent_id(&agent("worker"), n).to_bytes(),
            status: Status::Completed.into(),
            result: Some(json("{\"k\":1}")),
            ..ResolveIntent::default()
        };
        replica.run(Body::Resolve(resolve));
    }

    fn threads(replica: &Replica, actor: Actor, owner: &str) -> Vec<(String, Vec<String>)> {
        let q = ListThreads {
            owner: Some(agent(owner)),
            ..ListThreads::default()
        };
        let query_reply::Outcome::Threads(page) = replica.ask_as(Some(actor), query::Body::ListThreads(q))
        else {
            return vec![];
        };
        let kinds = |t: Thread| t.timeline.into_iter().map(|e| e.event_type).collect();
        page.threads
            .into_iter()
            .map(|t| (t.status.clone(), kinds(t)))
            .collect()
    }

    #[test]
    fn completion_reaches_the_owners_inbox_and_only_its() {
        let mut groups = vec![Replica::new(0, 1), Replica::new(1, 1)];
        resolved(&mut groups[1], 1);
        settle(&mut groups);
        let replica = &groups[1];
        let received = |kind: &str| vec![("done".to_owned(), vec![kind.to_owned()])];
        let workspace = actor(KeyKind::Workspace, "x");
        assert_eq!(
            threads(replica, workspace.clone(), "owner"),
            received("intent_completion_delivered")
        );
        assert_eq!(
            threads(replica, workspace.clone(), "worker"),
            received("intent_received")
        );
        assert_eq!(threads(replica, actor(KeyKind::Agent, "owner"), "owner").len(), 1);
        assert!(threads(replica, actor(KeyKind::Agent, "worker"), "owner").is_empty());
        let mut foreign = workspace;
        foreign.workspace_id = "w2".into();
        assert!(threads(replica, foreign, "owner").is_empty());
        let id = intent_id(&agent("worker"), 1);
        let q = GetThread {
            owner: Some(agent("owner")),
            thread_id: id.to_bytes(),
        };
        let query_reply::Outcome::Thread(thread) = replica.ask(query::Body::GetThread(q)) else {
            panic!("no thread")
        };
        assert_eq!(
            String::from_utf8(thread.timeline[0].details.to_vec()).unwrap(),
            format!(
                "{{\"type\":\"intent_completion\",\"intent_id\":\"{id}\",\"status\":\"COMPLETED\",\
                 \"result\":{{\"k\":1}}}}"
            )
        );
    }

    #[test]
    fn messages_are_taken_once_and_in_order() {
        let mut replica = Replica::new(1, 1);
        resolved(&mut replica, 1);
        resolved(&mut replica, 2);
        let heads = outbox_head(&replica.tables, 10).unwrap();
        let messages: Vec<OutboxMessage> = heads[0].1.clone();
        assert_eq!(messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
        let deliver = |m: &OutboxMessage| {
            Body::Deliver(DeliverMessage {
                message: Some(m.clone()),
            })
        };
        let early = replica.run(deliver(&messages[1]));
        assert_eq!(refusal(&early), Some(ErrorCode::OutOfOrder));
        replica.run(deliver(&messages[0]));
        let before = replica.hash();
        assert_eq!(refusal(&replica.run(deliver(&messages[0]))), None);
        assert_eq!(replica.hash(), before, "the second arrival is ignored");
        replica.run(deliver(&messages[1]));
        let acked = |replica: &Replica, seq| {
            let q = OutboxAcked { target_group: 1, seq };
            replica.ask(query::Body::OutboxAcked(q)) == query_reply::Outcome::Acked(true)
        };
        replica.run(Body::Acknowledge(AcknowledgeOutbox {
            target_group: 1,
            seq: 1,
        }));
        assert!(acked(&replica, 1) && !acked(&replica, 2));
        replica.run(Body::Acknowledge(AcknowledgeOutbox {
            target_group: 1,
            seq: 2,
        }));
        assert!(acked(&replica, 2) && !acked(&replica, 3));
        assert!(outbox_head(&replica.tables, 10).unwrap().is_empty());
    }
}
