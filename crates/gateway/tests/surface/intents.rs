//! Intents over the real HTTP server: create, read, end, once per key, only for their tenant.

use super::support::{OPERATOR_TOKEN, OTHER_TOKEN, Server, intent_to, read};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn an_intent_is_born_read_and_resolved_once() {
    let server = Server::start().await;
    let created = server
        .post("/v1/intents", intent_to("agent://conformance/receiver"))
        .await;
    assert!(created.headers.contains_key("x-trace-id"));
    let created = created.ok();
    assert_eq!(created["status"], "DELIVERED");
    let id = created["intent_id"].as_str().unwrap();

    let got = server.get(&format!("/v1/intents/{id}")).await.ok();
    let intent = &got["intent"];
    assert_eq!(intent["intent_id"], id);
    assert_eq!(intent["status"], "DELIVERED");
    assert_eq!(intent["lifecycle_status"], "DELIVERED");
    assert_eq!(intent["payload"], json!({"text": "hi"}));
    assert_eq!(intent["from_agent"], "agent://conformance/sender");
    assert_eq!(intent["to_agent"], "agent://conformance/receiver");
    assert_eq!(got["payload"], intent["payload"]);
    assert_eq!(server.node.picked_up()[0].0.to_string(), id);

    let events = server.get(&format!("/v1/intents/{id}/events")).await.ok();
    let types: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event_type"].clone())
        .collect();
    assert_eq!(types, ["intent.created", "intent.submitted", "intent.delivered"]);
    let later = server.get(&format!("/v1/intents/{id}/events?since=2")).await.ok();
    assert_eq!(later["events"].as_array().unwrap().len(), 1);

    let path = format!("/v1/intents/{id}/resolve");
    let done = server
        .post(&path, json!({"status": "COMPLETED", "result": {"n": 1}}))
        .await
        .ok();
    assert_eq!(done["intent"]["status"], "COMPLETED");
    assert_eq!(done["intent"]["payload"], json!({"text": "hi"}));
    assert_eq!(done["event"]["event_type"], "intent.completed");
    assert_eq!(done["event"]["details"]["result"]["n"], 1);
    assert!(done["event"].get("result").is_none());
    assert_eq!(
        done["completion_delivery"],
        json!({"delivered": false, "reason": "reply_to_not_set"})
    );
    let again = server
        .post(&path, json!({"status": "CANCELED", "reason": "late"}))
        .await;
    assert_eq!(again.refused(409), "intent_terminal");
    let root = server.get(&format!("/v1/intents/{id}")).await.ok();
    assert_eq!(root["result"]["n"], 1);
}

#[tokio::test]
async fn a_completion_reaches_the_reply_to_inbox() {
    let server = Server::start().await;
    let mut body = intent_to("agent://conformance/receiver");
    body["reply_to"] = json!("agent://conformance/reply-target");
    let created = server.post("/v1/intents", body).await.ok();
    let id = created["intent_id"].as_str().unwrap();
    let done = server
        .post(
            &format!("/v1/intents/{id}/resolve"),
            json!({"status": "COMPLETED"}),
        )
        .await
        .ok();
    let delivery = &done["completion_delivery"];
    assert_eq!(delivery["delivered"], true, "{delivery}");
    assert_eq!(delivery["reply_to"], "agent://conformance/reply-target");
    let inbox = "/v1/inbox?owner_agent=agent://conformance/reply-target";
    let threads = server.get(inbox).await.ok()["threads"].clone();
    assert_eq!(threads[0]["thread_id"], id);
    assert_eq!(threads[0]["status"], "done");
    assert_eq!(threads[0]["owner_agent"], "agent://conformance/reply-target");
    let thread = format!("/v1/inbox/{id}?owner_agent=agent://conformance/reply-target");
    let timeline = server.get(&thread).await.ok()["thread"]["timeline"].clone();
    assert!(
        timeline
            .as_array()
            .unwrap()
            .iter()
            .any(|t| t["event_type"] == "intent_completion_delivered")
    );
    // The recipient sees its own thread of the same intent.
    let received = server
        .get("/v1/inbox?owner_agent=agent://conformance/receiver")
        .await
        .ok();
    assert_eq!(
        received["threads"][0]["timeline"][0]["event_type"],
        "intent_received"
    );
    let wrong = server
        .get(&format!("/v1/inbox/{id}?owner_agent=nobody-here"))
        .await;
    assert_eq!(wrong.refused(404), "not_found");
}

#[tokio::test]
async fn one_key_creates_one_intent_wherever_its_record_lives() {
    let server = Server::start().await;
    // Many recipients and keys: the record shares the intent's group for some of them and not for others.
    for n in 0..12 {
        let body = intent_to(&format!("worker-{n}"));
        let key = format!("key-{n}");
        let first = server.post_once("/v1/intents", &body, &key).await;
        let again = server.post_once("/v1/intents", &body, &key).await;
        assert_eq!(first.text, again.text);
        first.ok();
        let mut other = body.clone();
        other["payload"] = json!({"text": "changed"});
        let refused = server.post_once("/v1/intents", &other, &key).await;
        assert_eq!(refused.refused(409), "idempotency_conflict");
        assert_eq!(
            refused.json()["detail"],
            "idempotency key reused with different payload"
        );
        // Another recipient is another request too, although it lives in another group.
        let moved = intent_to(&format!("elsewhere-{n}"));
        let refused = server.post_once("/v1/intents", &moved, &key).await;
        assert_eq!(refused.refused(409), "idempotency_conflict");
    }
}

#[tokio::test]
async fn an_empty_idempotency_key_is_refused_rather_than_ignored() {
    let server = Server::start().await;
    let refused = server.post_once("/v1/intents", &intent_to("worker"), "").await;
    assert_eq!(refused.refused(422), "invalid_argument");
}

#[tokio::test]
async fn concurrent_duplicates_share_one_intent() {
    let server = Server::start().await;
    for n in 0..4 {
        let body = intent_to(&format!("worker-{n}"));
        let key = format!("racing-{n}");
        let calls = (0..8).map(|_| server.post_once("/v1/intents", &body, &key));
        let answers = futures::future::join_all(calls).await;
        assert!(
            answers
                .iter()
                .all(|a| a.status == 200 && a.text == answers[0].text),
            "{answers:?}"
        );
    }
}

#[tokio::test]
async fn a_replayed_resolve_answers_the_same_and_a_key_is_scoped_to_its_path() {
    let server = Server::start().await;
    let (one, two) = (server.create("worker").await, server.create("worker").await);
    let body = json!({"status": "COMPLETED", "result": {"n": 1}});
    let path = format!("/v1/intents/{one}/resolve");
    let first = server.post_once(&path, &body, "k").await;
    let again = server.post_once(&path, &body, "k").await;
    assert_eq!((first.status.as_u16(), &first.text), (200, &again.text));
    let other = server.post_once(&path, &json!({"status": "FAILED"}), "k").await;
    assert_eq!(other.refused(409), "idempotency_conflict");
    let elsewhere = server
        .post_once(
            &format!("/v1/intents/{two}/resolve"),
            &json!({"status": "FAILED"}),
            "k",
        )
        .await;
    assert_eq!(elsewhere.ok()["intent"]["status"], "FAILED");
}

#[tokio::test]
async fn resume_means_what_its_body_says() {
    let server = Server::start().await;
    let (_, key) = server.agent("worker").await;
    let resume = |id: &str| format!("/v1/intents/{id}/resume");

    let id = server.create("worker").await;
    let steered = server
        .post(
            &resume(&id),
            json!({"approve_current_step": true, "reason": "go"}),
        )
        .await
        .ok();
    assert_eq!(steered["applied"], true);
    assert_eq!(steered["event"]["details"]["reason"], "go");
    assert_eq!(steered["policy_generation"], 1);
    assert_eq!(steered["intent"]["status"], "IN_PROGRESS");
    let refused = server
        .post(&resume(&id), json!({"approve_current_step": false}))
        .await
        .ok();
    assert_eq!(refused["applied"], false);
    let stale = json!({"approve_current_step": true, "expected_policy_generation": 0});
    assert_eq!(
        server.post(&resume(&id), stale).await.refused(409),
        "policy_generation_mismatch"
    );
    let done = json!({"action": "complete", "transaction_id": "t1", "status": "captured", "reason": 5});
    let done = server.post_as(&resume(&id), done, &key).await.ok();
    assert_eq!(done["intent"]["status"], "COMPLETED");
    assert_eq!(done["intent"]["result"]["transaction_id"], "t1");
    assert_eq!(done["event"]["event_type"], "intent.completed");

    let id = server.create("worker").await;
    let failed = server
        .post_as(&resume(&id), json!({"action": "fail", "reason": "broken"}), &key)
        .await
        .ok();
    assert_eq!(failed["intent"]["status"], "FAILED");
    assert_eq!(failed["event"]["details"]["reason"], "broken");

    // An empty body from the sender steers, with a content type and without a body.
    let id = server.create("worker").await;
    let empty = server.request(Method::POST, &resume(&id), OPERATOR_TOKEN);
    let empty = read(
        empty
            .header("content-type", "application/json")
            .send()
            .await
            .unwrap(),
    )
    .await
    .ok();
    assert_eq!(empty["intent"]["status"], "IN_PROGRESS");
    // The same from the handler, acting under its bare name, finishes.
    let done = server
        .post(&format!("{}?owner_agent=worker", resume(&id)), json!({}))
        .await
        .ok();
    assert_eq!(done["intent"]["status"], "COMPLETED");
}

#[tokio::test]
async fn controls_and_policy_count_generations() {
    let server = Server::start().await;
    let id = server.create("worker").await;
    let controls = format!("/v1/intents/{id}/controls");
    let set = server
        .post(&controls, json!({"controls_patch": {"timeout_seconds": 30}}))
        .await
        .ok();
    assert_eq!(set["policy_generation"], 1);
    assert_eq!(set["intent"]["controls"]["timeout_seconds"], 30);
    assert_eq!(
        server.post(&controls, json!({})).await.refused(422),
        "invalid_argument"
    );
    let policy = format!("/v1/intents/{id}/policy");
    let grants = json!({"grants_patch": {"delegate:agent://ops": {"allow": ["resume"]}}, "expected_policy_generation": 1});
    assert_eq!(
        server.post(&policy, grants.clone()).await.ok()["policy_generation"],
        2
    );
    assert_eq!(
        server.post(&policy, grants).await.refused(409),
        "policy_generation_mismatch"
    );
    assert_eq!(
        server.post(&policy, json!({"reason": "x"})).await.refused(422),
        "invalid_argument"
    );
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let server = Server::start().await;
    let id = server.create("worker").await;
    for path in [
        format!("/v1/intents/{id}"),
        format!("/v1/intents/{id}/events"),
        format!("/v1/intents/{id}/events/stream?wait_seconds=1"),
    ] {
        assert_eq!(
            server.get_as(&path, OTHER_TOKEN).await.refused(404),
            "not_found",
            "{path}"
        );
    }
    let resolve = server
        .post_as(
            &format!("/v1/intents/{id}/resolve"),
            json!({"status": "FAILED"}),
            OTHER_TOKEN,
        )
        .await;
    assert_eq!(resolve.refused(404), "not_found");
    let theirs = server
        .post_as("/v1/intents", intent_to("agent://acme/prod/worker"), OTHER_TOKEN)
        .await;
    assert_eq!(theirs.refused(403), "receiver_org_closed");
    let listens = server
        .get_as("/v1/agents/acme/prod/worker/intents", OTHER_TOKEN)
        .await;
    assert_eq!(listens.refused(403), "receiver_org_closed");
    // The same legacy address is another mailbox in another workspace.
    server.create("agent://conformance/receiver").await;
    let theirs = server
        .get_as("/v1/agents/agent://conformance/receiver/intents", OTHER_TOKEN)
        .await
        .ok();
    assert_eq!(theirs["intents"], json!([]));
    let inbox = server
        .get_as("/v1/inbox?owner_agent=agent://conformance/receiver", OTHER_TOKEN)
        .await
        .ok();
    assert_eq!(inbox["threads"], json!([]));
    // An unknown organization is a literal of the caller's own workspace.
    server.create("agent://nobody/nowhere/worker").await;
}

#[tokio::test]
async fn bodies_are_lenient_where_clients_differ_and_strict_where_it_matters() {
    let server = Server::start().await;
    let camel =
        json!({"intentType": "order.created.v1", "toAgent": "worker", "payload": {"intentType": "kept"}});
    let id = server.post("/v1/intents", camel).await.ok()["intent_id"].clone();
    let got = server
        .get(&format!("/v1/intents/{}", id.as_str().unwrap()))
        .await
        .ok();
    assert_eq!(got["intent"]["payload"]["intentType"], "kept");
    assert_eq!(got["intent"]["correlation_id"].as_str().unwrap().len(), 36);
    let rootless =
        json!({"intent_type": "order.created.v1", "to_agent": "worker", "amount": 5, "order": "o1"});
    let id = server.post("/v1/intents", rootless).await.ok()["intent_id"].clone();
    let got = server
        .get(&format!("/v1/intents/{}", id.as_str().unwrap()))
        .await
        .ok();
    assert_eq!(got["payload"], json!({"amount": 5, "order": "o1"}));

    let mut bad = intent_to("worker");
    for (field, value, code) in [
        ("intent_type", json!("Not A Type"), "schema_invalid"),
        ("correlation_id", json!("x"), "invalid_argument"),
        ("to_agent", json!("a b"), "invalid_agent_address"),
        ("to_agent", json!(null), "invalid_agent_address"),
        ("to_agent", json!("x".repeat(384)), "invalid_agent_address"),
        ("from_agent", json!("x".repeat(384)), "invalid_agent_address"),
        ("reply_to", json!("x".repeat(384)), "invalid_agent_address"),
        ("reply_to", json!(5), "invalid_argument"),
        ("payload", json!([1]), "invalid_argument"),
        ("deadline_at", json!("soon"), "invalid_argument"),
        ("max_delivery_attempts", json!(0), "invalid_argument"),
        ("human_task", json!("t"), "invalid_argument"),
    ] {
        let good = bad[field].take();
        bad[field] = value;
        let refused = server.post("/v1/intents", bad.clone()).await;
        assert_eq!(refused.refused(422), code, "{field}");
        bad[field] = good;
    }
    let raw = |body: &'static str| {
        let request = server
            .request(Method::POST, "/v1/intents", OPERATOR_TOKEN)
            .body(body);
        async move { read(request.send().await.unwrap()).await }
    };
    assert_eq!(raw("{\"a\":").await.refused(400), "bad_request");
    assert_eq!(raw("[]").await.refused(422), "invalid_argument");
    let mut large = intent_to("worker");
    large["payload"] = json!({"x": "y".repeat(131_072)});
    assert_eq!(
        server.post("/v1/intents", large).await.refused(413),
        "payload_too_large"
    );
    let deep = format!("{{\"payload\":{}{}}}", "{\"a\":".repeat(70), "1}".repeat(70));
    let deep = server
        .request(Method::POST, "/v1/intents", OPERATOR_TOKEN)
        .body(deep);
    assert_eq!(
        read(deep.send().await.unwrap()).await.refused(422),
        "invalid_argument"
    );
    assert_eq!(
        server
            .get(&format!("/v1/intents/{}/events?since=-1", uuid::Uuid::nil()))
            .await
            .refused(422),
        "invalid_argument"
    );
    assert_eq!(
        server.get("/v1/intents/not-an-id").await.refused(404),
        "not_found"
    );
}
