//! Workers while intents go from agent to agent, and while the leader has not heard of it yet.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::{AgentRef, AttemptVerdict, FinishAttempt, Status, command};
use baton_protocol::{ErrorCode, GroupId, IntentId};
use std::sync::Arc;
use std::time::Duration;
use support::work::{WorkNode, id_of};
use support::{GROUP, Group, World, agent, sender};
use tokio::time::sleep;

/// A new leader is quiet for a second.
const SETTLED: Duration = Duration::from_millis(1_200);
const SHORT: Duration = Duration::from_secs(1);

/// The led group, another one, and agents of each.
struct Two {
    world: World,
    other: Arc<Group>,
    here: Vec<AgentRef>,
    there: AgentRef,
}

async fn two() -> Two {
    let group = Group::one_of(GROUP, 2, 1024);
    let other = Group::one_of(GroupId(2), 2, 1024);
    let world = World::on(Arc::clone(&group));
    world.beside(&other);
    let (here, there): (Vec<_>, Vec<_>) = (0..32)
        .map(|n| agent(&format!("a{n}")))
        .partition(|agent| group.owns(slot_of(agent)));
    sleep(SETTLED).await;
    Two {
        world,
        other,
        here,
        there: there[0].clone(),
    }
}

impl Two {
    /// An intent of the other group, in the hands of `next`.
    fn hand_over(&self, id: IntentId, next: &AgentRef) {
        self.other.hand_to(id, next);
        self.other.pump_to(&self.world.group);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_item_goes_to_the_group_of_its_intent() {
    let two = two().await;
    let node = WorkNode::new(&two.world);
    let id = two.other.submit(&two.there, 1);
    let hand = node.worker(&two.here[0], 1).await;
    two.hand_over(id, &two.here[0]);
    let item = hand.item().await;
    assert_eq!(hand.complete(&item).await, None);
    assert_eq!(two.other.intent(id).status(), Status::Completed);
    // Until the group hears of it, the answer stays the same and nobody else gets it.
    assert_eq!(hand.complete(&item).await, None);
    let rival = node.worker(&two.here[0], 1).await;
    rival.silent(SHORT).await;
    two.other.pump_to(&two.world.group);
    assert_eq!(hand.complete(&item).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_former_handlers_worker_does_not_end_the_delivery_to_the_next_one() {
    let two = two().await;
    let (node, first, second) = (WorkNode::new(&two.world), &two.here[0], &two.here[1]);
    let id = two.other.submit(&two.there, 1);
    // One key for all agents of the workspace.
    let hand = node.worker_as(first, sender(), 1, 0).await;
    two.hand_over(id, first);
    let old = hand.item().await;
    two.world.group.mute();
    two.hand_over(id, second);
    assert_eq!(hand.complete(&old).await, Some(ErrorCode::StaleAttempt));
    assert!(!two.other.intent(id).status().is_terminal());
    two.world.group.unmute();
    let next = node.worker_as(second, sender(), 1, 0).await;
    let item = next.item().await;
    assert_eq!(next.complete(&item).await, None);
    assert_eq!(two.other.intent(id).status(), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_delivery_to_the_same_agent_is_another_one() {
    let mut two = two().await;
    let node = WorkNode::new(&two.world);
    let (first, second) = (two.here[0].clone(), two.here[1].clone());
    let id = two.other.submit(&two.there, 1);
    let hand = node.worker(&first, 1).await;
    two.hand_over(id, &first);
    let old = hand.item().await;
    // There and back while nobody leads: the next leader knows of the last delivery only.
    two.world.wires.freeze(true);
    two.world.depose().await;
    two.hand_over(id, &second);
    sleep(SHORT).await;
    two.hand_over(id, &first);
    two.world.elect();
    two.world.wires.freeze(false);
    let answer = hand.complete(&old).await;
    assert_eq!(answer, Some(ErrorCode::StaleAttempt));
    assert!(!two.other.intent(id).status().is_terminal());
}

#[tokio::test(start_paused = true)]
async fn a_page_read_before_the_withdrawal_loses_nothing() {
    let world = World::new();
    sleep(SETTLED).await;
    let (node, first, second) = (WorkNode::new(&world), agent("first"), agent("second"));
    let id = world.group.submit(&first, 1);
    let hand = node.worker(&first, 1).await;
    let old = hand.item().await;
    sleep(SHORT).await;
    world.group.mute();
    world.group.hand_to(id, &second);
    let next = node.worker(&second, 1).await;
    let item = tokio::time::timeout(SHORT, next.item()).await.unwrap();
    assert_eq!(id_of(&item), id);
    world.group.unmute();
    assert_eq!(hand.complete(&old).await, Some(ErrorCode::StaleAttempt));
    assert_eq!(next.complete(&item).await, None);
    assert_eq!(world.group.intent(id).status(), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_one_handler_is_not_that_of_the_next() {
    let world = World::new();
    sleep(SETTLED).await;
    let (node, first, second) = (WorkNode::new(&world), agent("first"), agent("second"));
    let id = world.group.submit(&first, 1);
    let hand = node.worker(&first, 1).await;
    let item = hand.item().await;
    let later = |report: &mut baton_protocol::proto::internal::AttemptReport| report.delay_ms = 600_000;
    let answer = hand.report_with(&item, AttemptVerdict::Nak, later).await;
    assert_eq!(answer, None);
    let next = node.worker(&second, 1).await;
    next.silent(SHORT).await;
    world.group.hand_to(id, &second);
    let given = tokio::time::timeout(SHORT, next.item()).await.unwrap();
    assert_eq!(id_of(&given), id);
}

#[tokio::test(start_paused = true)]
async fn a_fence_of_another_group_is_no_receipt() {
    let two = two().await;
    let node = WorkNode::new(&two.world);
    let id = two.world.group.submit(&two.here[0], 1);
    let hand = node.worker(&two.here[0], 1).await;
    let item = hand.item().await;
    two.world.group.hand_to(id, &two.there);
    sleep(SHORT).await;
    // The next handler's worker ends it, under a fence that looks the same.
    let reply = two
        .world
        .group
        .commit(command::Body::FinishAttempt(FinishAttempt {
            intent_id: id.to_bytes(),
            fence: Some(item.fence),
            status: Status::Completed.into(),
            handler_generation: 1,
            agent_key: two.there.key.clone(),
            ..FinishAttempt::default()
        }));
    assert_eq!(
        two.world.group.intent(id).status(),
        Status::Completed,
        "{reply:?}"
    );
    assert_eq!(hand.complete(&item).await, Some(ErrorCode::IntentTerminal));
}
