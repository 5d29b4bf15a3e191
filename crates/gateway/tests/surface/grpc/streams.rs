//! `SubmitStream`, `Watch` and `WaitFor`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::submit_stream_result::Result as ItemResult;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{Client, SOON, refused, spec};
use crate::support::Server;

/// One `SubmitStream` from the client's side.
struct Submits {
    to: Option<mpsc::Sender<v1::SubmitStreamRequest>>,
    from: Streaming<v1::SubmitStreamResponse>,
    results: BTreeMap<u64, ItemResult>,
    ended: BTreeMap<u64, v1::IntentEnded>,
}

impl Submits {
    async fn open(client: &Client) -> Self {
        let (to, requests) = mpsc::channel(64);
        let from = client
            .intents()
            .submit_stream(ReceiverStream::new(requests))
            .await
            .unwrap();
        Self {
            to: Some(to),
            from: from.into_inner(),
            results: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    async fn send(&self, items: Vec<v1::SubmitStreamItem>) {
        let message = v1::SubmitStreamRequest { items };
        self.to.as_ref().unwrap().send(message).await.unwrap();
    }

    /// Takes one answer; `false` at the end of the stream. An end never comes before its receipt.
    async fn take(&mut self) -> bool {
        let Some(message) = timeout(SOON, self.from.message()).await.unwrap().unwrap() else {
            return false;
        };
        for result in message.results {
            assert!(
                self.results
                    .insert(result.request_id, result.result.unwrap())
                    .is_none()
            );
        }
        for ended in message.ended {
            assert!(self.results.contains_key(&ended.request_id));
            assert!(self.ended.insert(ended.request_id, ended).is_none());
        }
        true
    }

    fn id(&self, request_id: u64) -> String {
        match &self.results[&request_id] {
            ItemResult::Receipt(receipt) => receipt.intent_id.clone(),
            ItemResult::Failure(failure) => panic!("{failure:?}"),
        }
    }
}

fn item(request_id: u64, to_agent: &str, notify_end: bool) -> v1::SubmitStreamItem {
    v1::SubmitStreamItem {
        request_id,
        intent: Some(spec(to_agent)),
        notify_end,
    }
}

#[tokio::test]
async fn a_stream_answers_every_item_and_tells_of_ends() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let mut submits = Submits::open(&client).await;
    for message in 0..10 {
        let items = (0..100).map(|n| item(message * 100 + n, &format!("agent://w{n}"), n % 2 == 0));
        submits.send(items.collect()).await;
    }
    let mut bad = item(5_000, "agent://w", true);
    bad.intent.as_mut().unwrap().intent_type = "bad".into();
    submits.send(vec![bad]).await;
    while submits.results.len() < 1_001 {
        assert!(submits.take().await);
    }
    assert!(matches!(&submits.results[&5_000], ItemResult::Failure(f) if f.code == "schema_invalid"));
    let distinct: BTreeSet<String> = (0..1_000).map(|n| submits.id(n)).collect();
    assert_eq!(distinct.len(), 1_000);
    assert!(submits.ended.is_empty());
    // Half-closed: what is due still comes.
    submits.to = None;
    for n in 0..1_000 {
        client.complete(&submits.id(n)).await;
    }
    while submits.take().await {}
    assert_eq!(submits.ended.len(), 500);
    for (request_id, ended) in &submits.ended {
        assert_eq!(request_id % 2, 0);
        assert_eq!(
            (ended.status(), &ended.intent_id),
            (v1::Status::Completed, &submits.id(*request_id))
        );
        let result = ended.outcome.clone().unwrap().result.unwrap();
        assert_eq!(result.data.as_ref(), br#"{"done":true}"#);
    }
}

#[tokio::test]
async fn the_end_of_a_replayed_intent_is_told_too() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let mut submits = Submits::open(&client).await;
    for (request_id, scope) in [
        (1, v1::IdempotencyScope::Caller),
        (2, v1::IdempotencyScope::Recipient),
    ] {
        let keyed = |request_id| {
            let mut item = item(request_id, "agent://somebody", true);
            let intent = item.intent.as_mut().unwrap();
            intent.idempotency_key = "once".into();
            intent.idempotency_scope = scope.into();
            item
        };
        submits.send(vec![keyed(request_id)]).await;
        while !submits.results.contains_key(&request_id) {
            submits.take().await;
        }
        let id = submits.id(request_id);
        // Open still, and over already.
        submits.send(vec![keyed(request_id + 10)]).await;
        while !submits.results.contains_key(&(request_id + 10)) {
            submits.take().await;
        }
        client.complete(&id).await;
        submits.send(vec![keyed(request_id + 20)]).await;
        while submits.ended.len() < 3 {
            assert!(submits.take().await);
        }
        for ended in std::mem::take(&mut submits.ended).into_values() {
            assert_eq!(ended.intent_id, id);
        }
    }
    submits.to = None;
    assert!(!submits.take().await, "nothing is due");
}

#[tokio::test]
async fn a_watch_resumes_and_ends_with_the_intent() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let id = client.create("agent://w").await;
    let watch = |since_seq| v1::WatchRequest {
        intent_id: id.clone(),
        since_seq,
    };
    let mut events = client.intents().watch(watch(1)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = timeout(SOON, events.message()).await.unwrap().unwrap() {
        let event = message.event.unwrap();
        seen.push((event.seq, event.event_type));
        if seen.len() == 2 {
            client.complete(&id).await;
        }
    }
    let seen: Vec<(u32, &str)> = seen.iter().map(|(seq, name)| (*seq, name.as_str())).collect();
    assert_eq!(
        seen,
        [
            (2, "intent.submitted"),
            (3, "intent.delivered"),
            (4, "intent.completed")
        ]
    );
    for since in [4, 99] {
        let mut rest = client.intents().watch(watch(since)).await.unwrap().into_inner();
        assert_eq!(timeout(SOON, rest.message()).await.unwrap().unwrap(), None);
    }
    let unknown = v1::WatchRequest {
        intent_id: uuid::Uuid::nil().to_string(),
        since_seq: 0,
    };
    refused(client.intents().watch(unknown).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn a_wait_ends_with_the_intent_or_the_time() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let id = client.create("agent://w").await;
    let wait = |wait_ms| v1::WaitForRequest {
        intent_id: id.clone(),
        wait_ms,
    };
    let early = client.intents().wait_for(wait(30)).await.unwrap().into_inner();
    assert!(!early.terminal);
    assert_eq!(early.intent.unwrap().status(), v1::Status::Delivered);
    // Without a time of its own it answers within the deadline of the call.
    let mut request = tonic::Request::new(wait(0));
    request.set_timeout(Duration::from_secs(3));
    assert!(
        !client
            .intents()
            .wait_for(request)
            .await
            .unwrap()
            .into_inner()
            .terminal
    );
    let mut intents = client.intents();
    let long = wait(60_000);
    let waiting = tokio::spawn(async move { intents.wait_for(long).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    client.complete(&id).await;
    let over = timeout(SOON, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .into_inner();
    assert!(over.terminal);
    assert_eq!(over.intent.unwrap().status(), v1::Status::Completed);
}

#[tokio::test]
async fn streams_end_with_the_key_and_with_the_node() {
    let server = Server::start().await;
    let (account, token) = server.agent("worker").await;
    let client = Client::operator(&server).await;
    let agent = Client::new(&server, &token).await;
    let id = client.create(account["address"].as_str().unwrap()).await;
    let watch = v1::WatchRequest {
        intent_id: id,
        since_seq: 3,
    };
    let mut theirs = agent.intents().watch(watch.clone()).await.unwrap().into_inner();
    let mut ours = client.intents().watch(watch).await.unwrap().into_inner();
    let mut submits = Submits::open(&agent).await;
    let account_id = account["service_account_id"].as_str().unwrap();
    let key = server.node.key_ids(account_id).remove(0);
    let path = format!("/v1/service-accounts/{account_id}/keys/{key}/revoke");
    server.post(&path, serde_json::json!({})).await.ok();
    let ended = timeout(SOON, theirs.message()).await.unwrap();
    refused(ended, Code::Unauthenticated, "invalid_platform_api_key");
    let ended = timeout(SOON, submits.from.message()).await.unwrap();
    refused(ended, Code::Unauthenticated, "invalid_platform_api_key");
    server.shutdown.cancel();
    let ended = timeout(SOON, ours.message()).await.unwrap();
    refused(ended, Code::Unavailable, "shutting_down");
    drop((theirs, ours, submits, agent, client));
    server.stop().await;
}
