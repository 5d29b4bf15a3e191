//! `FinishAttempt`: the worker that holds a delivery ends its intent.

use crate::commands::fail_attempt::stale;
use crate::handover;
use crate::lifecycle;
use crate::transaction::{Outcome, Transaction, done, invalid};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::{AgentRef, EventDetails, FinishAttempt, Status};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: FinishAttempt) -> Outcome {
    let actor = command.actor.as_ref();
    let (_, mut intent) = visibility::load(&*tx.tables, actor, &command.intent_id, Operation::Resume)?;
    // The group that delivers it names the handler generation, this one a cursor: fences of two groups may look alike.
    let delivering = match handover::away(tx, &intent) {
        Some(_) => intent.handler_generation,
        None => 0,
    };
    let holds = |agent: &AgentRef| command.agent_key.is_empty() || agent.key == command.agent_key;
    let ours = command.handler_generation == delivering && intent.holder().is_some_and(holds);
    if intent.status().is_terminal() && ours && command.fence.is_some() && intent.finished_by == command.fence
    {
        return Ok(done());
    }
    lifecycle::require_open(&intent)?;
    let open = delivering != 0 || (command.cursor != 0 && intent.mailbox_cursor == command.cursor);
    if !ours || !open {
        return Err(stale());
    }
    visibility::require_result_giver(actor, &intent)?;
    let (status, fence) = (command.status(), command.fence);
    if !matches!(status, Status::Completed | Status::Failed) {
        return Err(invalid("status must be COMPLETED or FAILED"));
    }
    let mut details = EventDetails {
        reason: command.reason,
        ..EventDetails::default()
    };
    if status == Status::Completed {
        details.result = command.body;
    } else {
        details.error = command.body;
    }
    let label = visibility::label(actor);
    lifecycle::start_work(tx, &mut intent, label, "")?;
    intent.finished_by = fence;
    lifecycle::finish(tx, &mut intent, status, label, details)?;
    Ok(done())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id, json, refusal, submit};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        AttemptFence, EventType, FinishAttempt, KeyKind, RedeliverIntent, ResumeIntent, Status,
        resume_intent::Kind,
    };

    fn submitted() -> (Replica, FinishAttempt) {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        let command = FinishAttempt {
            actor: Some(actor(KeyKind::Agent, "worker")),
            intent_id: id.to_bytes(),
            cursor: replica.intent(id).unwrap().mailbox_cursor,
            fence: Some(AttemptFence { term: 3, counter: 7 }),
            status: Status::Completed.into(),
            body: Some(json("{\"ok\":true}")),
            ..FinishAttempt::default()
        };
        (replica, command)
    }

    #[test]
    fn one_commit_ends_it_and_a_repeat_changes_nothing() {
        let (mut replica, command) = submitted();
        assert_eq!(refusal(&replica.run(Body::FinishAttempt(command.clone()))), None);
        let seen: Vec<_> = replica.last.events.iter().map(|e| (e.seq, e.status())).collect();
        assert_eq!(seen, [(4, Status::InProgress), (5, Status::Completed)]);
        let result = replica.last.events[1].details.clone().unwrap().result.unwrap();
        assert_eq!(&result.data[..], b"{\"ok\":true}");
        let before = replica.hash();
        let again = replica.run(Body::FinishAttempt(command.clone()));
        assert_eq!(refusal(&again), None);
        let mut other = command;
        other.fence = Some(AttemptFence { term: 3, counter: 8 });
        let refused = replica.run(Body::FinishAttempt(other.clone()));
        assert_eq!(refusal(&refused), Some(ErrorCode::IntentTerminal));
        other.fence = None;
        let refused = replica.run(Body::FinishAttempt(other));
        assert_eq!(refusal(&refused), Some(ErrorCode::IntentTerminal));
        assert_eq!(replica.hash(), before);
    }

    #[test]
    fn only_who_holds_it_ends_it() {
        let (mut replica, command) = submitted();
        // Handed on in the millisecond of its delivery: both deliveries have the same cursor.
        replica.run(Body::Resume(ResumeIntent {
            intent_id: command.intent_id.clone(),
            kind: Kind::Control.into(),
            approve: true,
            next_handler: Some(agent("other")),
            ..ResumeIntent::default()
        }));
        let header = replica.intent(intent_id(&agent("worker"), 1)).unwrap();
        assert_eq!(header.mailbox_cursor, command.cursor);
        let mut late = command;
        late.actor = Some(actor(KeyKind::Workspace, "sender"));
        late.agent_key = agent("worker").key;
        let before = replica.hash();
        let refused = replica.run(Body::FinishAttempt(late.clone()));
        assert_eq!(refusal(&refused), Some(ErrorCode::StaleAttempt));
        // A workspace key that speaks for whoever had it before.
        let mut speaks = late.clone();
        speaks.agent_key = agent("other").key;
        speaks.actor.as_mut().unwrap().acting_for = Some(agent("worker"));
        let refused = replica.run(Body::FinishAttempt(speaks));
        assert_eq!(refusal(&refused), Some(ErrorCode::Conflict));
        assert_eq!(replica.hash(), before);
        late.agent_key = agent("other").key;
        assert_eq!(refusal(&replica.run(Body::FinishAttempt(late))), None);
    }

    #[test]
    fn a_failure_keeps_error_and_reason() {
        let (mut replica, mut command) = submitted();
        command.status = Status::Failed.into();
        command.reason = "no such account".into();
        replica.run(Body::FinishAttempt(command));
        let last = replica.last.events.last().cloned().unwrap();
        assert_eq!(
            (last.r#type(), last.status()),
            (EventType::Failed, Status::Failed)
        );
        let details = last.details.unwrap();
        assert_eq!(details.reason, "no such account");
        assert!(details.error.is_some() && details.result.is_none());
    }

    #[test]
    fn an_overtaken_cursor_and_strangers_are_refused() {
        let (mut replica, command) = submitted();
        let redeliver = RedeliverIntent {
            intent_id: command.intent_id.clone(),
            cursor: command.cursor,
        };
        replica.run(Body::Redeliver(redeliver));
        let before = replica.hash();
        let mut cases = vec![(command.clone(), ErrorCode::StaleAttempt)];
        let fresh = FinishAttempt {
            cursor: replica
                .intent(intent_id(&agent("worker"), 1))
                .unwrap()
                .mailbox_cursor,
            ..command
        };
        for (name, code) in [
            ("stranger", ErrorCode::PolicyDenied),
            ("worker", ErrorCode::InvalidArgument),
        ] {
            let mut wrong = fresh.clone();
            wrong.actor = Some(actor(KeyKind::Agent, name));
            wrong.status = Status::Canceled.into();
            cases.push((wrong, code));
        }
        for (wrong, code) in cases {
            assert_eq!(refusal(&replica.run(Body::FinishAttempt(wrong))), Some(code));
        }
        assert_eq!(replica.hash(), before);
        assert_eq!(refusal(&replica.run(Body::FinishAttempt(fresh))), None);
    }
}
