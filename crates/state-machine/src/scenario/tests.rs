//! Scenarios over two groups: every kind of step, branch and end.

use crate::testing::{Replica, actor, agent, intent_id_in, json, refusal, settle, submit};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    CompiledScenario, CompiledStep, Delay, Escalation, Event, EventType, FailAttempt, IdempotencyClaim,
    KeyKind, Notification, Pulse, ResolveIntent, ResumeIntent, StartScenario, Status, SubmitIntent,
    WaitingReason, compiled_step::Internal, resume_intent,
};
use baton_protocol::{ErrorCode, IntentId, limits};
use bytes::Bytes;

fn step(name: &str, on_success: u32, on_failure: u32) -> CompiledStep {
    CompiledStep {
        step_id: format!("step-{name}"),
        tool_id: "tool.agent.task.v1".into(),
        agent: Some(agent(name)),
        display_name: format!("Agent {name}"),
        step_deadline_seconds: 120,
        retry_delay_seconds: 5,
        on_success,
        on_failure,
        ..CompiledStep::default()
    }
}

struct Cluster {
    groups: Vec<Replica>,
    parent: IntentId,
}

impl Cluster {
    fn start(steps: Vec<CompiledStep>) -> Self {
        let mut cluster = Self::start_unsettled(steps);
        settle(&mut cluster.groups);
        cluster
    }

    /// Two shard groups; the parent lives in the one that is not the first step's. No message has arrived yet.
    fn start_unsettled(steps: Vec<CompiledStep>) -> Self {
        let groups: Vec<_> = (0..3).map(|g| Replica::new(g, 2)).collect();
        let first = slot_of(steps[0].agent.as_ref().unwrap_or(&agent("none"))).number();
        let parent = intent_id_in(if first < 2048 { 4_000 } else { 1 }, 7);
        let mut cluster = Self { groups, parent };
        let command = StartScenario {
            parent: Some(SubmitIntent {
                intent_id: parent.to_bytes(),
                to_agent: Some(steps[0].agent.clone().unwrap_or_else(|| agent("agent_core"))),
                ..submit("none", 0)
            }),
            scenario: Some(CompiledScenario {
                scenario_id: "seed.demo.v1".into(),
                compile_id: "compile".into(),
                steps,
                entry: 0,
            }),
        };
        let reply = cluster.home(parent).run(Body::StartScenario(command));
        assert_eq!(refusal(&reply), None);
        cluster
    }

    fn home(&mut self, id: IntentId) -> &mut Replica {
        let group = self.groups[0].ctx.map.group_of(id.slot()).0 as usize;
        &mut self.groups[group]
    }

    /// The step intent that runs now.
    fn step(&mut self) -> IntentId {
        let parent = self.parent;
        let progress = self.home(parent).view(parent).unwrap().scenario.unwrap();
        let id = &progress.steps[progress.current as usize].step_intent_id;
        IntentId::from_slice(id).unwrap()
    }

    fn resume(&mut self, id: IntentId, name: &str, body: &str, fail: bool) -> Option<ErrorCode> {
        let command = ResumeIntent {
            actor: Some(actor(KeyKind::Agent, name)),
            intent_id: id.to_bytes(),
            kind: resume_intent::Kind::Result.into(),
            result: Some(json(body)),
            fail,
            ..ResumeIntent::default()
        };
        let reply = self.home(id).run(Body::Resume(command));
        settle(&mut self.groups);
        refusal(&reply)
    }

    fn parent_events(&mut self) -> Vec<Event> {
        let parent = self.parent;
        self.home(parent).events(parent)
    }

    fn pulse(&mut self, after_ms: u64) {
        for replica in &mut self.groups {
            replica.now_ms += after_ms;
            replica.run(Body::Pulse(Pulse {}));
        }
        settle(&mut self.groups);
    }

    fn cancel(&mut self) {
        let parent = self.parent;
        let cancel = ResolveIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: parent.to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        };
        self.home(parent).run(Body::Resolve(cancel));
    }

    /// What the parent ended with.
    fn result(&mut self) -> String {
        let last = self.parent_events().pop().unwrap();
        let result = last.details.unwrap().result.unwrap();
        String::from_utf8(result.data.to_vec()).unwrap()
    }

    fn parent_status(&mut self) -> Status {
        self.status(self.parent)
    }

    fn status(&mut self, id: IntentId) -> Status {
        self.home(id).intent(id).unwrap().status()
    }
}

#[test]
fn steps_run_in_order_and_their_results_are_spliced() {
    let mut noop = step("noop", 0, 0);
    noop.internal_noop = true;
    let mut cluster = Cluster::start(vec![step("one", 2, 0), step("two", 3, 0), noop]);
    let parent = cluster.parent;
    let waiting = cluster.parent_events().pop().unwrap();
    assert_eq!(waiting.r#type(), EventType::Waiting);
    assert_eq!(waiting.pending_with.unwrap().name, "Agent one");
    let first = cluster.step();
    let payload = cluster.home(first).view(first).unwrap().payload.unwrap();
    assert_eq!(
        String::from_utf8(payload.data.to_vec()).unwrap(),
        format!(
            "{{\"parent_payload\":{{\"amount\":1}},\"parent_intent_id\":\"{parent}\",\
             \"step_id\":\"step-one\",\"tool_id\":\"tool.agent.task.v1\",\"input\":{{}},\
             \"previous_results\":{{}}}}"
        )
    );
    assert_eq!(cluster.resume(first, "one", "{\"a\":1}", false), None);
    let second = cluster.step();
    let payload = cluster.home(second).view(second).unwrap().payload.unwrap();
    let text = String::from_utf8(payload.data.to_vec()).unwrap();
    assert!(
        text.ends_with("\"previous_results\":{\"step-one\":{\"a\":1}}}"),
        "{text}"
    );
    // Through the parent's id this time, as users do who know no other.
    assert_eq!(
        cluster.resume(parent, "one", "{}", false),
        Some(ErrorCode::PolicyDenied)
    );
    assert_eq!(cluster.resume(parent, "two", "{\"b\":2}", false), None);
    let last = cluster.parent_events().pop().unwrap();
    let result = last.details.unwrap().result.unwrap();
    assert_eq!(
        String::from_utf8(result.data.to_vec()).unwrap(),
        "{\"steps\":{\"step-one\":{\"a\":1},\"step-two\":{\"b\":2},\"step-noop\":{}},\
         \"result\":{\"b\":2},\"b\":2}"
    );
    assert_eq!(cluster.status(parent), Status::Completed);
    assert!(
        cluster.status(second).is_terminal(),
        "no step outlives its scenario"
    );
}

#[test]
fn a_failed_step_is_retried_then_takes_the_failure_branch() {
    let mut first = step("one", 0, 2);
    first.max_retries = 1;
    let mut cluster = Cluster::start(vec![first, step("two", 0, 0)]);
    let parent = cluster.parent;
    let run0 = cluster.step();
    cluster.resume(run0, "one", "{}", true);
    assert_eq!(cluster.step(), run0, "the retry waits for its delay");
    cluster.pulse(5_000);
    let run1 = cluster.step();
    assert_ne!(run1, run0);
    cluster.resume(run1, "one", "{}", true);
    let second = cluster.step();
    assert_eq!(cluster.resume(second, "two", "{\"ok\":1}", false), None);
    assert_eq!(cluster.status(parent), Status::Completed);
}

#[test]
fn a_step_nobody_picks_up_fails_the_parent_with_its_reason() {
    let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
    let id = cluster.step();
    cluster.pulse(120_000);
    assert_eq!(cluster.status(id), Status::TimedOut);
    let events = cluster.parent_events();
    let [.., delivery, failed] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(delivery.r#type(), EventType::DeliveryFailed);
    let details = failed.details.clone().unwrap();
    assert_eq!(failed.status(), Status::Failed);
    assert_eq!(
        (details.step_id.as_str(), details.reason.as_str()),
        ("step-one", "step_timeout")
    );
}

#[test]
fn attempts_that_run_out_fail_the_parent() {
    let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
    let id = cluster.step();
    for _ in 0..3 {
        let cursor = cluster.home(id).intent(id).unwrap().mailbox_cursor;
        let command = FailAttempt {
            intent_id: id.to_bytes(),
            cursor,
            push: None,
        };
        cluster.home(id).run(Body::FailAttempt(command));
    }
    settle(&mut cluster.groups);
    let last = cluster.parent_events().pop().unwrap();
    assert_eq!(last.details.unwrap().reason, "delivery_failed");
}

#[test]
fn canceling_the_parent_cancels_the_running_step() {
    let mut cluster = Cluster::start(vec![step("one", 0, 0)]);
    let (parent, id) = (cluster.parent, cluster.step());
    cluster.cancel();
    settle(&mut cluster.groups);
    assert_eq!(cluster.status(id), Status::Canceled);
    assert_eq!(cluster.status(parent), Status::Canceled);
    assert_eq!(
        cluster.resume(id, "one", "{}", false),
        Some(ErrorCode::IntentTerminal)
    );
}

#[test]
fn steps_that_finish_at_once_in_a_circle_end_the_scenario() {
    let mut noop = step("noop", 1, 0);
    noop.internal_noop = true;
    let mut cluster = Cluster::start(vec![noop]);
    let last = cluster.parent_events().pop().unwrap();
    assert_eq!(last.status(), Status::Failed);
    assert_eq!(last.details.unwrap().reason, "workflow_loop");
}

#[test]
fn the_same_key_starts_one_scenario() {
    let mut replica = Replica::new(1, 1);
    let start = |n| {
        Body::StartScenario(StartScenario {
            parent: Some(SubmitIntent {
                intent_id: intent_id_in(5, n).to_bytes(),
                idempotency: Some(IdempotencyClaim {
                    key_hash: Bytes::from_static(b"key"),
                    request_hash: Bytes::from_static(b"body"),
                    in_intent_slot: false,
                }),
                ..submit("one", 0)
            }),
            scenario: Some(CompiledScenario {
                steps: vec![step("one", 0, 0)],
                ..CompiledScenario::default()
            }),
        })
    };
    let first = replica.run(start(1));
    let second = replica.run(start(2));
    assert!(second.replayed);
    assert_eq!(second.outcome, first.outcome);
}

fn internal(name: &str, on_success: u32, does: Internal) -> CompiledStep {
    CompiledStep {
        agent: None,
        step_deadline_seconds: 0,
        internal: Some(does),
        ..step(name, on_success, 0)
    }
}

fn delay(name: &str, on_success: u32, seconds: u32) -> CompiledStep {
    internal(name, on_success, Internal::Delay(Delay { seconds }))
}

#[test]
fn a_delay_waits_for_time_and_then_goes_on() {
    let mut cluster = Cluster::start(vec![step("one", 2, 0), delay("pause", 3, 10), step("two", 0, 0)]);
    let parent = cluster.parent;
    let first = cluster.step();
    cluster.resume(first, "one", "{}", false);
    let waiting = cluster.parent_events().pop().unwrap();
    assert_eq!(waiting.waiting_reason(), WaitingReason::Time);
    assert_eq!(waiting.pending_with.unwrap().r#ref, "agent_core");
    assert_eq!(
        waiting.details.unwrap().due_at_ms,
        cluster.home(parent).now_ms + 10_000
    );
    assert_eq!(
        cluster.resume(parent, "one", "{}", false),
        Some(ErrorCode::PolicyDenied),
        "the agent of a step that is over has no say"
    );
    cluster.pulse(9_999);
    assert_eq!(
        cluster.home(parent).intent(parent).unwrap().waiting_reason(),
        WaitingReason::Time
    );
    cluster.pulse(1);
    let second = cluster.step();
    assert_eq!(cluster.resume(second, "two", "{\"b\":2}", false), None);
    assert_eq!(
        cluster.result(),
        "{\"steps\":{\"step-one\":{},\"step-pause\":{},\"step-two\":{\"b\":2}},\"result\":{\"b\":2},\"b\":2}"
    );
}

#[test]
fn a_deadline_before_the_end_of_a_delay_times_the_step_out() {
    let mut pause = delay("pause", 0, 10);
    pause.step_deadline_seconds = 4;
    let mut cluster = Cluster::start(vec![pause]);
    cluster.pulse(4_000);
    let failed = cluster.parent_events().pop().unwrap();
    assert_eq!(failed.details.unwrap().reason, "step_timeout");
    let parent = cluster.parent;
    let progress = cluster.home(parent).view(parent).unwrap().scenario.unwrap();
    assert_eq!(progress.steps[0].status(), Status::TimedOut);
}

#[test]
fn canceling_the_parent_disarms_its_delay() {
    let mut cluster = Cluster::start(vec![delay("pause", 0, 1_000_000)]);
    cluster.cancel();
    let parent = cluster.parent;
    let due = crate::next_due_ms(&cluster.home(parent).tables).unwrap().unwrap();
    let retention = crate::Settings::default().terminal_retention_ms;
    assert_eq!(
        due,
        cluster.home(parent).now_ms + retention,
        "only the removal is left to do"
    );
    cluster.pulse(1_000_000_000);
    assert_eq!(cluster.home(parent).intent(parent), None);
}

#[test]
fn notifications_and_escalations_are_events_on_the_way() {
    let message = Notification {
        channels: vec!["email".into()],
        subject: "Order {{intent_id}}".into(),
        body: "see {{intent_id}} and {{intent_id}}".into(),
    };
    let mut cluster = Cluster::start(vec![
        step("one", 2, 0),
        internal("tell", 3, Internal::Notification(message)),
        internal(
            "call",
            0,
            Internal::Escalation(Escalation {
                escalate_to: "agent://acme/prod/chief".into(),
            }),
        ),
    ]);
    let (parent, first) = (cluster.parent, cluster.step());
    cluster.resume(first, "one", "{\"a\":1}", false);
    let events = cluster.parent_events();
    let [.., told, called, done] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (told.r#type(), told.status()),
        (EventType::InProgress, Status::InProgress)
    );
    let said = told.details.clone().unwrap().notification.unwrap();
    assert_eq!(said.subject, format!("Order {parent}"));
    assert_eq!(said.body, format!("see {parent} and {parent}"));
    assert_eq!(
        (called.r#type(), called.status()),
        (EventType::Escalated, Status::InProgress)
    );
    assert_eq!(
        called.details.clone().unwrap().escalated_to,
        "agent://acme/prod/chief"
    );
    assert_eq!(done.status(), Status::Completed);
    assert_eq!(
        cluster.result(),
        "{\"steps\":{\"step-one\":{\"a\":1},\"step-tell\":{},\"step-call\":{}},\"result\":{\"a\":1},\"a\":1}",
        "the last step that somebody answered"
    );
}

#[test]
fn a_circle_of_waiting_steps_ends_at_its_bound() {
    let mut cluster = Cluster::start(vec![delay("pause", 1, 1)]);
    let mut pulses = 0;
    while cluster.parent_status() == Status::Waiting {
        cluster.pulse(1_000);
        pulses += 1;
    }
    assert_eq!(pulses, limits::SCENARIO_STARTS_MAX);
    let last = cluster.parent_events().pop().unwrap();
    assert_eq!(last.status(), Status::Failed);
    assert_eq!(last.details.unwrap().reason, "workflow_loop");
}

#[test]
fn retries_are_counted_anew_each_time_the_step_is_reached() {
    let mut first = step("one", 0, 2);
    first.max_retries = 1;
    let mut cluster = Cluster::start(vec![first, delay("pause", 1, 1)]);
    for round in 0..2 {
        for _ in 0..2 {
            let run = cluster.step();
            assert_eq!(cluster.resume(run, "one", "{}", true), None, "round {round}");
            cluster.pulse(5_000);
        }
        cluster.pulse(1_000);
    }
    assert_eq!(cluster.parent_status(), Status::Waiting);
}

#[test]
fn a_scenario_that_is_canceled_as_it_starts_leaves_no_step_behind() {
    // The cancel overtakes nothing: it stands behind the start of the step in the same queue.
    let mut cluster = Cluster::start_unsettled(vec![step("one", 0, 0)]);
    let id = cluster.step();
    cluster.cancel();
    settle(&mut cluster.groups);
    assert_eq!(cluster.status(id), Status::Canceled);
    cluster.cancel();
    assert_eq!(cluster.parent_status(), Status::Canceled);
}
