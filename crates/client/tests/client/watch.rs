//! Watching one intent.

use crate::support::{Node, World, client, refusal, until};
use baton_client::{ErrorKind, Status, Submit};
use baton_protocol::proto::v1;
use futures::TryStreamExt as _;
use tonic::Code;

#[tokio::test]
async fn events_come_once_and_in_order_whatever_the_streams_do() {
    let world = World::new();
    let mut first = Node::start(&world).await;
    let second = Node::start(&world).await;
    let client = client(&[&first, &second]);
    let submit = Submit::new("payment", "test.v1");
    let id = client.submit(submit).await.unwrap().intent_id;
    world.with(|s| {
        s.watch_events_max = 2;
        s.append(&id, v1::Status::Submitted);
        s.append(&id, v1::Status::Delivered);
    });
    let mut watch = client.watch(&id);
    let mut seqs = Vec::new();
    for _ in 0..3 {
        seqs.push(watch.next().await.unwrap().unwrap().seq);
    }
    world.with(|s| s.watch_events_max = 0);
    first.vanish();
    world.trouble([refusal(Code::Unavailable, "stale_replica")]);
    let rest = tokio::spawn(watch.try_collect::<Vec<_>>());
    until(&world, "the watch at the second node", |s| {
        s.watches.last() == Some(&3)
    })
    .await;
    world.with(|s| {
        s.append(&id, v1::Status::InProgress);
        s.append(&id, v1::Status::Completed);
    });
    let rest = rest.await.unwrap().unwrap();
    seqs.extend(rest.iter().map(|event| event.seq));
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert_eq!(rest.last().unwrap().status, Status::Completed);
    assert!(
        world.look(|s| s.watches.contains(&2)),
        "it went on after the last one seen"
    );
}

#[tokio::test]
async fn a_watch_of_nothing_says_so_once_and_ends() {
    let world = World::new();
    let node = Node::start(&world).await;
    let mut watch = client(&[&node]).watch("no-such");
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_may_begin_after_what_is_known() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    let id = client.submit(Submit::new("a", "t")).await.unwrap().intent_id;
    world.with(|s| s.append(&id, v1::Status::Completed));
    let events: Vec<_> = client.watch_from(&id, 1).try_collect().await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].seq, 2);
}
