//! Agent steps: order, results, retries, failures, cancellation.

use super::*;

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
