//! Pipelined submits.

use crate::support::{Node, World, builder, client, refusal, until};
use baton_client::{ErrorKind, Status, Submit};
use baton_protocol::proto::v1;
use std::collections::HashSet;
use std::time::Duration;
use tonic::Code;

fn payment() -> Submit {
    Submit::new("payment", "test.v1")
}

#[tokio::test]
async fn every_intent_gets_its_own_receipt() {
    let world = World::new();
    let node = Node::start(&world).await;
    let submitter = client(&[&node]).submitter().in_flight_max(64).open();
    let mut tickets = Vec::new();
    for _ in 0..1_000 {
        tickets.push(submitter.submit(payment()).await.unwrap());
    }
    let mut ids = HashSet::new();
    for ticket in tickets {
        ids.insert(ticket.await.unwrap().intent_id);
    }
    assert_eq!(ids.len(), 1_000);
    submitter.close().await.unwrap();
    assert_eq!(world.look(|s| s.submitted.len()), 1_000, "nothing was sent twice");
}

#[tokio::test]
async fn at_the_bound_submit_waits_for_an_answer() {
    let world = World::new();
    let node = Node::start(&world).await;
    let submitter = client(&[&node]).submitter().in_flight_max(8).open();
    submitter.submit(payment()).await.unwrap().await.unwrap();
    world.with(|s| s.hold = true);
    let mut tickets = Vec::new();
    for _ in 0..8 {
        tickets.push(submitter.submit(payment()).await.unwrap());
    }
    until(&world, "the eight submits", |s| s.submitted.len() == 9).await;
    let mut ninth = Box::pin(submitter.submit(payment()));
    assert!(futures::poll!(&mut ninth).is_pending());
    world.with(|s| s.hold = false);
    ninth.await.unwrap().await.unwrap();
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_unanswered_goes_to_the_next_node_and_becomes_one_intent() {
    let world = World::new();
    let mut first = Node::start(&world).await;
    let second = Node::start(&world).await;
    let submitter = client(&[&first, &second]).submitter().open();
    submitter.submit(payment()).await.unwrap().await.unwrap();
    world.with(|s| s.hold = true);
    let mut tickets = Vec::new();
    for _ in 0..100 {
        tickets.push(submitter.submit(payment()).await.unwrap());
    }
    let unsafe_one = submitter.submit(payment().without_key()).await.unwrap();
    until(&world, "the first send", |s| s.submitted.len() == 102).await;
    first.vanish();
    world.with(|s| s.hold = false);
    for ticket in tickets {
        ticket.await.unwrap();
    }
    let error = unsafe_one.await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "nobody knows whether it is in: {error}"
    );
    submitter.close().await.unwrap();
    let ids: HashSet<_> = world.look(|s| s.keys.values().cloned().collect());
    assert_eq!(ids.len(), 101);
}

#[tokio::test]
async fn a_full_queue_is_tried_again_and_a_bad_intent_is_not() {
    let world = World::new();
    let node = Node::start(&world).await;
    let submitter = client(&[&node]).submitter().open();
    submitter.submit(payment()).await.unwrap().await.unwrap();
    world.trouble([refusal(Code::Unavailable, "queue_full")]);
    submitter.submit(payment()).await.unwrap().await.unwrap();
    world.trouble([refusal(Code::InvalidArgument, "invalid_argument")]);
    let error = submitter.submit(payment()).await.unwrap().await.unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    submitter.close().await.unwrap();
}

#[tokio::test]
async fn an_intent_can_be_followed_to_its_end() {
    let world = World::new();
    let node = Node::start(&world).await;
    let submitter = client(&[&node]).submitter().open();
    let (ticket, ending) = submitter.submit_and_follow(payment()).await.unwrap();
    let id = ticket.await.unwrap().intent_id;
    world.with(|s| s.append(&id, v1::Status::Completed));
    let ended = ending.await.unwrap();
    assert_eq!((ended.intent_id, ended.status), (id, Status::Completed));
    submitter.close().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_never_comes_is_a_timeout() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = builder(&[&node])
        .timeout(Duration::from_millis(300))
        .connect_lazy()
        .unwrap();
    let submitter = client.submitter().open();
    submitter.submit(payment()).await.unwrap().await.unwrap();
    world.with(|s| s.hold = true);
    let error = submitter.submit(payment()).await.unwrap().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_key_that_is_not_accepted_ends_the_submitter() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.trouble([refusal(Code::Unauthenticated, "invalid_platform_api_key")]);
    let submitter = client(&[&node]).submitter().open();
    let ticket = submitter.submit(payment()).await.unwrap();
    let error = ticket.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let error = submitter.close().await.unwrap_err();
    assert_eq!(error.code(), "invalid_platform_api_key");
}
