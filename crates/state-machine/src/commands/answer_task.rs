//! `AnswerTask`: a person answers the open human task of an intent.

use crate::controls;
use crate::gates;
use crate::idempotency;
use crate::intents;
use crate::json::Object;
use crate::lifecycle;
use crate::scenario_gates;
use crate::transaction::{Outcome, Stop, Transaction, not_found, reject};
use crate::visibility;
use baton_protocol::human_task::is_positive;
use baton_protocol::proto::internal::{
    AnswerTask, EventDetails, Gate, Intent, Payload, Status, TaskAnswer, TaskLink,
};
use baton_protocol::{ErrorCode, IntentId};
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &AnswerTask) -> Outcome {
    let actor = command.actor.as_ref();
    let missing = || not_found("intent");
    let id = IntentId::from_slice(&command.intent_id).ok_or_else(missing)?;
    let intent = intents::intent(&*tx.tables, id)?.ok_or_else(missing)?;
    // The latest task, open or not: who could answer it is told that it is closed.
    let gate = gates::find(&*tx.tables, id, &intent)?;
    // A link stands for who got it: its signature is all that a caller without a key can show.
    let answers = gate
        .as_ref()
        .is_some_and(|gate| command.link.is_some() || visibility::may_answer(actor, &intent, gate));
    if !answers && !visibility::sees(actor, &intent) {
        return Err(missing());
    }
    idempotency::once(tx, id.slot(), command.idempotency.as_ref(), &Bytes::new(), |tx| {
        lifecycle::require_open(&intent)?;
        let gate = gate
            .filter(|gate| intent.gate_open && gate.generation == command.generation)
            .ok_or_else(|| {
                reject(
                    ErrorCode::Conflict,
                    "the human task was answered or closed meanwhile; read the intent again",
                )
            })?;
        let expired = |link: &TaskLink| link.expires_at_ms <= tx.now_ms;
        if command.link.as_ref().is_some_and(expired) {
            return Err(reject(
                ErrorCode::Conflict,
                "the link to this task has expired; ask for the task in another way",
            ));
        }
        if !answers {
            return Err(reject(
                ErrorCode::PolicyDenied,
                "only an assignee, the escalation target, the handler or a workspace key may answer this task",
            ));
        }
        controls::require_generation(&intent, command.expected_policy_generation)?;
        answer(tx, intent, &gate, command)
    })
}

fn answer(tx: &mut Transaction<'_, '_>, mut intent: Intent, gate: &Gate, command: &AnswerTask) -> Outcome {
    require_complete(gate, command)?;
    let who = match &command.link {
        Some(link) => link.recipient.as_str(),
        None => visibility::label(command.actor.as_ref()),
    };
    let record = TaskAnswer {
        outcome: command.outcome.clone(),
        comment: command.comment.clone(),
        evidence: command.evidence.clone(),
        answered_by: who.to_owned(),
        at_ms: tx.now_ms,
        by_link: command.link.is_some(),
    };
    gates::close(tx, &mut intent, Some(record))?;
    let how = command.link.is_some().then(|| EventDetails {
        by_link: true,
        ..EventDetails::default()
    });
    lifecycle::begin(tx, &mut intent, who, how)?;
    let result = result(command);
    if intent.scenario_parent {
        let positive = is_positive(&command.outcome);
        let completion = scenario_gates::answered(tx, &mut intent, positive, result)?;
        let event = lifecycle::last_event(tx, &intent)?;
        return Ok(lifecycle::transitioned(intent, event, true, completion));
    }
    let details = EventDetails {
        result: Some(result),
        ..EventDetails::default()
    };
    let finished = lifecycle::finish(tx, &mut intent, Status::Completed, who, details)?;
    let event = tx.event(finished.event).cloned();
    Ok(lifecycle::transitioned(intent, event, true, finished.completion))
}

/// What the gateway has checked already, as far as it needs no JSON.
fn require_complete(gate: &Gate, command: &AnswerTask) -> Result<(), Stop> {
    let task = gate.task.clone().unwrap_or_default();
    let wrong = |what: String| Err(reject(ErrorCode::TaskResultInvalid, what));
    if !task.accepts(&command.outcome) {
        return wrong(format!("outcome must be one of: {}", task.outcomes().join(", ")));
    }
    if task.needs_comment() && command.comment.is_empty() {
        return wrong("this task needs a comment".into());
    }
    if task.evidence_required && command.evidence.is_empty() {
        return wrong("this task needs evidence".into());
    }
    Ok(())
}

/// What the intent ends with, or the step of the scenario.
pub(crate) fn result(command: &AnswerTask) -> Payload {
    let mut object = Object::new().string("outcome", &command.outcome);
    if !command.comment.is_empty() {
        object = object.string("comment", &command.comment);
    }
    let data = object.document("task_result", &command.task_result).finish();
    Payload {
        data: data.into(),
        content_type: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, START_MS, actor, agent, ask, intent_id_in, refusal, transition};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::query::Body as Query;
    use baton_protocol::proto::internal::query_reply::Outcome;
    use baton_protocol::proto::internal::resume_intent::Kind;
    use baton_protocol::proto::internal::{
        AnswerTask, EventType, HumanTask, IdempotencyClaim, KeyKind, ListTasks, Member, OpenTask,
        ResolveIntent, ResumeIntent, Status, TaskLink, TaskType, UpdatePolicy, WaitingReason, pending_with,
        reply,
    };
    use bytes::Bytes;

    fn task() -> HumanTask {
        HumanTask {
            title: "Ship it?".into(),
            assignees: vec!["boss".into()],
            ..HumanTask::default()
        }
    }

    fn asked(task: HumanTask) -> Replica {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(ask(task, 1)));
        replica
    }

    fn answer(kind: KeyKind, name: &str) -> AnswerTask {
        AnswerTask {
            actor: Some(actor(kind, name)),
            intent_id: intent_id_in(7, 1).to_bytes(),
            generation: 1,
            outcome: "approved".into(),
            task_result: Bytes::from_static(b"{\"outcome\":\"approved\"}"),
            ..AnswerTask::default()
        }
    }

    fn by(kind: KeyKind, name: &str) -> Body {
        Body::AnswerTask(answer(kind, name))
    }

    fn tasks(replica: &Replica, kind: KeyKind, name: &str) -> Vec<OpenTask> {
        let q = ListTasks {
            workspace_id: "w1".into(),
            ..ListTasks::default()
        };
        let Outcome::Tasks(page) = replica.ask_as(Some(actor(kind, name)), Query::ListTasks(q)) else {
            panic!("refused")
        };
        page.tasks
    }

    #[test]
    fn an_intent_with_a_task_waits_from_its_birth() {
        let mut replica = Replica::new(1, 1);
        let reply = replica.run(Body::Submit(ask(task(), 1)));
        let Some(reply::Outcome::Submitted(submitted)) = reply.outcome else {
            panic!("refused")
        };
        assert_eq!(submitted.status(), Status::Waiting);
        let events = replica.events(intent_id_in(7, 1));
        let kinds: Vec<_> = events.iter().map(|e| (e.seq, e.r#type())).collect();
        assert_eq!(
            kinds[3..],
            [(4, EventType::Waiting), (5, EventType::HumanTaskAssigned)]
        );
        let assigned = &events[4];
        assert_eq!(assigned.waiting_reason(), WaitingReason::Human);
        let pending = assigned.pending_with.as_ref().unwrap();
        assert_eq!(
            (pending.kind(), pending.r#ref.as_str()),
            (pending_with::Kind::Human, "boss")
        );
        assert_eq!(assigned.details.as_ref().unwrap().human_task, Some(task()));
        assert_eq!(tasks(&replica, KeyKind::Workspace, "sender").len(), 1);
        assert_eq!(tasks(&replica, KeyKind::Agent, "boss").len(), 1);
        assert!(tasks(&replica, KeyKind::Agent, "sender").is_empty());
    }

    #[test]
    fn the_first_answer_ends_the_intent_and_the_second_is_late() {
        let mut replica = asked(task());
        let mut first = answer(KeyKind::Agent, "boss");
        first.comment = "go".into();
        let done = transition(replica.run(Body::AnswerTask(first))).unwrap();
        let kinds: Vec<_> = replica.last.events.iter().map(|e| e.r#type()).collect();
        assert_eq!(kinds, [EventType::InProgress, EventType::Completed]);
        let result = done.event.unwrap().details.unwrap().result.unwrap();
        assert_eq!(
            &result.data[..],
            br#"{"outcome":"approved","comment":"go","task_result":{"outcome":"approved"}}"#
        );
        assert!(tasks(&replica, KeyKind::Workspace, "sender").is_empty());
        let gate = replica.view(intent_id_in(7, 1)).unwrap().gate.unwrap();
        let record = gate.answer.unwrap();
        assert_eq!(
            (record.answered_by, record.at_ms),
            (agent("boss").address, START_MS)
        );
        let late = replica.run(by(KeyKind::Workspace, "sender"));
        assert_eq!(refusal(&late), Some(ErrorCode::IntentTerminal));
    }

    #[test]
    fn a_link_answers_for_who_got_it_until_it_expires() {
        let by_link = |expires_at_ms, generation| {
            let mut replica = asked(task());
            let command = AnswerTask {
                actor: None,
                generation,
                link: Some(TaskLink {
                    recipient: "boss@example.com".into(),
                    expires_at_ms,
                }),
                ..answer(KeyKind::Agent, "x")
            };
            let before = replica.hash();
            let code = refusal(&replica.run(Body::AnswerTask(command)));
            assert_eq!(replica.hash() == before, code.is_some());
            (code, replica)
        };
        assert_eq!(by_link(START_MS, 1).0, Some(ErrorCode::Conflict));
        assert_eq!(by_link(START_MS + 1, 2).0, Some(ErrorCode::Conflict));
        let (code, replica) = by_link(START_MS + 1, 1);
        assert_eq!(code, None);
        let gate = replica.view(intent_id_in(7, 1)).unwrap().gate.unwrap();
        let record = gate.answer.unwrap();
        assert_eq!(
            (record.answered_by.as_str(), record.by_link),
            ("boss@example.com", true)
        );
        let started = &replica.last.events[0];
        assert_eq!(
            (started.r#type(), started.actor.as_str()),
            (EventType::InProgress, "boss@example.com")
        );
        assert!(started.details.as_ref().unwrap().by_link);
    }

    #[test]
    fn wrong_answers_leave_the_task_open() {
        let strict = HumanTask {
            required_comment: true,
            evidence_required: true,
            ..task()
        };
        let wrong = |task: &HumanTask, change: &dyn Fn(&mut AnswerTask)| {
            let mut replica = asked(task.clone());
            let mut command = answer(KeyKind::Workspace, "sender");
            change(&mut command);
            let before = replica.hash();
            let code = refusal(&replica.run(Body::AnswerTask(command)));
            assert_eq!(replica.hash() == before, code.is_some());
            code
        };
        let invalid = Some(ErrorCode::TaskResultInvalid);
        let clarification = HumanTask {
            task_type: TaskType::Clarification.into(),
            ..task()
        };
        assert_eq!(wrong(&task(), &|c| c.outcome = "maybe".into()), invalid);
        assert_eq!(wrong(&task(), &|c| c.generation = 2), Some(ErrorCode::Conflict));
        assert_eq!(wrong(&task(), &|c| c.generation = 0), Some(ErrorCode::Conflict));
        assert_eq!(wrong(&strict, &|c| c.comment = "c".into()), invalid);
        assert_eq!(
            wrong(&strict, &|c| c.evidence = Bytes::from_static(b"1")),
            invalid
        );
        assert_eq!(wrong(&clarification, &|c| c.outcome = "provided".into()), invalid);
        assert_eq!(
            wrong(&task(), &|c| c.expected_policy_generation = Some(3)),
            Some(ErrorCode::PolicyGenerationMismatch)
        );
        let both = |c: &mut AnswerTask| {
            c.comment = "c".into();
            c.evidence = Bytes::from_static(b"1");
        };
        assert_eq!(wrong(&strict, &both), None);
    }

    #[test]
    fn only_who_is_asked_may_answer() {
        let refused = |kind, name: &str, workspace: &str| {
            let mut command = answer(kind, name);
            command.actor.as_mut().unwrap().workspace_id = workspace.into();
            refusal(&asked(task()).run(Body::AnswerTask(command)))
        };
        assert_eq!(refused(KeyKind::Agent, "boss", "w1"), None);
        assert_eq!(refused(KeyKind::Operator, "root", "w2"), None);
        assert_eq!(
            refused(KeyKind::Agent, "sender", "w1"),
            Some(ErrorCode::PolicyDenied),
            "nobody approves its own request"
        );
        assert_eq!(
            refused(KeyKind::Agent, "stranger", "w1"),
            Some(ErrorCode::NotFound)
        );
        assert_eq!(refused(KeyKind::Workspace, "x", "w2"), Some(ErrorCode::NotFound));
        assert_eq!(
            refused(KeyKind::Unspecified, "boss", "w1"),
            Some(ErrorCode::NotFound)
        );
    }

    #[test]
    fn who_asks_cannot_give_itself_the_right_to_answer() {
        let granted = |name: &str| {
            let mut replica = asked(task());
            replica.run(Body::Policy(UpdatePolicy {
                actor: Some(actor(KeyKind::Agent, "sender")),
                intent_id: intent_id_in(7, 1).to_bytes(),
                grants: vec![Member {
                    key: format!("delegate:{}", agent(name).address),
                    value: Bytes::from_static(b"{\"allow\":[\"resume\"]}"),
                }],
                ..UpdatePolicy::default()
            }));
            refusal(&replica.run(by(KeyKind::Agent, name)))
        };
        assert_eq!(granted("deputy"), None);
        assert_eq!(granted("sender"), Some(ErrorCode::PolicyDenied));
    }

    #[test]
    fn a_resume_does_not_pass_the_gate_and_a_resolve_closes_it() {
        let mut replica = asked(task());
        for kind in [Kind::Result, Kind::Control, Kind::ControlOrResult] {
            let resume = ResumeIntent {
                intent_id: intent_id_in(7, 1).to_bytes(),
                kind: kind.into(),
                approve: true,
                ..ResumeIntent::default()
            };
            assert_eq!(
                refusal(&replica.run(Body::Resume(resume))),
                Some(ErrorCode::Conflict)
            );
        }
        let cancel = ResolveIntent {
            intent_id: intent_id_in(7, 1).to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        };
        assert!(transition(replica.run(Body::Resolve(cancel))).unwrap().applied);
        assert!(tasks(&replica, KeyKind::Workspace, "sender").is_empty());
        assert_eq!(
            replica.view(intent_id_in(7, 1)).unwrap().gate.unwrap().answer,
            None
        );
    }

    #[test]
    fn the_same_key_answers_the_same() {
        let mut replica = asked(task());
        let mut command = answer(KeyKind::Workspace, "sender");
        command.idempotency = Some(IdempotencyClaim {
            key_hash: Bytes::from_static(b"key"),
            request_hash: Bytes::from_static(b"body"),
            in_intent_slot: false,
        });
        let first = replica.run(Body::AnswerTask(command.clone()));
        let again = replica.run(Body::AnswerTask(command));
        assert!(again.replayed);
        assert_eq!(again.outcome, first.outcome);
    }

    #[test]
    fn lists_page_by_intent_across_slots() {
        let mut replica = Replica::new(1, 1);
        for n in 0..9 {
            let mut command = ask(task(), n);
            let slot = [40, 7, 900][n as usize % 3];
            command.intent_id = intent_id_in(slot, n).to_bytes();
            replica.run(Body::Submit(command));
        }
        let mut seen = Vec::new();
        let mut after_intent_id = Bytes::new();
        loop {
            let q = ListTasks {
                workspace_id: "w1".into(),
                after_intent_id,
                limit: 2,
            };
            let Outcome::Tasks(page) = replica.ask(Query::ListTasks(q)) else {
                panic!("refused")
            };
            assert!(page.tasks.len() <= 2);
            seen.extend(page.tasks.into_iter().map(|t| t.intent.unwrap().intent_id));
            after_intent_id = page.reached_intent_id;
            if after_intent_id.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), 9);
        assert!(seen.is_sorted());
    }
}
