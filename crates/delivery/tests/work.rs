//! Competing workers end to end: real state machine, real frames, paused time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_protocol::ErrorCode;
use baton_protocol::limits::{WORK_CREDITS_MAX, WORK_LEASE_DEFAULT_MS, WORK_LEASE_MIN_MS};
use baton_protocol::proto::internal::{AttemptVerdict, EventType, Status, command};
use baton_protocol::{WorkInput, WorkItem};
use std::collections::BTreeSet;
use std::time::Duration;
use support::work::{WorkNode, attempt_of, id_of, intent_of, order, report, status};
use support::{World, agent};
use tokio::time::sleep;

const LEASE: Duration = Duration::from_millis(WORK_LEASE_DEFAULT_MS as u64);
const SHORT: Duration = Duration::from_millis(WORK_LEASE_MIN_MS as u64);
/// A new leader is quiet for a second.
const SETTLED: Duration = Duration::from_millis(1_200);

async fn settled() -> World {
    let world = World::new();
    sleep(SETTLED).await;
    world
}

fn ids(items: &[WorkItem]) -> Vec<u128> {
    items
        .iter()
        .map(|i| u128::from_be_bytes(id_of(i).as_bytes().to_owned()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_cycle_is_two_commits() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    let id = world.group.submit(&agent, 1);
    let item = hand.item().await;
    assert_eq!((id_of(&item), attempt_of(&item)), (id, 1));
    assert_eq!(intent_of(&item).intent_type, "intent.test.v1");
    assert!(!item.payload.is_empty());
    assert_eq!(hand.report(&item, AttemptVerdict::Progress).await, None);
    assert_eq!(hand.complete(&item).await, None);
    let seen: Vec<_> = world.group.events(id).iter().map(|e| e.status()).collect();
    assert_eq!(
        seen[2..],
        [Status::Delivered, Status::InProgress, Status::Completed]
    );
    assert_eq!(world.group.committed(|_| true), 2);
}

#[tokio::test(start_paused = true)]
async fn workers_compete_and_take_turns() {
    let world = settled().await;
    let (one, two, agent) = (WorkNode::new(&world), WorkNode::new(&world), agent("worker"));
    for n in 0..90 {
        world.group.submit(&agent, n);
    }
    let a = one.worker(&agent, 40).await;
    let b = one.worker(&agent, 40).await;
    let c = two.worker(&agent, 10).await;
    let (a, b, c) = (a.items(40).await, b.items(40).await, c.items(10).await);
    let all: BTreeSet<_> = [&a, &b, &c].into_iter().flat_map(|items| ids(items)).collect();
    assert_eq!(all.len(), 90, "nothing is given out twice");
    let fences: BTreeSet<_> = [&a, &b, &c]
        .into_iter()
        .flatten()
        .map(|i| order(i.fence))
        .collect();
    assert_eq!(fences.len(), 90);
}

#[tokio::test(start_paused = true)]
async fn turns_are_even_and_the_oldest_goes_first() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let a = node.worker(&agent, 50).await;
    let b = node.worker(&agent, 50).await;
    sleep(Duration::from_millis(10)).await;
    for n in 0..20 {
        world.group.submit(&agent, n);
    }
    for items in [a.items(10).await, b.items(10).await] {
        let cursors: Vec<_> = items.iter().map(|i| intent_of(i).mailbox_cursor).collect();
        assert!(cursors.is_sorted());
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_than_the_credits() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    for n in 0..10 {
        world.group.submit(&agent, n);
    }
    let hand = node.worker(&agent, 3).await;
    let first = hand.items(3).await;
    hand.silent(SHORT).await;
    assert_eq!(hand.complete(&first[0]).await, None);
    hand.silent(SHORT).await;
    hand.grant(1).await;
    hand.items(1).await;
    hand.silent(SHORT).await;
}

#[tokio::test(start_paused = true)]
async fn too_many_credits_end_the_stream() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, WORK_CREDITS_MAX).await;
    hand.grant(1).await;
    let error = hand.worker.next().await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(hand.worker.next().await.is_none());
    let flood = WorkInput {
        credits: WORK_CREDITS_MAX + 1,
        ..WorkInput::default()
    };
    assert!(hand.worker.send(flood).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_lease_fails_the_attempt_and_an_old_fence_changes_nothing() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let slow = node.worker_with(&agent, 1, WORK_LEASE_MIN_MS).await;
    world.group.submit(&agent, 1);
    let old = slow.item().await;
    // Reports keep it.
    for _ in 0..4 {
        sleep(SHORT * 3 / 4).await;
        assert_eq!(slow.report(&old, AttemptVerdict::Progress).await, None);
    }
    assert_eq!(world.failures(), 0);
    let next = node.worker(&agent, 1).await;
    let new = next.item().await;
    assert_eq!(
        (id_of(&new), attempt_of(&new), world.failures()),
        (id_of(&old), 2, 1)
    );
    assert!(order(new.fence) > order(old.fence));
    for verdict in [
        AttemptVerdict::Progress,
        AttemptVerdict::Nak,
        AttemptVerdict::Complete,
        AttemptVerdict::Fail,
        AttemptVerdict::Terminate,
    ] {
        assert_eq!(slow.report(&old, verdict).await, Some(ErrorCode::StaleAttempt));
    }
    assert_eq!(status(&world.group, &old), Status::Delivered);
    assert_eq!(next.complete(&new).await, None);
    assert_eq!(slow.complete(&old).await, Some(ErrorCode::IntentTerminal));
}

#[tokio::test(start_paused = true)]
async fn the_same_end_twice_is_one_end() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    let id = world.group.submit(&agent, 1);
    let item = hand.item().await;
    hand.say(WorkInput {
        reports: vec![
            report(&item, AttemptVerdict::Complete),
            report(&item, AttemptVerdict::Complete),
        ],
        ..WorkInput::default()
    })
    .await;
    let mut receipts = Vec::new();
    while receipts.len() < 2 {
        receipts.extend(hand.batch().await.receipts);
    }
    assert!(receipts.iter().all(|r| r.error.is_none()), "{receipts:?}");
    assert_eq!(hand.complete(&item).await, None);
    assert_eq!(world.group.events(id).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_disappears_loses_its_items_at_once() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 2).await;
    let other = node.worker(&agent, 0).await;
    world.group.submit(&agent, 1);
    world.group.submit(&agent, 2);
    let items = hand.items(2).await;
    drop(hand);
    other.grant(2).await;
    let again = tokio::time::timeout(Duration::from_millis(50), other.items(2))
        .await
        .unwrap();
    let sorted = |items| ids(items).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&again), sorted(&items));
    assert_eq!(world.failures(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_loses_its_items_after_the_grace() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let doomed = WorkNode::new(&world);
    let hand = doomed.worker(&agent, 2).await;
    let id = world.group.submit(&agent, 1);
    hand.item().await;
    sleep(Duration::from_millis(300)).await;
    drop(doomed);
    let other = node.worker(&agent, 1).await;
    let again = other.item().await;
    assert_eq!((id_of(&again), attempt_of(&again)), (id, 2));
}

#[tokio::test(start_paused = true)]
async fn handed_back_items_come_again_after_their_delay() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 2).await;
    world.group.submit(&agent, 1);
    let first = hand.item().await;
    let delay = |r: &mut baton_protocol::proto::internal::AttemptReport| r.delay_ms = 5_000;
    assert_eq!(hand.report_with(&first, AttemptVerdict::Nak, delay).await, None);
    hand.silent(Duration::from_millis(4_900)).await;
    let second = hand.item().await;
    assert_eq!(attempt_of(&second), 2);
    assert_eq!(hand.report(&second, AttemptVerdict::Nak).await, None);
    hand.grant(1).await;
    let third = hand.item().await;
    assert_eq!(attempt_of(&third), 3);
    assert_eq!(hand.report(&third, AttemptVerdict::Nak).await, None);
    hand.grant(1).await;
    hand.silent(LEASE).await;
    assert_eq!(status(&world.group, &first), Status::Failed);
    let types: Vec<_> = world
        .group
        .events(id_of(&first))
        .iter()
        .map(|e| e.r#type())
        .collect();
    assert!(
        types.ends_with(&[EventType::DeliveryFailed, EventType::Failed]),
        "{types:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_and_terminations_end_the_intent() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 2).await;
    for (n, verdict) in [(1, AttemptVerdict::Fail), (2, AttemptVerdict::Terminate)] {
        let id = world.group.submit(&agent, n);
        let item = hand.item().await;
        let why = |r: &mut baton_protocol::proto::internal::AttemptReport| r.reason = "poison".into();
        assert_eq!(hand.report_with(&item, verdict, why).await, None);
        let last = world.group.events(id).pop().unwrap();
        assert_eq!(last.status(), Status::Failed);
        assert_eq!(last.details.unwrap().reason, "poison");
    }
    hand.grant(1).await;
    hand.silent(LEASE).await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_worker_finishes_what_it_has() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 10).await;
    world.group.submit(&agent, 1);
    let item = hand.item().await;
    hand.drain().await;
    sleep(Duration::from_millis(10)).await;
    world.group.submit(&agent, 2);
    hand.silent(SHORT).await;
    assert_eq!(hand.complete(&item).await, None);
    assert!(hand.worker.next().await.is_none());
    let other = node.worker(&agent, 1).await;
    assert_eq!(attempt_of(&other.item().await), 1);
    assert_eq!(world.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_read_is_closed_and_its_items_are_unharmed() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 10).await;
    for n in 0..5 {
        world.group.submit(&agent, n);
    }
    sleep(Duration::from_secs(11)).await;
    let error = hand.worker.next().await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(hand.worker.next().await.is_none());
    let other = node.worker(&agent, 5).await;
    assert!(other.items(5).await.iter().all(|i| attempt_of(i) == 1));
    assert_eq!(world.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn listeners_get_what_no_worker_can_take() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 2).await;
    sleep(Duration::from_millis(10)).await;
    let mut listener = world.listen(&agent, 0, "key-1").await;
    let first = world.group.submit(&agent, 1);
    let item = hand.item().await;
    assert_eq!(id_of(&item), first);
    assert!(tokio::time::timeout(SHORT, listener.recv()).await.is_err());
    world.group.submit(&agent, 2);
    let second = hand.item().await;
    assert!(
        tokio::time::timeout(SHORT, listener.recv()).await.is_err(),
        "both are held"
    );
    let third = world.group.submit(&agent, 3);
    assert_eq!(support::id_of(&listener.recv().await.unwrap()), third);
    // With the listener now: a worker does not get it on top.
    world.hub.picked_up(third, &agent, "key-1");
    hand.grant(1).await;
    hand.silent(SHORT).await;
    assert_eq!(hand.complete(&item).await, None);
    drop(hand);
    let again = listener.recv().await.unwrap();
    assert_eq!((support::id_of(&again), again.attempt), (id_of(&second), 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_gives_back_unseen_reaches_listeners() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    sleep(Duration::from_millis(10)).await;
    let id = world.group.submit(&agent, 1);
    sleep(Duration::from_millis(10)).await;
    let mut listener = world.listen(&agent, 0, "key-1").await;
    assert!(tokio::time::timeout(SHORT, listener.recv()).await.is_err());
    drop(hand);
    let item = listener.recv().await.unwrap();
    assert_eq!((support::id_of(&item), item.attempt), (id, 1));
}

#[tokio::test(start_paused = true)]
async fn an_end_from_elsewhere_takes_the_item_away() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    let id = world.group.submit(&agent, 1);
    let item = hand.item().await;
    world.group.complete(id);
    assert_eq!(hand.complete(&item).await, Some(ErrorCode::IntentTerminal));
    assert_eq!(
        world
            .group
            .committed(|b| matches!(b, command::Body::FinishAttempt(_))),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_reports_on_somebody_elses_item() {
    let world = settled().await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    let same = node.worker(&agent, 0).await;
    let stranger = node.worker(&support::agent("stranger"), 0).await;
    world.group.submit(&agent, 1);
    let item = hand.item().await;
    assert_eq!(stranger.complete(&item).await, Some(ErrorCode::NotFound));
    assert_eq!(same.complete(&item).await, Some(ErrorCode::StaleAttempt));
    let mut unknown = item.clone();
    unknown.intent_id = vec![7; 16].into();
    assert_eq!(hand.complete(&unknown).await, Some(ErrorCode::NotFound));
    unknown.intent_id = vec![7; 3].into();
    assert_eq!(hand.complete(&unknown).await, Some(ErrorCode::InvalidArgument));
    assert_eq!(hand.complete(&item).await, None);
}
