//! Callbacks of agents, and schemas of payloads.

use baton_protocol::proto::v1;
use tonic::Code;

use super::{Client, refused, spec};
use crate::support::{OTHER_TOKEN, Server};

const URL: &str = "https://agent.example.com/intents";

#[tokio::test]
async fn a_callback_is_set_and_its_secret_shown_once_and_rotated() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let register = v1::RegisterAgentRequest {
        name: "pushed".into(),
        delivery_mode: "http".into(),
        callback_url: URL.into(),
        idempotency_key: "r1".into(),
        ..v1::RegisterAgentRequest::default()
    };
    let made = client
        .agents()
        .register_agent(register.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(made.callback_secret.starts_with("whsec_"));
    assert_eq!(made.agent.as_ref().unwrap().callback_url, URL);
    let again = client
        .agents()
        .register_agent(register.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.callback_secret, made.callback_secret);
    let address = made.agent.unwrap().address;
    let get = v1::GetAgentRequest {
        address: address.clone(),
    };
    let shown = client
        .agents()
        .get_agent(get)
        .await
        .unwrap()
        .into_inner()
        .agent
        .unwrap();
    assert_eq!(shown.callback_url, URL);
    assert!(shown.callback_secret_set_at_ms > 0);

    let rotate = |secret: &str, overlap: Option<u32>, key: &str| v1::RotateCallbackSecretRequest {
        agent: "pushed".into(),
        callback_secret: secret.into(),
        overlap_seconds: overlap,
        idempotency_key: key.into(),
    };
    let drawn = client
        .agents()
        .rotate_callback_secret(rotate("", None, "k1"))
        .await
        .unwrap()
        .into_inner();
    assert!(drawn.callback_secret.starts_with("whsec_") && drawn.callback_secret != made.callback_secret);
    let repeated = client
        .agents()
        .rotate_callback_secret(rotate("", None, "k1"))
        .await
        .unwrap();
    assert_eq!(repeated.into_inner().callback_secret, drawn.callback_secret);
    let given = client
        .agents()
        .rotate_callback_secret(rotate("0123456789abcdef", Some(0), ""))
        .await;
    assert_eq!(given.unwrap().into_inner().callback_secret, "0123456789abcdef");
    for wrong in [rotate("short", None, ""), rotate("", Some(31 * 24 * 3_600), "")] {
        refused(
            client.agents().rotate_callback_secret(wrong).await,
            Code::InvalidArgument,
            "invalid_argument",
        );
    }
    let set = |url: Option<&str>, mode: Option<&str>| v1::SetCallbackRequest {
        agent: address.clone(),
        callback_url: url.map(str::to_owned),
        delivery_mode: mode.map(str::to_owned),
        idempotency_key: String::new(),
    };
    let moved = client
        .agents()
        .set_callback(set(Some("https://b.example.com/"), None))
        .await;
    let moved = moved.unwrap().into_inner();
    assert_eq!(moved.callback_secret, "", "it stays");
    let moved = moved.agent.unwrap();
    assert_eq!(
        (moved.callback_url.as_str(), moved.delivery_mode.as_str()),
        ("https://b.example.com/", "http")
    );
    let off = client.agents().set_callback(set(Some(""), Some("stream"))).await;
    let off = off.unwrap().into_inner().agent.unwrap();
    assert_eq!(
        (off.callback_url.as_str(), off.delivery_mode.as_str()),
        ("", "stream")
    );
    refused(
        client.agents().set_callback(set(Some("ftp://x"), None)).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let stranger = Client::new(&server, OTHER_TOKEN).await;
    let foreign = stranger
        .agents()
        .set_callback(set(Some(URL), None))
        .await
        .unwrap_err();
    assert!(
        matches!(foreign.code(), Code::PermissionDenied | Code::NotFound),
        "{foreign:?}"
    );
}

#[tokio::test]
async fn a_schema_is_set_read_and_enforced() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let put = |document: &str, mode: v1::SchemaMode| v1::PutSchemaRequest {
        semantic_type: "acme.payment.capture.v1".into(),
        document_json: document.to_owned().into(),
        mode: mode.into(),
        ..v1::PutSchemaRequest::default()
    };
    let strict = v1::SchemaMode::Strict;
    let document =
        r#"{"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}"#;
    let set = client
        .schemas()
        .put_schema(put(document, strict))
        .await
        .unwrap()
        .into_inner()
        .schema
        .unwrap();
    assert_eq!(
        (set.schema_hash.len(), set.mode(), set.active),
        (64, strict, true)
    );
    assert!(set.document_json.is_empty());
    let get = |semantic_type: &str| v1::GetSchemaRequest {
        semantic_type: semantic_type.into(),
    };
    let got = client
        .schemas()
        .get_schema(get("acme.payment.capture.v1"))
        .await
        .unwrap()
        .into_inner();
    let got = got.schema.unwrap();
    assert_eq!(got.schema_hash, set.schema_hash);
    assert!(got.document_json.starts_with(br#"{"properties":{"amount""#));
    let paying = |payload: &'static str| v1::SubmitRequest {
        intent: Some(v1::IntentSpec {
            intent_type: "acme.payment.capture.v1".into(),
            payload: Some(super::json(payload)),
            ..spec("agent://w")
        }),
    };
    refused(
        client.intents().submit(paying("{}")).await,
        Code::InvalidArgument,
        "schema_invalid",
    );
    client.intents().submit(paying(r#"{"amount":1}"#)).await.unwrap();
    let narrower = document.replace("integer\"}", "integer\"}, \"to\": {\"type\": \"string\"}");
    let narrower = narrower.replace("[\"amount\"]", "[\"amount\", \"to\"]");
    refused(
        client.schemas().put_schema(put(&narrower, strict)).await,
        Code::AlreadyExists,
        "conflict",
    );
    for (wrong, code, reason) in [
        (put("[]", strict), Code::InvalidArgument, "invalid_argument"),
        (put("", strict), Code::InvalidArgument, "invalid_argument"),
        (
            put("{}", v1::SchemaMode::Unspecified),
            Code::InvalidArgument,
            "invalid_argument",
        ),
        (
            put(r#"{"type": 7}"#, strict),
            Code::InvalidArgument,
            "schema_invalid",
        ),
    ] {
        refused(client.schemas().put_schema(wrong).await, code, reason);
    }
    refused(
        client.schemas().get_schema(get("no.such.v1")).await,
        Code::NotFound,
        "not_found",
    );
}
