//! What a careless or hostile client meets.

use std::time::Duration;

use baton_protocol::limits::{SUBMIT_ITEMS_MAX, SUBMIT_UNANSWERED_MAX};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::submit_stream_result::Result as ItemResult;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::{Client, SOON, json, refused, spec};
use crate::support::Server;

fn submit() -> v1::SubmitRequest {
    v1::SubmitRequest {
        intent: Some(spec("agent://w")),
    }
}

#[tokio::test]
async fn a_key_is_asked_for() {
    let server = Server::start().await;
    let none = Client::new(&server, "").await;
    refused(
        none.intents().submit(submit()).await,
        Code::Unauthenticated,
        "missing_platform_api_key",
    );
    let wrong = Client::new(&server, "axme_sa_nobody_x").await;
    refused(
        wrong.intents().submit(submit()).await,
        Code::Unauthenticated,
        "invalid_platform_api_key",
    );
    let mut bearer = Request::new(submit());
    let token = format!("Bearer {}", crate::support::OPERATOR_TOKEN);
    bearer
        .metadata_mut()
        .insert("authorization", token.parse().unwrap());
    none.intents().submit(bearer).await.unwrap();
}

#[tokio::test]
async fn rates_are_limited_by_item() {
    let server = Server::with(|config| config.requests_per_minute = 5).await;
    let client = Client::operator(&server).await;
    for _ in 0..5 {
        client.intents().submit(submit()).await.unwrap();
    }
    let status = refused(
        client.intents().submit(submit()).await,
        Code::ResourceExhausted,
        "rate_limit_exceeded",
    );
    let delay = status
        .get_error_details()
        .retry_info()
        .unwrap()
        .retry_delay
        .unwrap();
    assert!(delay <= Duration::from_secs(60));
    let (_, token) = server.agent("worker").await;
    let client = Client::new(&server, &token).await;
    let batch = v1::SubmitBatchRequest {
        intents: vec![spec("agent://w"); 8],
    };
    let results = client
        .intents()
        .submit_batch(batch)
        .await
        .unwrap()
        .into_inner()
        .results;
    let over = results.iter().filter(|r| match r.result.as_ref().unwrap() {
        v1::submit_result::Result::Failure(f) => {
            f.code == "rate_limit_exceeded" && f.retryable && f.retry_after_ms > 0
        }
        v1::submit_result::Result::Receipt(_) => false,
    });
    assert_eq!(over.count(), 3);
}

#[tokio::test]
async fn messages_and_batches_have_an_end() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let huge = v1::SubmitBatchRequest {
        intents: vec![
            v1::IntentSpec {
                payload: Some(json(&" ".repeat(128 * 1024))),
                ..spec("w")
            };
            40
        ],
    };
    refused(
        client.intents().submit_batch(huge.clone()).await,
        Code::ResourceExhausted,
        "payload_too_large",
    );
    let many = v1::SubmitBatchRequest {
        intents: vec![v1::IntentSpec::default(); SUBMIT_ITEMS_MAX + 1],
    };
    refused(
        client.intents().submit_batch(many).await,
        Code::InvalidArgument,
        "invalid_argument",
    );

    let items = huge.intents.into_iter().map(|intent| v1::SubmitStreamItem {
        intent: Some(intent),
        ..v1::SubmitStreamItem::default()
    });
    let message = v1::SubmitStreamRequest {
        items: items.collect(),
    };
    let mut answers = client
        .intents()
        .submit_stream(tokio_stream::iter([message]))
        .await
        .unwrap()
        .into_inner();
    refused(
        timeout(SOON, answers.message()).await.unwrap(),
        Code::ResourceExhausted,
        "payload_too_large",
    );
    let items = vec![v1::SubmitStreamItem::default(); SUBMIT_ITEMS_MAX + 1];
    let message = v1::SubmitStreamRequest { items };
    let mut answers = client
        .intents()
        .submit_stream(tokio_stream::iter([message]))
        .await
        .unwrap()
        .into_inner();
    refused(
        timeout(SOON, answers.message()).await.unwrap(),
        Code::InvalidArgument,
        "invalid_argument",
    );
    // Far more than may be under way at one time, pipelined.
    let total = SUBMIT_UNANSWERED_MAX as u64 * 2;
    let messages: Vec<_> = (0..total / 512)
        .map(|m| v1::SubmitStreamRequest {
            items: (0..512)
                .map(|n| v1::SubmitStreamItem {
                    request_id: m * 512 + n,
                    intent: Some(spec("w")),
                    notify_end: false,
                })
                .collect(),
        })
        .collect();
    let mut answers = client
        .intents()
        .submit_stream(tokio_stream::iter(messages))
        .await
        .unwrap()
        .into_inner();
    let mut answered = 0;
    while let Some(answer) = timeout(SOON, answers.message()).await.unwrap().unwrap() {
        assert!(
            answer
                .results
                .iter()
                .all(|r| matches!(r.result, Some(ItemResult::Receipt(_))))
        );
        answered += answer.results.len() as u64;
    }
    assert_eq!(answered, total);
}

#[tokio::test]
async fn deadlines_are_kept() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let id = client.create("agent://w").await;
    // The library's own client would give up by itself: this deadline is the server's to keep.
    let watch = |since_seq| {
        let mut request = Request::new(v1::WatchRequest {
            intent_id: id.clone(),
            since_seq,
        });
        request
            .metadata_mut()
            .insert("grpc-timeout", "200m".parse().unwrap());
        request
    };
    let mut events = client.intents().watch(watch(2)).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().event.unwrap().seq, 3);
    refused(
        timeout(SOON, events.message()).await.unwrap(),
        Code::DeadlineExceeded,
        "timeout",
    );
}

#[tokio::test]
async fn streams_are_counted_and_given_back() {
    let server = Server::with(|config| {
        config.streams_max = 1;
        config.write_timeout_ms = 100;
    })
    .await;
    let client = Client::operator(&server).await;
    let id = client.create("agent://w").await;
    let watch = || v1::WatchRequest {
        intent_id: id.clone(),
        since_seq: 0,
    };
    let first = client.intents().watch(watch()).await.unwrap();
    refused(
        client.intents().watch(watch()).await,
        Code::Unavailable,
        "unavailable",
    );
    // The client goes away without a word.
    drop(first);
    let free = async {
        while client.intents().watch(watch()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, free).await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_stream() {
    let server = Server::with(|config| {
        config.streams_max = 1;
        config.write_timeout_ms = 100;
    })
    .await;
    let client = Client::operator(&server).await;
    let (to, requests) = mpsc::channel(1);
    let unread = client
        .intents()
        .submit_stream(ReceiverStream::new(requests))
        .await
        .unwrap();
    // Failures carry text: more of it than windows and queues hold.
    let bad = v1::IntentSpec {
        intent_type: "Bad".into(),
        ..v1::IntentSpec::default()
    };
    let items = vec![
        v1::SubmitStreamItem {
            request_id: 1,
            intent: Some(bad),
            notify_end: false
        };
        1_000
    ];
    // It goes on until the server stops reading.
    let fill = tokio::spawn(async move {
        let message = v1::SubmitStreamRequest { items };
        while to.send(message.clone()).await.is_ok() {}
    });
    // Its place is free although the client still holds on to it.
    let other = Client::operator(&server).await;
    let id = other.create("agent://w").await;
    let watch = || v1::WatchRequest {
        intent_id: id.clone(),
        since_seq: 0,
    };
    let free = async {
        while other.intents().watch(watch()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, free).await.unwrap();
    fill.abort();
    drop(unread);
}
