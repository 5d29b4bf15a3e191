//! Delays, what is done at once, and circles.

use super::*;

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
