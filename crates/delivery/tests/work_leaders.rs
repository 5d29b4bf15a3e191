//! Workers across changes of the leader, and when the leader has missed something.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_protocol::proto::internal::{AttemptVerdict, Status};
use baton_protocol::{ErrorCode, WorkInput};
use std::time::Duration;
use support::work::{WorkNode, attempt_of, id_of, order, report, status};
use support::{Group, World, agent};
use tokio::time::{sleep, timeout};

const SETTLED: Duration = Duration::from_millis(1_200);

#[tokio::test(start_paused = true)]
async fn a_fence_from_before_counts_until_the_item_is_given_anew() {
    let mut world = World::new();
    sleep(SETTLED).await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 2).await;
    world.group.submit(&agent, 1);
    world.group.submit(&agent, 2);
    let items = hand.items(2).await;
    world.depose().await;
    world.elect();
    let other = WorkNode::new(&world);
    let rival = other.worker(&agent, 5).await;
    rival.silent(Duration::from_secs(5)).await;
    assert_eq!(hand.report(&items[0], AttemptVerdict::Progress).await, None);
    for item in &items {
        assert_eq!(hand.complete(item).await, None);
        assert_eq!(status(&world.group, item), Status::Completed);
        // Whoever repeats it to yet another leader gets the same answer.
        assert_eq!(hand.complete(item).await, None);
    }
    assert_eq!(world.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_report_without_a_leader_reaches_the_next_one() {
    let mut world = World::new();
    sleep(SETTLED).await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    world.group.submit(&agent, 1);
    let item = hand.item().await;
    world.depose().await;
    hand.say(WorkInput {
        reports: vec![report(&item, AttemptVerdict::Complete)],
        ..WorkInput::default()
    })
    .await;
    hand.silent(Duration::from_secs(3)).await;
    world.elect();
    assert_eq!(hand.receipt(&item).await, None);
    assert_eq!(status(&world.group, &item), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_a_dead_node_has_lost_to_the_next_leader() {
    let mut world = World::new();
    sleep(SETTLED).await;
    let agent = agent("worker");
    let lost = WorkNode::new(&world);
    let hand = lost.worker(&agent, 1).await;
    world.group.submit(&agent, 1);
    let old = hand.item().await;
    // Cut off, not dead: it hears nothing of what follows.
    world.wires.freeze(true);
    world.depose().await;
    sleep(Duration::from_secs(1)).await;
    world.elect();
    sleep(SETTLED).await;
    world.wires.freeze(false);
    let node = WorkNode::new(&world);
    let rival = node.worker(&agent, 1).await;
    // Whoever is back first has it: the fence from before, or the next one.
    let answer = hand.complete(&old).await;
    if answer.is_none() {
        rival.silent(Duration::from_secs(60)).await;
    } else {
        assert_eq!(answer, Some(ErrorCode::StaleAttempt));
        let new = rival.item().await;
        assert!(order(new.fence) > order(old.fence));
        assert_eq!(rival.complete(&new).await, None);
    }
    assert_eq!(status(&world.group, &old), Status::Completed);
    assert_eq!(world.group.events(id_of(&old)).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_claims_is_given_out_after_the_grace() {
    let mut world = World::new();
    sleep(SETTLED).await;
    let agent = agent("worker");
    let doomed = WorkNode::new(&world);
    let hand = doomed.worker(&agent, 1).await;
    let id = world.group.submit(&agent, 1);
    hand.item().await;
    world.depose().await;
    drop(doomed);
    world.elect();
    let node = WorkNode::new(&world);
    let rival = node.worker(&agent, 1).await;
    // Fresh work does not wait for that.
    let fresh = world.group.submit(&agent, 2);
    sleep(Duration::from_millis(10)).await;
    rival.grant(1).await;
    let items = timeout(SETTLED, rival.items(2)).await.unwrap();
    let mut got: Vec<_> = items.iter().map(id_of).collect();
    got.sort_unstable();
    let mut wanted = vec![id, fresh];
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    assert!(items.iter().all(|i| attempt_of(i) == 1), "its end was not logged");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_keeps_the_items() {
    let world = World::new();
    sleep(SETTLED).await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    world.group.submit(&agent, 1);
    let item = hand.item().await;
    sleep(Duration::from_millis(300)).await;
    // The node's lease lapses, it gives the stream up and opens another one.
    world.wires.freeze(true);
    sleep(Duration::from_millis(1_300)).await;
    world.wires.freeze(false);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(hand.complete(&item).await, None);
    assert_eq!(world.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_reports_wait_and_then_say_so() {
    let world = World::new();
    sleep(SETTLED).await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 1).await;
    world.group.submit(&agent, 1);
    let item = hand.item().await;
    world.leader.as_ref().unwrap().0.refuse_proposals(true);
    assert_eq!(hand.complete(&item).await, Some(ErrorCode::Unavailable));
    world.leader.as_ref().unwrap().0.refuse_proposals(false);
    assert_eq!(hand.complete(&item).await, None);
    assert_eq!(status(&world.group, &item), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn missed_entries_are_read_from_the_tables() {
    let world = World::on(Group::with_feed(2));
    sleep(SETTLED).await;
    let (node, agent) = (WorkNode::new(&world), agent("worker"));
    let hand = node.worker(&agent, 2_000).await;
    let kept = world.group.submit(&agent, 0);
    let first = hand.item().await;
    // Committed in one go, so that the feed overflows.
    let ended = world.group.submit(&agent, 1);
    for n in 2..1_500 {
        world.group.submit(&agent, n);
    }
    world.group.complete(ended);
    let mut items = Vec::new();
    while items.len() < 1_498 {
        items.extend(hand.batch().await.items);
    }
    hand.silent(Duration::from_secs(1)).await;
    assert!(items.iter().all(|i| id_of(i) != ended && id_of(i) != kept));
    assert_eq!(hand.complete(&first).await, None);
}
