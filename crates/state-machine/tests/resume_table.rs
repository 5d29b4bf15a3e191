//! How a resume is taken (surface 3.3), row by row: by what its body holds and by who calls.

use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::resume_intent::Kind;
use baton_protocol::proto::internal::{
    Actor, HumanTask, KeyKind, Member, Pulse, ResumeIntent, Status, SubmitIntent, UpdatePolicy,
};
use baton_state_machine::testing::{
    Replica, START_MS, actor, agent, ask, intent_id, intent_id_in, json, refusal, submit, transition,
};
use bytes::Bytes;

/// Sent by the agent `asker` to `worker`; `delegate` may resume it.
fn submitted(deadline_at_ms: u64) -> Replica {
    let mut replica = Replica::new(1, 1);
    replica.run(Body::Submit(SubmitIntent {
        actor: Some(actor(KeyKind::Agent, "asker")),
        from_agent: agent("asker").address,
        deadline_at_ms,
        ..submit("worker", 1)
    }));
    replica.run(Body::Policy(UpdatePolicy {
        intent_id: id(),
        grants: vec![Member {
            key: format!("delegate:{}", agent("delegate").address),
            value: Bytes::from_static(b"{\"allow\":[\"resume\"]}"),
        }],
        ..UpdatePolicy::default()
    }));
    replica
}

fn id() -> Bytes {
    intent_id(&agent("worker"), 1).to_bytes()
}

fn by(kind: KeyKind, name: &str, owner: &str) -> Actor {
    let mut caller = actor(kind, name);
    if !owner.is_empty() {
        caller.acting_for = Some(agent(owner));
    }
    caller
}

fn resume(kind: Kind, caller: Actor) -> ResumeIntent {
    ResumeIntent {
        actor: Some(caller),
        intent_id: id(),
        kind: kind.into(),
        result: Some(json("{\"transaction_id\":7}")),
        approve: true,
        ..ResumeIntent::default()
    }
}

/// The status after the call, or the refusal.
fn outcome(replica: &mut Replica, command: ResumeIntent) -> Result<Status, ErrorCode> {
    let reply = replica.run(Body::Resume(command));
    match refusal(&reply) {
        Some(code) => Err(code),
        None => Ok(transition(reply)
            .and_then(|t| t.intent)
            .map_or(Status::Unspecified, |i| i.status())),
    }
}

use KeyKind::{Agent, Workspace};
use Kind::{Control, ControlOrResult, Result as Outright};

const DENIED: Result<Status, ErrorCode> = Err(ErrorCode::PolicyDenied);
const LATE: Result<Status, ErrorCode> = Err(ErrorCode::Conflict);
const DONE: Result<Status, ErrorCode> = Ok(Status::Completed);
const GOES_ON: Result<Status, ErrorCode> = Ok(Status::InProgress);

#[test]
fn who_calls_and_what_the_body_holds_decide() {
    // (row of the table, how the body reads, caller, owner_agent, what comes of it)
    let table = [
        // `approve_current_step` steers, whoever says it.
        (2, Control, Agent, "worker", "", GOES_ON),
        (2, Control, Agent, "asker", "", GOES_ON),
        (2, Control, Workspace, "sender", "", GOES_ON),
        (2, Control, Agent, "stranger", "", DENIED),
        // Control keys or nothing: steers, unless the handler says it.
        (3, ControlOrResult, Agent, "asker", "", GOES_ON),
        (3, ControlOrResult, Workspace, "sender", "", GOES_ON),
        (3, ControlOrResult, Agent, "delegate", "delegate", GOES_ON),
        (4, ControlOrResult, Agent, "worker", "", DONE),
        (4, ControlOrResult, Workspace, "sender", "worker", DONE),
        // Anything else is the handler's result.
        (4, Outright, Agent, "worker", "", DONE),
        (4, Outright, Agent, "worker", "worker", DONE),
        (4, Outright, Agent, "delegate", "delegate", DONE),
        (4, Outright, Workspace, "sender", "", DONE),
        (4, Outright, Workspace, "sender", "worker", DONE),
        (4, Outright, Workspace, "sender", "asker", DONE),
        (4, Outright, Workspace, "sender", "anybody", DONE),
        (4, Outright, Agent, "asker", "", DENIED),
        (4, Outright, Agent, "asker", "worker", DENIED),
        (4, Outright, Agent, "delegate", "", DENIED),
        (4, Outright, Agent, "stranger", "", DENIED),
    ];
    for (row, kind, key, name, owner, expected) in table {
        let mut replica = submitted(0);
        let before = replica.view(intent_id(&agent("worker"), 1));
        let found = outcome(&mut replica, resume(kind, by(key, name, owner)));
        assert_eq!(
            found, expected,
            "row {row}: {kind:?} by {key:?} {name} for {owner:?}"
        );
        assert_eq!(
            replica.view(intent_id(&agent("worker"), 1)) == before,
            expected.is_err(),
            "a refusal leaves the intent as it is"
        );
    }
}

#[test]
fn a_handler_that_names_the_next_one_hands_over() {
    let mut replica = submitted(0);
    let mut command = resume(ControlOrResult, by(Agent, "worker", ""));
    command.next_handler = Some(agent("backup"));
    assert_eq!(outcome(&mut replica, command), Ok(Status::Waiting));
}

#[test]
fn a_result_after_the_handover_comes_too_late() {
    for (key, name, owner, expected) in [
        (Workspace, "sender", "worker", LATE),
        (Workspace, "sender", "anybody", LATE),
        (Workspace, "sender", "asker", DONE),
        (Workspace, "sender", "", DONE),
        (Workspace, "sender", "backup", DONE),
        (Agent, "worker", "", DENIED),
        (Agent, "backup", "", DONE),
    ] {
        let mut replica = submitted(0);
        let mut command = resume(Control, by(Agent, "asker", ""));
        command.next_handler = Some(agent("backup"));
        assert_eq!(outcome(&mut replica, command), Ok(Status::Waiting));
        let found = outcome(&mut replica, resume(Outright, by(key, name, owner)));
        assert_eq!(found, expected, "{key:?} {name} for {owner:?}");
    }
}

#[test]
fn any_resume_after_the_end_comes_too_late() {
    let mut ended = submitted(0);
    assert_eq!(
        outcome(&mut ended, resume(Outright, by(Agent, "worker", ""))),
        DONE
    );
    let mut overdue = submitted(START_MS + 1_000);
    overdue.now_ms += 1_000;
    overdue.run(Body::Pulse(Pulse {}));
    for replica in [&mut ended, &mut overdue] {
        let before = replica.hash();
        for kind in [Control, ControlOrResult, Outright] {
            for caller in [
                by(Agent, "worker", ""),
                by(Workspace, "sender", "worker"),
                by(Agent, "asker", ""),
            ] {
                let found = outcome(replica, resume(kind, caller.clone()));
                assert_eq!(found, Err(ErrorCode::IntentTerminal), "{kind:?} by {caller:?}");
            }
        }
        assert_eq!(replica.hash(), before);
    }
}

#[test]
fn while_a_person_is_asked_only_the_answer_goes_on() {
    for kind in [Control, ControlOrResult, Outright] {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(ask(HumanTask::default(), 1)));
        let command = ResumeIntent {
            intent_id: intent_id_in(7, 1).to_bytes(),
            ..resume(kind, by(Workspace, "sender", ""))
        };
        assert_eq!(outcome(&mut replica, command), LATE, "{kind:?}");
    }
}

#[test]
fn a_stale_generation_is_refused_before_anything_else_is_looked_at() {
    for kind in [Control, ControlOrResult, Outright] {
        let mut replica = submitted(0);
        let mut command = resume(kind, by(Agent, "worker", ""));
        // One change was made already.
        command.expected_policy_generation = Some(0);
        let found = outcome(&mut replica, command.clone());
        assert_eq!(found, Err(ErrorCode::PolicyGenerationMismatch), "{kind:?}");
        command.expected_policy_generation = Some(1);
        assert!(outcome(&mut replica, command).is_ok(), "{kind:?}");
    }
}
