//! Schemas of payloads over HTTP.

use super::support::{OTHER_TOKEN, Server, intent_to};
use serde_json::{Value, json};

const TYPE: &str = "intent.payment.capture.v1";

fn upsert(document: &Value, mode: &str) -> Value {
    json!({"semantic_type": TYPE, "schema_json": document, "compatibility_mode": mode})
}

fn payment(payload: Value) -> Value {
    let mut intent = intent_to("agent://conformance/payments");
    intent["intent_type"] = json!(TYPE);
    intent["payload"] = payload;
    intent
}

fn amount() -> Value {
    json!({"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "minimum": 1}}})
}

#[tokio::test]
async fn a_schema_is_stored_once_and_read_back() {
    let server = Server::start().await;
    let set = server.post("/v1/schemas", upsert(&amount(), "strict")).await.ok();
    let schema = &set["schema"];
    assert_eq!(schema["semantic_type"], TYPE);
    assert_eq!(
        (&schema["scope"], &schema["active"]),
        (&json!("tenant"), &json!(true))
    );
    assert_eq!(schema["schema_hash"].as_str().unwrap().len(), 64);
    assert!(schema.get("schema_json").is_none());
    let again = server.post("/v1/schemas", upsert(&amount(), "strict")).await.ok();
    assert_eq!(again["schema"]["schema_hash"], schema["schema_hash"]);
    let got = server.get(&format!("/v1/schemas/{TYPE}")).await.ok();
    assert_eq!(got["schema"]["schema_json"], amount());
    let other = server.get_as(&format!("/v1/schemas/{TYPE}"), OTHER_TOKEN).await;
    other.refused(404);
}

#[tokio::test]
async fn payloads_are_checked_as_the_mode_says() {
    let server = Server::start().await;
    server.post("/v1/intents", payment(json!({}))).await.ok();
    server.post("/v1/schemas", upsert(&amount(), "strict")).await.ok();
    let wrong = server.post("/v1/intents", payment(json!({"amount": 0}))).await;
    assert!(wrong.json()["detail"].as_str().unwrap().contains("amount"));
    assert_eq!(wrong.refused(422), "schema_invalid");
    server
        .post("/v1/intents", payment(json!({"amount": 3})))
        .await
        .ok();
    // Another workspace has none.
    server
        .post_as("/v1/intents", payment(json!({"amount": 0})), OTHER_TOKEN)
        .await
        .ok();

    server
        .post("/v1/schemas", upsert(&amount(), "backward"))
        .await
        .ok();
    let currency = json!({"type": "object", "required": ["currency"]});
    server
        .post("/v1/schemas", upsert(&currency, "backward"))
        .await
        .ok();
    server
        .post("/v1/intents", payment(json!({"amount": 3})))
        .await
        .ok();
    server
        .post("/v1/intents", payment(json!({"currency": "EUR"})))
        .await
        .ok();
    let neither = server.post("/v1/intents", payment(json!({"note": 1}))).await;
    neither.refused(422);

    server.post("/v1/schemas", upsert(&currency, "warn")).await.ok();
    server.post("/v1/intents", payment(json!({"note": 1}))).await.ok();

    let mut asleep = upsert(&currency, "strict");
    asleep["active"] = json!(false);
    server.post("/v1/schemas", asleep).await.ok();
    server.post("/v1/intents", payment(json!({"note": 1}))).await.ok();
}

#[tokio::test]
async fn a_strict_schema_only_grows() {
    let server = Server::start().await;
    server.post("/v1/schemas", upsert(&amount(), "strict")).await.ok();
    let mut more = amount();
    more["required"] = json!(["amount", "currency"]);
    let refused = server.post("/v1/schemas", upsert(&more, "strict")).await;
    assert!(refused.json()["detail"].as_str().unwrap().contains("required"));
    refused.refused(409);
    let mut wider = amount();
    wider["properties"]["note"] = json!({"type": "string"});
    server.post("/v1/schemas", upsert(&wider, "strict")).await.ok();
}

#[tokio::test]
async fn what_is_no_schema_is_refused() {
    let server = Server::start().await;
    for (body, status) in [
        (
            json!({"semantic_type": "Payment", "schema_json": {}, "compatibility_mode": "strict"}),
            422,
        ),
        (
            json!({"semantic_type": TYPE, "compatibility_mode": "strict"}),
            422,
        ),
        (
            json!({"semantic_type": TYPE, "schema_json": [], "compatibility_mode": "strict"}),
            422,
        ),
        (upsert(&json!({"type": "nothing"}), "strict"), 422),
        (
            upsert(&json!({"$ref": "https://example.com/schema"}), "strict"),
            422,
        ),
        (upsert(&json!({}), "loose"), 422),
        (
            json!({"semantic_type": TYPE, "schema_json": {}, "compatibility_mode": "warn", "scope": "galaxy"}),
            422,
        ),
    ] {
        let answer = server.post("/v1/schemas", body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
    }
}
