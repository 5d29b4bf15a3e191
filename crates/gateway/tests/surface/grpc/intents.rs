//! Unary calls on intents.

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::resume_request::Action;
use baton_protocol::proto::v1::submit_result;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::{Client, json, refused, spec};
use crate::support::{OTHER_TOKEN, Server};

fn submit(intent: v1::IntentSpec) -> v1::SubmitRequest {
    v1::SubmitRequest { intent: Some(intent) }
}

fn get(intent_id: &str) -> v1::GetIntentRequest {
    v1::GetIntentRequest {
        intent_id: intent_id.to_owned(),
        without_payload: false,
    }
}

#[tokio::test]
async fn an_intent_lives_from_submit_to_its_outcome() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let deadline = 4_102_444_800_000;
    let mut request = Request::new(submit(v1::IntentSpec {
        correlation_id: "6f1c1f0e-7a55-4c0e-9b5b-0d3f5a5d8f11".into(),
        from_agent: "agent://x/y".into(),
        reply_to: "agent://owner".into(),
        deadline_at_ms: deadline,
        max_delivery_attempts: 7,
        payload: Some(v1::Payload {
            data: vec![0, 159, 146, 150].into(),
            content_type: "application/octet-stream".into(),
        }),
        ..spec("agent://worker")
    }));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    let receipt = client
        .intents()
        .submit(request)
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap();
    assert_eq!(
        (receipt.status(), receipt.replayed),
        (v1::Status::Delivered, false)
    );

    let got = client
        .intents()
        .get_intent(get(&receipt.intent_id))
        .await
        .unwrap()
        .into_inner();
    let intent = got.intent.unwrap();
    assert_eq!(intent.intent_id, receipt.intent_id);
    assert_eq!(intent.to_agent, "agent://acme/prod/worker");
    assert_eq!(intent.from_agent, "agent://x/y");
    assert_eq!(intent.reply_to, "agent://acme/prod/owner");
    assert_eq!(
        (intent.deadline_at_ms, intent.max_delivery_attempts),
        (deadline, 7)
    );
    assert_eq!((intent.last_seq, intent.traceparent.as_str()), (3, parent));
    assert_eq!(intent.payload.unwrap().data.as_ref(), [0, 159, 146, 150]);
    assert_eq!(intent.outcome, None);

    let resume = v1::ResumeRequest {
        intent_id: receipt.intent_id.clone(),
        action: Some(Action::Result(json(r#"{"ok":true}"#))),
        ..v1::ResumeRequest::default()
    };
    let done = client.intents().resume(resume).await.unwrap().into_inner();
    assert_eq!(done.event.unwrap().event_type, "intent.completed");
    let intent = done.intent.unwrap();
    assert_eq!(intent.status(), v1::Status::Completed);
    assert_eq!(
        intent.outcome.unwrap().result.unwrap().data.as_ref(),
        br#"{"ok":true}"#
    );
    // The same over HTTP.
    let body = server
        .get(&format!("/v1/intents/{}", receipt.intent_id))
        .await
        .ok();
    assert_eq!(body["intent"]["status"], "COMPLETED");
    assert_eq!(body["intent"]["result"]["ok"], true);

    let brief = v1::GetIntentRequest {
        without_payload: true,
        ..get(&receipt.intent_id)
    };
    let intent = client
        .intents()
        .get_intent(brief)
        .await
        .unwrap()
        .into_inner()
        .intent
        .unwrap();
    assert_eq!(intent.payload, None);
    assert!(intent.outcome.is_some());
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let mut intents = client.intents();
    let wrong = [
        (
            v1::IntentSpec {
                intent_type: String::new(),
                ..spec("w")
            },
            "invalid_argument",
            "intent_type",
        ),
        (
            v1::IntentSpec {
                intent_type: "No".into(),
                ..spec("w")
            },
            "schema_invalid",
            "intent_type",
        ),
        (
            v1::IntentSpec {
                correlation_id: "x".into(),
                ..spec("w")
            },
            "invalid_argument",
            "correlation_id",
        ),
        (
            v1::IntentSpec {
                traceparent: "x".into(),
                ..spec("w")
            },
            "invalid_argument",
            "traceparent",
        ),
        (
            v1::IntentSpec {
                to_agent: "w".repeat(400),
                ..spec("w")
            },
            "invalid_argument",
            "to_agent",
        ),
        (
            v1::IntentSpec {
                idempotency_key: "k".repeat(256),
                ..spec("w")
            },
            "invalid_argument",
            "idempotency_key",
        ),
    ];
    for (intent, reason, field) in wrong {
        let status = refused(
            intents.submit(submit(intent)).await,
            Code::InvalidArgument,
            reason,
        );
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let nobody = intents.submit(submit(spec(""))).await;
    refused(nobody, Code::InvalidArgument, "invalid_agent_address");
    let large = v1::Payload {
        data: vec![b' '; 131_073].into(),
        ..v1::Payload::default()
    };
    let large = submit(v1::IntentSpec {
        payload: Some(large),
        ..spec("w")
    });
    refused(
        intents.submit(large).await,
        Code::ResourceExhausted,
        "payload_too_large",
    );
    refused(
        intents.submit(v1::SubmitRequest::default()).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    for id in ["nonsense", "00000000-0000-8000-8000-000000000000"] {
        refused(intents.get_intent(get(id)).await, Code::NotFound, "not_found");
    }

    let id = client.create("agent://w").await;
    let nothing = v1::ResumeRequest {
        intent_id: id.clone(),
        ..v1::ResumeRequest::default()
    };
    refused(
        intents.resume(nothing).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let open = v1::ResolveRequest {
        intent_id: id.clone(),
        status: v1::Status::Waiting.into(),
        ..v1::ResolveRequest::default()
    };
    refused(
        intents.resolve(open).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let stale = v1::ResolveRequest {
        intent_id: id.clone(),
        status: v1::Status::Completed.into(),
        expected_policy_generation: Some(99),
        ..v1::ResolveRequest::default()
    };
    refused(
        intents.resolve(stale).await,
        Code::FailedPrecondition,
        "policy_generation_mismatch",
    );
    client.complete(&id).await;
    let again = v1::CancelRequest {
        intent_id: id.clone(),
        ..v1::CancelRequest::default()
    };
    let status = refused(
        intents.cancel(again).await,
        Code::FailedPrecondition,
        "intent_terminal",
    );
    assert!(status.get_error_details().precondition_failure().is_some());

    let stranger = Client::new(&server, OTHER_TOKEN).await;
    refused(
        stranger.intents().get_intent(get(&id)).await,
        Code::NotFound,
        "not_found",
    );
}

#[tokio::test]
async fn keys_make_calls_count_once() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    for scope in [v1::IdempotencyScope::Caller, v1::IdempotencyScope::Recipient] {
        let keyed = |to: &str, n: u32| {
            submit(v1::IntentSpec {
                idempotency_key: format!("key-{scope:?}"),
                idempotency_scope: scope.into(),
                max_delivery_attempts: n,
                ..spec(to)
            })
        };
        // Recipients in every group of the node.
        for to in ["agent://a", "agent://bb", "agent://ccc", "agent://dddd"] {
            let first = client.intents().submit(keyed(to, 1)).await;
            if scope == v1::IdempotencyScope::Caller && to != "agent://a" {
                refused(first, Code::AlreadyExists, "idempotency_conflict");
                continue;
            }
            let first = first.unwrap().into_inner().receipt.unwrap();
            let again = client
                .intents()
                .submit(keyed(to, 1))
                .await
                .unwrap()
                .into_inner()
                .receipt
                .unwrap();
            assert_eq!((&again.intent_id, again.replayed), (&first.intent_id, true));
            let other = client.intents().submit(keyed(to, 2)).await;
            refused(other, Code::AlreadyExists, "idempotency_conflict");
        }
    }
    let id = client.create("agent://w").await;
    let cancel = || v1::CancelRequest {
        intent_id: id.clone(),
        reason: "enough".into(),
        idempotency_key: "c".into(),
    };
    let first = client.intents().cancel(cancel()).await.unwrap().into_inner();
    assert_eq!(
        (first.replayed, first.event.as_ref().unwrap().reason.as_str()),
        (false, "enough")
    );
    let again = client.intents().cancel(cancel()).await.unwrap().into_inner();
    assert!(again.replayed);
    assert_eq!(again.event, first.event);
    let other = v1::CancelRequest {
        reason: "other".into(),
        ..cancel()
    };
    refused(
        client.intents().cancel(other).await,
        Code::AlreadyExists,
        "idempotency_conflict",
    );
}

#[tokio::test]
async fn a_batch_answers_each_item_by_itself() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let mut intents: Vec<_> = (0..100).map(|n| spec(&format!("agent://w{}", n % 7))).collect();
    intents[3].intent_type = "bad".into();
    let request = v1::SubmitBatchRequest { intents };
    let results = client
        .intents()
        .submit_batch(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(results.len(), 100);
    for (index, result) in results.into_iter().enumerate() {
        match result.result.unwrap() {
            submit_result::Result::Failure(failure) => {
                assert_eq!(
                    (index, failure.code.as_str(), failure.grpc_code),
                    (3, "schema_invalid", 3)
                );
                assert!(!failure.retryable);
            }
            submit_result::Result::Receipt(receipt) => {
                let got = client.intents().get_intent(get(&receipt.intent_id)).await;
                let to = got.unwrap().into_inner().intent.unwrap().to_agent;
                assert_eq!(to, format!("agent://acme/prod/w{}", index % 7));
            }
        }
    }
}

#[tokio::test]
async fn a_resume_answers_the_human_task_of_an_intent() {
    let server = Server::start().await;
    let asking = serde_json::json!({"intent_type": "deploy.approval.v1", "human_task": {"title": "Well?"}});
    let created = server.post("/v1/intents", asking).await.ok();
    let client = Client::operator(&server).await;
    let answer = |task_result: &'static str| {
        let request = v1::ResumeRequest {
            intent_id: created["intent_id"].as_str().unwrap().to_owned(),
            action: Some(Action::TaskResult(json(task_result))),
            ..v1::ResumeRequest::default()
        };
        let mut intents = client.intents();
        async move { intents.resume(request).await }
    };
    let maybe = answer(r#"{"outcome":"maybe"}"#).await;
    refused(maybe, Code::InvalidArgument, "task_result_invalid");
    let done = answer(r#"{"outcome":"approved"}"#).await.unwrap().into_inner();
    assert_eq!(done.intent.unwrap().status(), v1::Status::Completed);
    server.stop().await;
}
