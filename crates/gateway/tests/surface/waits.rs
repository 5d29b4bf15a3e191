//! An intent that waits for something outside, and envelopes.

use serde_json::{Value, json};

use crate::support::Server;

async fn submitted(server: &Server) -> String {
    let body = json!({"intent_type": "order.pay.v1", "to_agent": "agent://w", "payload": {"n": 1}});
    let created = server.post("/v1/intents", body).await.ok();
    created["intent_id"].as_str().unwrap().to_owned()
}

async fn intent(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/intents/{id}")).await.ok()["intent"].clone()
}

#[tokio::test]
async fn an_intent_waits_for_a_tool_and_a_signal_lets_it_go_on() {
    let server = Server::start().await;
    let id = submitted(&server).await;
    let resume = format!("/v1/intents/{id}/resume");
    let wait = json!({"action": "wait", "tool": "payment-provider", "reason": "asked", "expected_policy_generation": 0});
    let waiting = server.post(&resume, wait).await.ok();
    assert_eq!(waiting["event"]["event_type"], "intent.waiting");
    assert_eq!(waiting["event"]["waiting_reason"], "WAITING_FOR_TOOL");
    let shown = intent(&server, &id).await;
    assert_eq!(shown["lifecycle_waiting_reason"], "WAITING_FOR_TOOL");
    assert_eq!(
        shown["pending_with"],
        json!({"type": "internal", "ref": "payment-provider", "name": "payment-provider"})
    );
    let poll = server.get("/v1/agents/w/intents?since=0").await.ok();
    assert_eq!(poll["intents"], json!([]), "nobody is handed what waits");
    let on = server
        .post(&resume, json!({"approve_current_step": true, "reason": "paid"}))
        .await
        .ok();
    assert_eq!(on["event"]["event_type"], "intent.in_progress");
    assert_eq!(
        intent(&server, &id).await["lifecycle_waiting_reason"],
        Value::Null
    );
    let poll = server.get("/v1/agents/w/intents?since=0").await.ok();
    assert_eq!(poll["intents"][0]["intent_id"], id);
    // A signal that came between counts: who has not seen it may not wait.
    let late = json!({"action": "wait", "expected_policy_generation": 0});
    assert_eq!(
        server.post(&resume, late).await.refused(409),
        "policy_generation_mismatch"
    );
    let wrong = json!({"action": "wait", "waiting_reason": "WAITING_FOR_HUMAN"});
    assert_eq!(server.post(&resume, wrong).await.refused(422), "invalid_argument");
    server.stop().await;
}

#[tokio::test]
async fn what_an_envelope_bounds_is_checked_and_shows() {
    let server = Server::start().await;
    let id = submitted(&server).await;
    let policy = format!("/v1/intents/{id}/policy");
    let patch = |envelope: Value| json!({"envelope_patch": envelope});
    for wrong in [
        json!({"max_retry_count": 1_000}),
        json!({"retry_backoff_seconds": 0}),
        json!({"execution_timeout_seconds": 604_801}),
        json!({"ttl_seconds": "5"}),
        json!({"ttl_seconds": null}),
        json!({"expires_at": "soon"}),
    ] {
        let refused = server.post(&policy, patch(wrong.clone())).await;
        assert_eq!(refused.refused(422), "invalid_argument", "{wrong}");
    }
    let envelope =
        json!({"max_retry_count": 1, "expires_at": "2999-01-01T00:00:00Z", "note": {"kept": true}});
    let changed = server.post(&policy, patch(envelope.clone())).await.ok();
    assert_eq!(changed["intent"]["envelope"], envelope);
    assert_eq!(changed["intent"]["max_delivery_attempts"], 2);
    assert_eq!(changed["intent"]["deadline_at"], "2999-01-01T00:00:00.000Z");
    let earlier = server
        .post(&policy, patch(json!({"ttl_seconds": 3600})))
        .await
        .ok();
    assert!(earlier["intent"]["deadline_at"].as_str().unwrap() < "2999");
    server.stop().await;
}

#[tokio::test]
async fn under_strict_addressing_nothing_is_handed_to_a_stranger() {
    let server = Server::with(|config| config.strict_addresses = true).await;
    server.agent("worker").await;
    let body = json!({"intent_type": "order.pay.v1", "to_agent": "agent://worker", "payload": {"n": 1}});
    let created = server.post("/v1/intents", body).await.ok();
    let id = created["intent_id"].as_str().unwrap();
    let resume = format!("/v1/intents/{id}/resume");
    let on = |next: &str| json!({"approve_current_step": true, "next_handler": next});
    let refused = server.post(&resume, on("agent://nobody")).await.refused(404);
    assert_eq!(refused, "agent_not_found");
    let watched = json!({"intent_type": "order.pay.v1", "to_agent": "agent://worker", "payload": {}, "remind_after_seconds": 60,
        "escalate_to": "agent://nobody"});
    let refused = server.post("/v1/intents", watched).await.refused(404);
    assert_eq!(refused, "agent_not_found");
    server.agent("next").await;
    let handed = server.post(&resume, on("agent://next")).await.ok();
    assert_eq!(handed["event"]["event_type"], "intent.transfer");
    server.stop().await;
}
