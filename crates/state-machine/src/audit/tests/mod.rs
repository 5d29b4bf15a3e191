//! What is recorded of commands, and what is not.

mod reading;

use crate::testing::{Replica, actor, agent, ask, intent_id, intent_id_in, refusal, submit};
use baton_protocol::ErrorCode;
use baton_protocol::audit::{Hash, Record, genesis};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::query::Body as Query;
use baton_protocol::proto::internal::query_reply::Outcome;
use baton_protocol::proto::internal::resume_intent::Kind;
use baton_protocol::proto::internal::write_thread::Write;
use baton_protocol::proto::internal::{
    Actor, AnswerTask, ApiKey, AuditChain, AuditEvent, AuditPage, BootstrapCluster, CallContext,
    ClusterRecord, CreateApiKey, CreateServiceAccount, Decision, HumanTask, IdempotencyClaim, KeyKind,
    ListAudit, ListAuditChains, Member, PutSchema, ResolveIntent, ResumeIntent, RevokeApiKey, SemanticSchema,
    ServiceAccount, SetRetention, Status, TaskLink, UpdateControls, UpdatePolicy, UpdateServiceAccount,
    Workspace, WriteThread,
};
use bytes::Bytes;

fn caller(kind: KeyKind, name: &str) -> Option<Actor> {
    Some(Actor {
        label: "Ann".into(),
        call: Some(CallContext {
            request_id: "req_1".into(),
            trace_id: "trace".into(),
            endpoint: "/v1/x".into(),
            method: "POST".into(),
            key_id: "key_1".into(),
        }),
        ..actor(kind, name)
    })
}

fn admin() -> Option<Actor> {
    caller(KeyKind::Workspace, "admin")
}

fn page(replica: &Replica, q: ListAudit) -> AuditPage {
    let Outcome::Audit(page) = replica.ask(Query::ListAudit(q)) else {
        panic!("refused")
    };
    page
}

fn events(replica: &Replica, workspace: &str) -> Vec<AuditEvent> {
    let q = ListAudit {
        workspace_id: workspace.into(),
        limit: 500,
        ..ListAudit::default()
    };
    let mut events = page(replica, q).events;
    events.reverse();
    events
}

fn actions(replica: &Replica, workspace: &str) -> Vec<(String, u32)> {
    let events = events(replica, workspace).into_iter();
    events.map(|event| (event.action, event.status_code)).collect()
}

fn detail(event: &AuditEvent, name: &str) -> Option<String> {
    let found = event.details.iter().find(|detail| detail.name == name);
    found.map(|detail| detail.value.clone())
}

fn chain(replica: &Replica, workspace: &str) -> AuditChain {
    let q = ListAuditChains {
        workspace_id: workspace.into(),
        ..ListAuditChains::default()
    };
    let Outcome::AuditChains(mut found) = replica.ask(Query::ListAuditChains(q)) else {
        panic!("refused")
    };
    found.chains.pop().unwrap_or_default()
}

/// Every event builds on the one before, from the anchor to the head.
fn check(replica: &Replica, workspace: &str) {
    let chain = chain(replica, workspace);
    if chain.sequence == 0 {
        assert!(events(replica, workspace).is_empty());
        return;
    }
    let mut hash = Hash::try_from(&chain.anchor_hash[..]).unwrap();
    let mut sequence = chain.anchor_sequence;
    for event in events(replica, workspace) {
        sequence += 1;
        assert_eq!(event.sequence, sequence);
        assert_eq!(&event.previous_hash[..], hash);
        hash = Record::from(&event).hash(&hash);
        assert_eq!(&event.hash[..], hash);
    }
    assert_eq!((chain.sequence, &chain.hash[..]), (sequence, &hash[..]));
    assert_eq!(replica.hash(), replica.hash_from_scratch());
}

fn asked() -> Replica {
    let mut replica = Replica::new(1, 1);
    let task = HumanTask {
        assignees: vec!["boss".into()],
        ..HumanTask::default()
    };
    replica.run(Body::Submit(ask(task, 1)));
    replica
}

fn answer(who: Option<Actor>) -> AnswerTask {
    AnswerTask {
        actor: who,
        intent_id: intent_id_in(7, 1).to_bytes(),
        generation: 1,
        outcome: "approved".into(),
        task_result: Bytes::from_static(b"{\"outcome\":\"approved\"}"),
        ..AnswerTask::default()
    }
}

fn controls(n: u64, who: Option<Actor>) -> UpdateControls {
    UpdateControls {
        actor: who,
        intent_id: intent_id(&agent("worker"), n).to_bytes(),
        patch: vec![Member {
            key: "timeout_seconds".into(),
            value: Bytes::from_static(b"5"),
        }],
        reason: "slow".into(),
        ..UpdateControls::default()
    }
}

fn submitted() -> Replica {
    let mut replica = Replica::new(1, 1);
    replica.run(Body::Submit(submit("worker", 1)));
    replica
}

fn resume(kind: Kind, who: Option<Actor>) -> Body {
    Body::Resume(ResumeIntent {
        actor: who,
        intent_id: intent_id(&agent("worker"), 1).to_bytes(),
        kind: kind.into(),
        approve: true,
        ..ResumeIntent::default()
    })
}

#[test]
fn an_answer_says_who_approved_what() {
    let mut replica = asked();
    assert!(events(&replica, "w1").is_empty(), "submits are not audited");
    replica.run(Body::AnswerTask(answer(caller(KeyKind::Agent, "boss"))));
    let events = events(&replica, "w1");
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (event.sequence, event.group_id, event.at_ms),
        (1, 1, replica.now_ms)
    );
    assert_eq!((event.action.as_str(), event.status_code), ("task.answered", 200));
    assert_eq!(event.actor, agent("boss").address);
    assert_eq!(event.owner_agent, event.actor);
    let names = [&event.actor_kind, &event.actor_label, &event.key_id];
    assert_eq!(names, ["agent", "Ann", "key_1"]);
    let call = [&event.request_id, &event.trace_id, &event.endpoint, &event.method];
    assert_eq!(call, ["req_1", "trace", "/v1/x", "POST"]);
    assert_eq!(event.target_type, "intent");
    assert_eq!(event.target_id, intent_id_in(7, 1).to_string());
    assert_eq!(detail(event, "outcome").as_deref(), Some("approved"));
    assert_eq!(detail(event, "generation").as_deref(), Some("1"));
    assert_eq!(detail(event, "answer_sha256").unwrap().len(), 64);
    assert_eq!(&event.previous_hash[..], genesis("w1", 1));
    check(&replica, "w1");
}

#[test]
fn an_answer_by_link_is_that_of_who_got_it() {
    let mut replica = asked();
    let mut by_link = answer(None);
    by_link.link = Some(TaskLink {
        recipient: "boss@example.com".into(),
        expires_at_ms: u64::MAX,
    });
    assert_eq!(refusal(&replica.run(Body::AnswerTask(by_link))), None);
    let event = &events(&replica, "w1")[0];
    assert_eq!(
        (event.actor.as_str(), event.actor_kind.as_str()),
        ("boss@example.com", "link")
    );
    assert!(event.key_id.is_empty());
}

#[test]
fn a_refusal_is_recorded_when_the_caller_may_not_and_only_then() {
    let mut replica = asked();
    // The sender is an agent of the workspace, but is not asked.
    let denied = replica.run(Body::AnswerTask(answer(caller(KeyKind::Agent, "sender"))));
    assert_eq!(refusal(&denied), Some(ErrorCode::PolicyDenied));
    let mut wrong = answer(caller(KeyKind::Agent, "boss"));
    wrong.outcome = "maybe".into();
    let invalid = replica.run(Body::AnswerTask(wrong));
    assert_eq!(refusal(&invalid), Some(ErrorCode::TaskResultInvalid));
    let mut stranger = caller(KeyKind::Workspace, "x").unwrap();
    stranger.workspace_id = "w2".into();
    let unseen = replica.run(Body::AnswerTask(answer(Some(stranger))));
    assert_eq!(refusal(&unseen), Some(ErrorCode::NotFound));
    assert_eq!(actions(&replica, "w1"), [("task.answered".to_owned(), 403)]);
    assert!(events(&replica, "w2").is_empty());
    check(&replica, "w1");
}

#[test]
fn steering_is_audited_and_work_is_not() {
    let worker = || caller(KeyKind::Agent, "worker");
    for (body, expected) in [
        (resume(Kind::Result, worker()), None),
        (resume(Kind::ControlOrResult, worker()), None),
        (resume(Kind::ControlOrResult, admin()), Some("intent.resumed")),
        (resume(Kind::Control, worker()), Some("intent.resumed")),
        (end(Status::Completed, worker()), None),
        (end(Status::Failed, admin()), Some("intent.resolved")),
        (end(Status::Canceled, worker()), Some("intent.canceled")),
        (
            Body::Controls(controls(1, admin())),
            Some("intent.controls_changed"),
        ),
        (Body::Policy(policy()), Some("intent.policy_changed")),
        (transfer(), Some("intent.transferred")),
    ] {
        let mut replica = submitted();
        let label = format!("{body:?}");
        assert_eq!(refusal(&replica.run(body)), None, "{label}");
        let found = actions(&replica, "w1");
        let found: Vec<_> = found.iter().map(|(action, _)| action.as_str()).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{label}");
        check(&replica, "w1");
    }
}

fn end(status: Status, who: Option<Actor>) -> Body {
    Body::Resolve(ResolveIntent {
        actor: who,
        intent_id: intent_id(&agent("worker"), 1).to_bytes(),
        status: status.into(),
        ..ResolveIntent::default()
    })
}

fn policy() -> UpdatePolicy {
    UpdatePolicy {
        actor: admin(),
        intent_id: intent_id(&agent("worker"), 1).to_bytes(),
        grants: vec![Member {
            key: "delegate:agent://ops".into(),
            value: Bytes::from_static(b"{}"),
        }],
        ..UpdatePolicy::default()
    }
}

fn transfer() -> Body {
    Body::Resume(ResumeIntent {
        actor: admin(),
        intent_id: intent_id(&agent("worker"), 1).to_bytes(),
        kind: Kind::Control.into(),
        approve: true,
        next_handler: Some(agent("other")),
        ..ResumeIntent::default()
    })
}

#[test]
fn what_changes_nothing_is_not_recorded_and_a_repeat_not_twice() {
    let mut replica = submitted();
    let mut change = controls(1, admin());
    change.idempotency = Some(IdempotencyClaim {
        key_hash: Bytes::from_static(b"key"),
        request_hash: Bytes::from_static(b"body"),
        in_intent_slot: false,
    });
    replica.run(Body::Controls(change.clone()));
    assert!(replica.run(Body::Controls(change)).replayed);
    let steer = |approve| ResumeIntent {
        actor: admin(),
        intent_id: intent_id(&agent("worker"), 1).to_bytes(),
        kind: Kind::Control.into(),
        approve,
        ..ResumeIntent::default()
    };
    replica.run(Body::Resume(steer(false)));
    assert_eq!(
        actions(&replica, "w1"),
        [("intent.controls_changed".to_owned(), 200)]
    );
    let event = &events(&replica, "w1")[0];
    assert_eq!(detail(event, "policy_generation").as_deref(), Some("1"));
    assert_eq!(detail(event, "controls").as_deref(), Some("timeout_seconds"));
    assert_eq!(detail(event, "reason").as_deref(), Some("slow"));
}

fn meta() -> Replica {
    let mut replica = Replica::new(0, 1);
    replica.run(Body::Bootstrap(BootstrapCluster {
        cluster: Some(ClusterRecord::default()),
        workspace: Some(Workspace {
            workspace_id: "w1".into(),
            org_id: "o1".into(),
            ..Workspace::default()
        }),
        ..BootstrapCluster::default()
    }));
    replica
}

fn create(get_or_create: bool, who: Option<Actor>) -> Body {
    Body::CreateServiceAccount(CreateServiceAccount {
        actor: who,
        service_account: Some(ServiceAccount {
            service_account_id: "sa1".into(),
            org_id: "o1".into(),
            workspace_id: "w1".into(),
            name: "worker".into(),
            address: agent("worker").address,
            ..ServiceAccount::default()
        }),
        get_or_create,
        ..CreateServiceAccount::default()
    })
}

fn schema(workspace: &str, who: Option<Actor>) -> Body {
    Body::PutSchema(PutSchema {
        actor: who,
        schema: Some(SemanticSchema {
            semantic_type: "a.b.v1".into(),
            workspace_id: workspace.into(),
            ..SemanticSchema::default()
        }),
        ..PutSchema::default()
    })
}

#[test]
fn administration_is_audited_with_its_target() {
    let mut replica = meta();
    let operator = || caller(KeyKind::Operator, "root");
    for body in [
        create(false, admin()),
        // Found, not made.
        create(true, admin()),
        create(false, caller(KeyKind::Agent, "worker")),
        Body::CreateApiKey(CreateApiKey {
            actor: admin(),
            key: Some(ApiKey {
                key_id: "k1".into(),
                token_sha256: Bytes::from_static(&[1; 32]),
                kind: KeyKind::Agent.into(),
                service_account_id: "sa1".into(),
                ..ApiKey::default()
            }),
            idempotency: None,
        }),
        revoke(),
        // Revoked already.
        revoke(),
        Body::UpdateServiceAccount(UpdateServiceAccount {
            actor: admin(),
            service_account_id: "sa1".into(),
            display_name: Some("W".into()),
            ..UpdateServiceAccount::default()
        }),
        schema("w1", admin()),
        schema("", operator()),
        Body::SetRetention(SetRetention {
            actor: operator(),
            workspace_id: "w1".into(),
            terminal_retention_ms: 30 * 24 * 3_600_000,
        }),
    ] {
        replica.run(body);
    }
    let found: Vec<_> = events(&replica, "w1")
        .into_iter()
        .map(|event| (event.action, event.target_id, event.status_code))
        .collect();
    let expected = [
        ("service_account.created", "sa1", 200),
        ("service_account.created", "sa1", 403),
        ("key.created", "k1", 200),
        ("key.revoked", "k1", 200),
        ("service_account.updated", "sa1", 200),
        ("schema.set", "a.b.v1", 200),
        ("workspace.retention_set", "w1", 200),
    ];
    assert_eq!(found, expected.map(|(a, t, s)| (a.to_owned(), t.to_owned(), s)));
    assert_eq!(actions(&replica, ""), [("schema.set".to_owned(), 200)]);
    check(&replica, "w1");
    check(&replica, "");
}

fn revoke() -> Body {
    Body::RevokeApiKey(RevokeApiKey {
        actor: admin(),
        service_account_id: "sa1".into(),
        key_id: "k1".into(),
        idempotency: None,
    })
}

#[test]
fn decisions_in_an_inbox_are_audited_and_messages_are_not() {
    let mut replica = submitted();
    for write in [
        Write::Reply("hello".into()),
        Write::Read(true),
        Write::Decide(Decision {
            approve: true,
            comment: String::new(),
        }),
    ] {
        let command = WriteThread {
            actor: caller(KeyKind::Agent, "worker"),
            owner: Some(agent("worker")),
            thread_id: intent_id(&agent("worker"), 1).to_bytes(),
            write: Some(write),
            ..WriteThread::default()
        };
        assert_eq!(refusal(&replica.run(Body::WriteThread(command))), None);
    }
    assert_eq!(actions(&replica, "w1"), [("thread.decided".to_owned(), 200)]);
}
