use crate::testing::{Replica, START_MS, actor, agent, intent_id, pushed, refusal, submit, transition};
use crate::{Effect, next_due_ms};
use baton_protocol::ErrorCode;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    AcknowledgeAttempt, DeliveryState, EnvelopeLimits, EventType, FailAttempt, Intent, KeyKind, Member,
    Pulse, RedeliverIntent, Reply, StartAttempt, Status, UpdatePolicy,
};
use bytes::Bytes;

fn id() -> IntentId {
    intent_id(&agent("worker"), 1)
}

fn submitted() -> Replica {
    let mut replica = Replica::new(1, 1);
    replica.run(Body::Submit(submit("worker", 1)));
    replica
}

fn policy(limits: EnvelopeLimits) -> UpdatePolicy {
    UpdatePolicy {
        actor: Some(actor(KeyKind::Workspace, "sender")),
        intent_id: id().to_bytes(),
        envelope: vec![Member {
            key: "shown".into(),
            value: Bytes::from_static(b"1"),
        }],
        limits: Some(limits),
        ..UpdatePolicy::default()
    }
}

fn set(replica: &mut Replica, limits: EnvelopeLimits) -> Intent {
    let answer = transition(replica.run(Body::Policy(policy(limits)))).unwrap();
    answer.intent.unwrap()
}

fn retries(most: u32) -> EnvelopeLimits {
    EnvelopeLimits {
        max_retry_count: Some(most),
        ..EnvelopeLimits::default()
    }
}

fn timeout(seconds: u32) -> EnvelopeLimits {
    EnvelopeLimits {
        execution_timeout_seconds: Some(seconds),
        ..EnvelopeLimits::default()
    }
}

fn cursor(replica: &Replica) -> u64 {
    replica.intent(id()).unwrap().mailbox_cursor
}

fn fails(replica: &mut Replica, push: bool) -> Reply {
    let cursor = cursor(replica);
    replica.run(Body::FailAttempt(FailAttempt {
        intent_id: id().to_bytes(),
        cursor,
        push: push.then(|| pushed("worker", 503, 5_000)),
    }))
}

fn starts(replica: &mut Replica) {
    let cursor = cursor(replica);
    let start = StartAttempt {
        intent_id: id().to_bytes(),
        cursor,
    };
    assert_eq!(refusal(&replica.run(Body::StartAttempt(start))), None);
}

fn takes(replica: &mut Replica) {
    let cursor = cursor(replica);
    let taken = AcknowledgeAttempt {
        intent_id: id().to_bytes(),
        cursor,
        push: Some(pushed("worker", 200, 0)),
    };
    assert_eq!(refusal(&replica.run(Body::AcknowledgeAttempt(taken))), None);
}

fn at(replica: &mut Replica, after_ms: u64) {
    replica.now_ms = START_MS + after_ms;
    replica.run(Body::Pulse(Pulse {}));
}

fn kinds(replica: &Replica) -> Vec<EventType> {
    replica.events(id()).iter().skip(3).map(|e| e.r#type()).collect()
}

#[test]
fn retries_are_counted_from_the_first_attempt() {
    // (failed before, retries allowed, attempts until it is over)
    for (before, most, attempts) in [(0, 0, 1), (0, 1, 2), (0, 4, 5), (1, 1, 2), (2, 0, 3), (2, 2, 3)] {
        let mut replica = submitted();
        for _ in 0..before {
            fails(&mut replica, false);
        }
        let intent = set(&mut replica, retries(most));
        assert_eq!(intent.max_delivery_attempts, most + 1);
        assert!(
            !intent.status().is_terminal(),
            "the attempt that is under way may succeed"
        );
        for _ in before..attempts {
            assert!(!replica.intent(id()).unwrap().status().is_terminal());
            fails(&mut replica, false);
        }
        let over = replica.intent(id()).unwrap();
        assert_eq!(
            (over.status(), over.failed_attempts),
            (Status::Failed, attempts),
            "{before} {most}"
        );
        assert_eq!(kinds(&replica), [EventType::DeliveryFailed, EventType::Failed]);
    }
}

#[test]
fn a_retry_that_waits_and_is_not_allowed_any_more_ends_the_intent_at_once() {
    let mut replica = submitted();
    fails(&mut replica, true);
    let intent = set(&mut replica, retries(0));
    assert_eq!((intent.status(), intent.policy_generation), (Status::Failed, 1));
    assert_eq!(kinds(&replica), [EventType::DeliveryFailed, EventType::Failed]);
    let record = replica.delivery(id(), "worker", 0).unwrap();
    assert_eq!(
        (record.state(), record.next_attempt_at_ms),
        (DeliveryState::DeadLettered, 0)
    );
}

#[test]
fn the_generation_guards_and_values_have_bounds() {
    let mut replica = submitted();
    set(&mut replica, retries(1));
    let before = replica.hash();
    let stale = UpdatePolicy {
        expected_policy_generation: Some(0),
        ..policy(retries(2))
    };
    assert_eq!(
        refusal(&replica.run(Body::Policy(stale))),
        Some(ErrorCode::PolicyGenerationMismatch)
    );
    let seconds = |value| EnvelopeLimits {
        ttl_seconds: Some(value),
        ..EnvelopeLimits::default()
    };
    for wrong in [retries(u32::MAX), timeout(0), seconds(0), seconds(u32::MAX)] {
        let refused = replica.run(Body::Policy(policy(wrong)));
        assert_eq!(refusal(&refused), Some(ErrorCode::InvalidArgument), "{wrong:?}");
    }
    assert_eq!(replica.hash(), before);
    let current = UpdatePolicy {
        expected_policy_generation: Some(1),
        ..policy(retries(2))
    };
    assert_eq!(refusal(&replica.run(Body::Policy(current))), None);
}

#[test]
fn the_life_of_an_intent_is_counted_from_its_birth() {
    let life = |ttl_s: Option<u32>, expires_ms: Option<u64>| EnvelopeLimits {
        ttl_seconds: ttl_s,
        expires_at_ms: expires_ms.map(|ms| START_MS + ms),
        ..EnvelopeLimits::default()
    };
    // What is set, after how long, and when the intent ends.
    for (limits, set_after_ms, ends_after_ms) in [
        (life(Some(10), None), 4_000, 10_000),
        (life(None, Some(7_000)), 4_000, 7_000),
        (life(Some(10), Some(7_000)), 0, 7_000),
        (life(Some(5), Some(70_000)), 0, 5_000),
        // Over already: the next pulse ends it.
        (life(Some(1), None), 4_000, 4_000),
    ] {
        let mut replica = submitted();
        replica.now_ms = START_MS + set_after_ms;
        set(&mut replica, limits);
        if ends_after_ms > set_after_ms {
            at(&mut replica, ends_after_ms - 1);
            assert!(
                !replica.intent(id()).unwrap().status().is_terminal(),
                "{limits:?}"
            );
        }
        at(&mut replica, ends_after_ms);
        assert_eq!(
            replica.intent(id()).unwrap().status(),
            Status::TimedOut,
            "{limits:?}"
        );
        assert_eq!(kinds(&replica), [EventType::TimedOut]);
    }
}

#[test]
fn a_later_end_replaces_the_earlier_one() {
    let mut replica = submitted();
    let life = |seconds| EnvelopeLimits {
        ttl_seconds: Some(seconds),
        ..EnvelopeLimits::default()
    };
    set(&mut replica, life(5));
    set(&mut replica, life(50));
    assert_eq!(next_due_ms(&replica.tables).unwrap(), Some(START_MS + 50_000));
    at(&mut replica, 49_999);
    assert!(!replica.intent(id()).unwrap().status().is_terminal());
    at(&mut replica, 50_000);
    assert_eq!(replica.intent(id()).unwrap().status(), Status::TimedOut);
}

#[test]
fn an_attempt_that_takes_too_long_fails_and_the_next_one_follows() {
    let mut replica = submitted();
    let limited = set(&mut replica, timeout(10));
    let first = limited.mailbox_cursor;
    assert!(
        replica.last.effects.contains(&Effect::Limit {
            agent_key: agent("worker").key,
            cursor: first,
            intent_id: id(),
        }),
        "only the leader knows whether somebody has it"
    );
    at(&mut replica, 60_000);
    assert_eq!(cursor(&replica), first, "nobody took it: nothing is consumed");
    starts(&mut replica);
    at(&mut replica, 65_000);
    // Whoever takes the same delivery later gets no more time.
    starts(&mut replica);
    at(&mut replica, 69_999);
    assert_eq!(replica.intent(id()).unwrap().failed_attempts, 0);
    at(&mut replica, 70_000);
    let intent = replica.intent(id()).unwrap();
    assert_eq!(intent.failed_attempts, 1);
    assert!(intent.mailbox_cursor >= first + 2);
    for attempt in 2..=3 {
        starts(&mut replica);
        at(&mut replica, 60_000 + 10_000 * attempt);
    }
    assert_eq!(replica.intent(id()).unwrap().status(), Status::Failed);
    assert_eq!(kinds(&replica), [EventType::DeliveryFailed, EventType::Failed]);
}

#[test]
fn a_delivery_that_got_another_cursor_is_another_attempt() {
    let mut replica = submitted();
    set(&mut replica, timeout(10));
    starts(&mut replica);
    let before = cursor(&replica);
    replica.now_ms += 5_000;
    replica.run(Body::Redeliver(RedeliverIntent {
        intent_id: id().to_bytes(),
        cursor: before,
    }));
    at(&mut replica, 30_000);
    assert_eq!(replica.intent(id()).unwrap().failed_attempts, 0);
}

#[test]
fn a_change_of_the_time_counts_for_the_attempt_that_runs() {
    let mut replica = submitted();
    set(&mut replica, timeout(100));
    starts(&mut replica);
    set(&mut replica, timeout(10));
    assert_eq!(next_due_ms(&replica.tables).unwrap(), Some(START_MS + 10_000));
    at(&mut replica, 10_000);
    assert_eq!(replica.intent(id()).unwrap().failed_attempts, 1);
}

#[test]
fn an_agent_that_took_a_post_and_gives_no_result_is_posted_to_again_after_the_pause() {
    let mut replica = submitted();
    takes(&mut replica);
    set(
        &mut replica,
        EnvelopeLimits {
            execution_timeout_seconds: Some(10),
            retry_backoff_seconds: Some(3),
            ..EnvelopeLimits::default()
        },
    );
    let first = cursor(&replica);
    at(&mut replica, 10_000);
    let intent = replica.intent(id()).unwrap();
    assert_eq!((intent.failed_attempts, intent.mailbox_cursor), (1, first));
    let record = replica.delivery(id(), "worker", 0).unwrap();
    assert_eq!(
        (record.state(), record.next_attempt_at_ms),
        (DeliveryState::Pending, START_MS + 13_000)
    );
    assert!(record.last_error.contains("no result"), "{}", record.last_error);
    at(&mut replica, 12_999);
    assert_eq!(cursor(&replica), first);
    at(&mut replica, 13_000);
    assert!(cursor(&replica) >= first + 2, "posted again");
    // Taken again, and again without a result: four times the pause, then it is over.
    takes(&mut replica);
    at(&mut replica, 23_000);
    assert_eq!(
        next_due_ms(&replica.tables).unwrap(),
        Some(START_MS + 23_000 + 12_000)
    );
    at(&mut replica, 35_000);
    takes(&mut replica);
    at(&mut replica, 45_000);
    assert_eq!(replica.intent(id()).unwrap().status(), Status::Failed);
    let record = replica.delivery(id(), "worker", 0).unwrap();
    assert_eq!(record.state(), DeliveryState::DeadLettered);
}
