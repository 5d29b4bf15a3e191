//! Unary calls: repetition, failover, time, and what goes with each call.

use crate::support::{Node, World, builder, client, refusal, until};
use baton_client::{
    Client, Error, ErrorKind, IntentFilter, NewAgent, NewCallback, RetryPolicy, Status, Submit,
};
use futures::TryStreamExt as _;
use std::time::Duration;
use tonic::Code;

fn payment() -> Submit {
    Submit::new("payment", "test.v1")
}

#[tokio::test]
async fn a_submit_is_repeated_with_its_key_until_it_is_in() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.trouble([
        refusal(Code::Unavailable, "not_leader"),
        refusal(Code::DeadlineExceeded, "timeout"),
    ]);
    let receipt = client(&[&node]).submit(payment()).await.unwrap();
    assert_eq!((receipt.status, receipt.replayed), (Status::Submitted, false));
    let keys: Vec<_> = world.look(|s| s.submitted.iter().map(|i| i.idempotency_key.clone()).collect());
    assert_eq!(keys.len(), 3);
    assert!(
        keys.iter().all(|key| *key == keys[0] && key.len() == 36),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_write_without_a_key_is_repeated_only_when_nothing_can_have_happened() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    world.trouble([refusal(Code::Unavailable, "not_leader")]);
    let error = client.submit(payment().without_key()).await.unwrap_err();
    assert_eq!(error.code(), "not_leader");
    assert_eq!(world.look(|s| s.submitted.len()), 1);

    world.trouble([refusal(Code::Unavailable, "queue_full")]);
    client.submit(payment().without_key()).await.unwrap();
}

#[tokio::test]
async fn a_registration_is_repeated_under_one_key() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    let agent = |create_key| NewAgent {
        name: "n".into(),
        create_key,
        ..NewAgent::default()
    };
    world.trouble([refusal(Code::Unavailable, "not_leader")]);
    let registration = client.register_agent(agent(true)).await.unwrap();
    assert_eq!(registration.agent.address, "agent://o/w/n");
    assert_eq!(registration.api_key.as_deref(), Some("axme_new"));
    client.register_agent(agent(true)).await.unwrap();
    client.register_agent(agent(false)).await.unwrap();
    let keys = world.look(|s| s.registered.clone());
    assert_eq!(keys[0], keys[1], "the retry is the same call");
    assert!(keys[0].len() == 36 && keys[1] != keys[2], "{keys:?}");
    assert_eq!(keys[3], "", "nothing is at stake");
}

#[tokio::test]
async fn a_secret_is_rotated_with_the_overlap_asked_for() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    for (overlap, said) in [
        (None, "after None"),
        (Some(Duration::from_secs(60)), "after Some(60)"),
    ] {
        let change = client.rotate_callback_secret("n", None, overlap).await.unwrap();
        assert_eq!(change.callback_secret.as_deref(), Some(said));
        assert!(!format!("{change:?}").contains("after"), "it does not show");
    }
    let callback = NewCallback {
        url: Some("https://a.example.com".into()),
        ..NewCallback::default()
    };
    let change = client.set_callback("n", callback).await.unwrap();
    assert_eq!(
        change.agent.callback_url.as_deref(),
        Some("https://a.example.com")
    );
    assert_eq!(change.callback_secret, None);
}

#[tokio::test]
async fn refusals_come_back_at_once_with_their_name() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    let error = client.get("no-such").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "not_found"));
    assert_eq!(world.look(|s| s.calls), 1);
    let error = client
        .resolve("x", baton_client::Resolution::Canceled)
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "intent_terminal")
    );
    let bulk = client
        .bulk_cancel(IntentFilter::default(), "", 0, true)
        .await
        .unwrap();
    assert!(bulk.more && bulk.results[0].error.is_none());
    assert_eq!(bulk.results[1].error.as_ref().unwrap().code(), "intent_terminal");
}

#[tokio::test]
async fn calls_go_on_at_another_node_when_one_vanishes() {
    let world = World::new();
    let mut first = Node::start(&world).await;
    let second = Node::start(&world).await;
    let client = client(&[&first, &second]);
    let receipt = client.submit(payment()).await.unwrap();
    assert_eq!(client.endpoint(), first.uri);
    first.vanish();
    for _ in 0..20 {
        let intent = client.get(&receipt.intent_id).await.unwrap();
        assert_eq!(intent.intent_id, receipt.intent_id);
    }
    assert_eq!(client.endpoint(), second.uri);
    // A node that is gone from the start costs nothing but the look.
    let fresh = builder(&[&first, &second]).connect().await.unwrap();
    assert_eq!(fresh.endpoint(), second.uri);
}

#[tokio::test]
async fn a_node_that_never_answers_costs_its_share_of_the_time_and_no_more() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.with(|s| s.mute = true);
    let client = builder(&[&node])
        .timeout(Duration::from_millis(300))
        .attempt_timeout(Duration::from_millis(80))
        .connect_lazy()
        .unwrap();
    let error = client.get("x").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        world.look(|s| s.calls) >= 2,
        "another try was made within the time"
    );
}

#[tokio::test]
async fn with_repetitions_off_the_first_answer_counts() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = builder(&[&node])
        .retry(RetryPolicy::never())
        .connect_lazy()
        .unwrap();
    world.trouble([refusal(Code::Unavailable, "queue_full")]);
    assert_eq!(client.submit(payment()).await.unwrap_err().code(), "queue_full");
}

#[tokio::test]
async fn the_key_and_the_trace_go_with_every_call() {
    let world = World::new();
    let node = Node::start(&world).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let client = builder(&[&node])
        .traceparent_source(move || Some(trace.to_owned()))
        .connect_lazy()
        .unwrap();
    client.submit(payment()).await.unwrap();
    let (key, header, deadline, spec) = world.look(|s| {
        let text = |name: &str| s.metadata.get(name).unwrap().to_str().unwrap().to_owned();
        (
            text("x-api-key"),
            text("traceparent"),
            text("grpc-timeout"),
            s.submitted[0].clone(),
        )
    });
    assert_eq!((key.as_str(), header.as_str()), ("axme_test", trace));
    assert_eq!(spec.traceparent, trace);
    assert!(!deadline.is_empty());
    assert_eq!(spec.idempotency_scope, 2, "by recipient unless said otherwise");
}

#[tokio::test]
async fn a_batch_answers_each_and_repeats_what_may_still_succeed() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.trouble([
        refusal(Code::Unavailable, "queue_full"),
        refusal(Code::InvalidArgument, "invalid_argument"),
    ]);
    let results = client(&[&node]).submit_batch((0..600).map(|_| payment())).await;
    assert_eq!(results.len(), 600);
    assert!(results[0].is_ok(), "a full queue passes");
    assert_eq!(results[1].as_ref().unwrap_err().code(), "invalid_argument");
    assert!(results[2..].iter().all(Result::is_ok));
    assert_eq!(world.look(|s| s.intents.len()), 599);
}

#[tokio::test]
async fn lists_come_page_by_page_or_one_by_one() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    for result in client.submit_batch((0..5).map(|_| payment())).await {
        result.unwrap();
    }
    let mut pages = client.list(IntentFilter::default()).page_size(2);
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        sizes.push(page.len());
    }
    assert_eq!(sizes, [2, 2, 1]);
    let stream = client.list(IntentFilter::default()).page_size(3).into_stream();
    let all: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(all.len(), 5);
    let names: Vec<_> = client
        .list_agents()
        .await
        .unwrap()
        .into_iter()
        .map(|a| a.name)
        .collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(client.backlog("a").await.unwrap().open_deliveries, 7);
}

#[tokio::test]
async fn waiting_ends_with_the_intent_or_with_the_time() {
    let world = World::new();
    let node = Node::start(&world).await;
    let client = client(&[&node]);
    let id = client.submit(payment()).await.unwrap().intent_id;
    let error = client.wait_for(&id, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("CREATED"), "{error}");
    let waiting = tokio::spawn({
        let (client, id) = (client.clone(), id.clone());
        async move { client.wait_for(&id, Duration::from_secs(60)).await }
    });
    client.cancel(&id).reason("enough").send().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().status, Status::Canceled);
    until(&world, "the cancel", |s| s.intents[&id].last_seq == 2).await;
}

#[tokio::test]
async fn a_lazy_client_needs_no_node_before_its_first_call() {
    let client = Client::builder()
        .endpoints(["127.0.0.1:1"])
        .timeout(Duration::from_millis(200))
        .connect_lazy()
        .unwrap();
    let error = client.get("x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "unreachable")
    );
    assert!(error.retryable());
}
