//! What answers say about leaders decides where the next call about the same agent goes.

use crate::support::{Node, World, client, refusal, until};
use baton_client::{CancellationToken, Client, Submit};
use tonic::Code;

async fn submit(client: &Client, agent: &str) {
    client
        .submit(Submit::new(agent, "intent.payment.v1"))
        .await
        .unwrap();
}

fn asked(world: &World) -> Vec<String> {
    world.with(|s| std::mem::take(&mut s.asked))
}

#[tokio::test]
async fn the_next_submit_for_an_agent_goes_to_its_leader() {
    let world = World::new();
    let (first, mut second) = (Node::start(&world).await, Node::start(&world).await);
    let client = client(&[&first, &second]);
    let (a, b) = (first.address().to_owned(), second.address().to_owned());
    world.with(|s| s.leaders.insert("payment".into(), b.clone()));
    submit(&client, "payment").await;
    submit(&client, "payment").await;
    submit(&client, "invoice").await;
    submit(&client, "payment").await;
    assert_eq!(asked(&world), [&a, &b, &a, &b].map(String::clone));
    assert_eq!(client.endpoint(), first.uri, "everything else stays where it was");

    // It moves, and the node that led says so.
    world.with(|s| s.leaders.insert("payment".into(), a.clone()));
    submit(&client, "payment").await;
    submit(&client, "payment").await;
    assert_eq!(asked(&world), [&b, &a].map(String::clone));

    // A refusal names it too.
    world.with(|s| s.leaders.insert("payment".into(), b.clone()));
    world.trouble([refusal(Code::Unavailable, "queue_full")]);
    submit(&client, "payment").await;
    assert_eq!(asked(&world), [&a, &b].map(String::clone));

    // A leader that is gone is left for one that works.
    second.vanish();
    world.with(|s| s.leaders.clear());
    submit(&client, "payment").await;
    submit(&client, "payment").await;
    assert_eq!(asked(&world), [&a, &a].map(String::clone));
}

#[tokio::test]
async fn a_leader_that_is_none_of_the_endpoints_is_not_called() {
    let world = World::new();
    let (known, stranger) = (Node::start(&world).await, Node::start(&world).await);
    let client = client(&[&known]);
    world.with(|s| s.leaders.insert("payment".into(), stranger.address().to_owned()));
    submit(&client, "payment").await;
    submit(&client, "payment").await;
    assert_eq!(asked(&world), [known.address(), known.address()]);
}

#[tokio::test]
async fn a_submitter_sends_each_intent_to_the_leader_of_its_agent() {
    let world = World::new();
    let (first, mut second) = (Node::start(&world).await, Node::start(&world).await);
    let client = client(&[&first, &second]);
    let (a, b) = (first.address().to_owned(), second.address().to_owned());
    world.with(|s| s.leaders.insert("payment".into(), b.clone()));
    let submitter = client.submitter().open();
    for agent in ["payment", "payment", "invoice", "payment"] {
        let submit = Submit::new(agent, "intent.payment.v1");
        submitter.submit(submit).await.unwrap().await.unwrap();
    }
    assert_eq!(asked(&world), [&a, &b, &a, &b].map(String::clone));

    // A leader that is gone is left for one that works.
    second.vanish();
    world.with(|s| s.leaders.clear());
    for _ in 0..2 {
        let submit = Submit::new("payment", "intent.payment.v1");
        submitter.submit(submit).await.unwrap().await.unwrap();
    }
    assert_eq!(asked(&world), [&a, &a].map(String::clone));
    submitter.close().await.unwrap();
}

#[tokio::test]
async fn a_submitter_leaves_a_leader_that_answers_but_cannot_commit() {
    let world = World::new();
    let (first, second) = (Node::start(&world).await, Node::start(&world).await);
    let client = client(&[&first, &second]);
    let submitter = client.submitter().open();
    let submit = || Submit::new("payment", "intent.payment.v1");
    world.with(|s| s.leaders.insert("payment".into(), second.address().to_owned()));
    submitter.submit(submit()).await.unwrap().await.unwrap();
    // Cut off from its peers: it refuses everything, and so does nobody else.
    let refuse = || refusal(Code::Unavailable, "not_leader");
    world.with(|s| s.cut_off = Some((second.address().to_owned(), refuse())));
    submitter.submit(submit()).await.unwrap().await.unwrap();
    let asked = asked(&world);
    assert_eq!(
        asked.last().map(String::as_str),
        Some(first.address()),
        "{asked:?}"
    );
    submitter.close().await.unwrap();
}

#[tokio::test]
async fn a_worker_works_at_its_leader_and_elsewhere_when_that_is_gone() {
    let world = World::new();
    let (first, second) = (Node::start(&world).await, Node::start(&world).await);
    let mut third = Node::start(&world).await;
    // The leader is the last that would be tried in turn.
    world.with(|s| s.leaders.insert("payment".into(), third.address().to_owned()));
    let stop = CancellationToken::new();
    let client = client(&[&first, &second, &third]);
    let worker = client.worker("payment").shutdown(stop.clone());
    let running = tokio::spawn(worker.run(|_| async { Ok(()) }));
    until(&world, "the stream at the leader", |s| s.work_streams == 2).await;
    world.offer(["one".to_owned()]);
    until(&world, "the first item", |s| s.given.values().any(|g| g.over)).await;
    let leader = third.address().to_owned();
    third.vanish();
    world.with(|s| s.leaders.clear());
    until(&world, "the third stream", |s| s.work_streams == 3).await;
    world.offer(["two".to_owned()]);
    until(&world, "the second item", |s| {
        s.given.len() == 2 && s.given.values().all(|g| g.over)
    })
    .await;
    assert_eq!(asked(&world), [first.address(), &leader, first.address()]);
    stop.cancel();
    running.await.unwrap().unwrap();
}
