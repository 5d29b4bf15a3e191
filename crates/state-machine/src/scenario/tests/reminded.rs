//! Agents that are reminded of their step, and agents that take one over.

use super::*;
use crate::testing::transition;
use baton_protocol::proto::internal::{EnvelopeLimits, Member, UpdatePolicy};

/// A step that escalates to an agent of the other group.
fn watched(deadline_seconds: u32) -> CompiledStep {
    CompiledStep {
        step_deadline_seconds: deadline_seconds,
        reminders: Some(Reminders {
            remind_after_seconds: 10,
            remind_interval_seconds: 5,
            max_reminders: 2,
            escalate_to: "boss".into(),
        }),
        escalate_agent: Some(agent(&far_from("one"))),
        ..step("one", 0, 0)
    }
}

fn far_from(name: &str) -> String {
    let map = Replica::new(1, 2).ctx.map;
    let group = |name: &str| map.group_of(slot_of(&agent(name)));
    let mut names = (0..99).map(|n| format!("far{n}"));
    names.find(|far| group(far) != group(name)).unwrap()
}

fn since_start(cluster: &mut Cluster) -> Vec<EventType> {
    let kinds = cluster.parent_events().into_iter().skip(3).map(|e| e.r#type());
    kinds.collect()
}

#[test]
fn reminders_show_on_the_parent_and_the_last_one_hands_the_step_over() {
    use EventType::{Completed, Escalated, Reminder, Transfer, Waiting};
    let mut cluster = Cluster::start(vec![watched(0)]);
    let (parent, id) = (cluster.parent, cluster.step());
    let backup = far_from("one");
    cluster.pulse(10_000);
    assert_eq!(since_start(&mut cluster), [Waiting, Reminder]);
    cluster.pulse(5_000);
    let taken_over = [Waiting, Reminder, Reminder, Escalated, Transfer];
    assert_eq!(since_start(&mut cluster), taken_over);
    let events = cluster.parent_events();
    let counts: Vec<u32> = events[4..6]
        .iter()
        .map(|e| e.details.as_ref().unwrap().remind_count)
        .collect();
    assert_eq!(counts, [1, 2]);
    let escalated = events[6].details.clone().unwrap();
    assert_eq!(
        (escalated.escalated_to.as_str(), escalated.step_id.as_str()),
        ("boss", "step-one")
    );
    let header = cluster.home(parent).intent(parent).unwrap();
    assert_eq!(header.holder().unwrap().address, agent(&backup).address);
    assert_eq!(header.pending().unwrap().r#ref, agent(&backup).address);
    assert_eq!(
        cluster.resume(id, "one", "{}", false),
        Some(ErrorCode::PolicyDenied),
        "it was taken from this one"
    );
    assert_eq!(cluster.resume(id, &backup, "{\"a\":1}", false), None);
    assert_eq!(since_start(&mut cluster).last(), Some(&Completed));
    assert_eq!(cluster.parent_status(), Status::Completed);
}

#[test]
fn a_deadline_that_comes_before_the_last_reminder_escalates_and_gives_the_time_once_more() {
    use EventType::{Escalated, Failed, Reminder, Transfer, Waiting};
    let mut cluster = Cluster::start(vec![watched(12)]);
    let id = cluster.step();
    cluster.pulse(12_000);
    cluster.pulse(0);
    let escalated = [Waiting, Reminder, Escalated, Transfer];
    assert_eq!(since_start(&mut cluster), escalated);
    cluster.pulse(11_999);
    assert_eq!(cluster.status(id), Status::Waiting);
    cluster.pulse(1);
    assert_eq!(cluster.status(id), Status::TimedOut);
    assert_eq!(since_start(&mut cluster).last(), Some(&Failed));
    let last = cluster.parent_events().pop().unwrap();
    assert_eq!(last.details.unwrap().reason, "step_timeout");
}

#[test]
fn a_deadline_that_the_envelope_set_is_the_end() {
    let mut cluster = Cluster::start(vec![watched(12)]);
    let id = cluster.step();
    let limits = EnvelopeLimits {
        ttl_seconds: Some(12),
        ..EnvelopeLimits::default()
    };
    let policy = UpdatePolicy {
        actor: Some(actor(KeyKind::Workspace, "sender")),
        intent_id: id.to_bytes(),
        envelope: vec![Member {
            key: "ttl_seconds".into(),
            value: "12".into(),
        }],
        limits: Some(limits),
        ..UpdatePolicy::default()
    };
    let reply = cluster.home(id).run(Body::Policy(policy));
    assert!(transition(reply).unwrap().applied);
    cluster.pulse(12_000);
    cluster.pulse(0);
    assert_eq!(cluster.status(id), Status::TimedOut);
}

#[test]
fn a_step_that_was_handed_on_is_answered_through_the_parent_by_who_has_it() {
    let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
    let (parent, id) = (cluster.parent, cluster.step());
    let backup = far_from("one");
    let hand_on = ResumeIntent {
        actor: Some(actor(KeyKind::Workspace, "sender")),
        intent_id: id.to_bytes(),
        kind: resume_intent::Kind::Control.into(),
        approve: true,
        next_handler: Some(agent(&backup)),
        ..ResumeIntent::default()
    };
    let reply = cluster.home(id).run(Body::Resume(hand_on));
    assert!(transition(reply).unwrap().applied);
    settle(&mut cluster.groups);
    assert_eq!(
        cluster.resume(parent, "one", "{}", false),
        Some(ErrorCode::PolicyDenied)
    );
    assert_eq!(cluster.resume(parent, &backup, "{\"a\":1}", false), None);
    assert_eq!(cluster.parent_status(), Status::Completed);
    assert!(cluster.status(id).is_terminal());
}
