//! Questions to people, alone and after an agent.

use super::*;

#[test]
fn a_person_is_asked_on_the_parent_and_the_answer_is_the_result() {
    let mut cluster = Cluster::start(vec![step("one", 2, 0), gate("ask", 0, 0)]);
    let (parent, first) = (cluster.parent, cluster.step());
    cluster.resume(first, "one", "{\"a\":1}", false);
    assert_eq!(cluster.waits_for(), WaitingReason::Human);
    let assigned = cluster.parent_events().pop().unwrap();
    assert_eq!(assigned.r#type(), EventType::HumanTaskAssigned);
    assert_eq!(assigned.details.unwrap().step_id, "step-ask");
    assert_eq!(
        cluster.resume(first, "one", "{}", false),
        Some(ErrorCode::IntentTerminal)
    );
    assert_eq!(cluster.answer("approved"), None);
    let answer = "{\"outcome\":\"approved\",\"task_result\":{\"outcome\":\"approved\"}}";
    assert_eq!(
        cluster.result(),
        format!(
            "{{\"steps\":{{\"step-one\":{{\"a\":1}},\"step-ask\":{answer}}},\"result\":{answer},{}",
            answer.trim_start_matches('{')
        )
    );
    assert_eq!(cluster.status(parent), Status::Completed);
}

#[test]
fn a_no_takes_the_failure_branch_or_fails_the_parent() {
    let mut asked = gate("ask", 0, 0);
    asked.max_retries = 3;
    let mut cluster = Cluster::start(vec![asked.clone()]);
    assert_eq!(cluster.answer("rejected"), None);
    let failed = cluster.parent_events().pop().unwrap();
    assert_eq!(failed.status(), Status::Failed);
    let details = failed.details.unwrap();
    assert_eq!(
        (details.reason.as_str(), details.step_id.as_str()),
        ("rejected", "step-ask")
    );
    let said = details.error.unwrap();
    assert!(
        said.data.starts_with(b"{\"outcome\":\"rejected\""),
        "a no is not asked again"
    );
    asked.on_failure = 2;
    let mut cluster = Cluster::start(vec![asked, delay("after", 0, 5)]);
    cluster.answer("rejected");
    assert_eq!(cluster.waits_for(), WaitingReason::Time);
    cluster.pulse(5_000);
    assert_eq!(cluster.parent_status(), Status::Completed);
}

#[test]
fn an_approval_comes_after_the_agent_and_before_the_next_step() {
    let mut worked = step("one", 2, 0);
    worked.approval = Some(question());
    let mut cluster = Cluster::start(vec![worked, step("two", 0, 0)]);
    let first = cluster.step();
    assert_eq!(cluster.resume(first, "one", "{\"a\":1}", false), None);
    assert_eq!(cluster.waits_for(), WaitingReason::Human);
    let parent = cluster.parent;
    assert_eq!(
        cluster.resume(parent, "one", "{}", false),
        Some(ErrorCode::PolicyDenied),
        "the agent cannot approve itself"
    );
    assert_eq!(cluster.answer("approved"), None);
    let second = cluster.step();
    assert_ne!(second, first);
    cluster.resume(second, "two", "{}", false);
    assert!(
        cluster
            .result()
            .starts_with("{\"steps\":{\"step-one\":{\"a\":1},"),
        "the agent's result stays"
    );
}

#[test]
fn an_approval_that_is_refused_fails_the_step() {
    let mut worked = step("one", 0, 0);
    worked.approval = Some(question());
    worked.max_retries = 5;
    let mut cluster = Cluster::start(vec![worked]);
    let first = cluster.step();
    cluster.resume(first, "one", "{\"a\":1}", false);
    cluster.answer("rejected");
    let last = cluster.parent_events().pop().unwrap();
    assert_eq!(last.details.unwrap().reason, "rejected");
}

#[test]
fn a_question_nobody_answers_times_the_step_out() {
    let mut asked = gate("ask", 0, 0);
    asked.step_deadline_seconds = 9;
    if let Some(Internal::Gate(gate)) = &mut asked.internal {
        gate.reminders = Some(Reminders {
            remind_after_seconds: 2,
            max_reminders: 3,
            ..Reminders::default()
        });
    }
    let mut cluster = Cluster::start(vec![asked]);
    for _ in 0..9 {
        cluster.pulse(1_000);
    }
    let events = cluster.parent_events();
    let reminders = events
        .iter()
        .filter(|e| e.r#type() == EventType::Reminder)
        .count();
    assert_eq!(reminders, 3);
    let last = events.last().unwrap();
    assert_eq!(last.details.clone().unwrap().reason, "step_timeout");
    let parent = cluster.parent;
    let progress = cluster.home(parent).view(parent).unwrap().scenario.unwrap();
    assert_eq!(progress.steps[0].status(), Status::TimedOut);
}

#[test]
fn canceling_the_parent_closes_its_question() {
    let mut cluster = Cluster::start(vec![gate("ask", 0, 0)]);
    cluster.cancel();
    assert_eq!(cluster.answer("approved"), Some(ErrorCode::IntentTerminal));
    let parent = cluster.parent;
    assert!(!cluster.home(parent).intent(parent).unwrap().gate_open);
    let progress = cluster.home(parent).view(parent).unwrap().scenario.unwrap();
    assert_eq!(progress.steps[0].status(), Status::Canceled);
}

#[test]
fn an_approval_has_the_time_of_its_step_for_itself() {
    let mut worked = step("one", 0, 0);
    worked.step_deadline_seconds = 60;
    worked.approval = Some(question());
    let mut cluster = Cluster::start(vec![worked]);
    let id = cluster.step();
    cluster.pulse(59_000);
    assert_eq!(cluster.resume(id, "one", "{\"a\":1}", false), None);
    cluster.pulse(59_999);
    assert_eq!(
        cluster.waits_for(),
        WaitingReason::Human,
        "the agent's time is not the human's"
    );
    cluster.pulse(1);
    let last = cluster.parent_events().pop().unwrap();
    assert_eq!(last.details.unwrap().reason, "step_timeout");
}
