//! Accounts, keys, agents, scenarios, health, limits and the odd corners of the surface.

use super::support::{
    OPERATOR_TOKEN, ORG_ID, OTHER_ORG_ID, OTHER_TOKEN, OTHER_WORKSPACE_ID, Server, WORKSPACE_ID, intent_to,
    read,
};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn accounts_and_keys_live_and_die() {
    let server = Server::start().await;
    let (account, key) = server.agent("payment-service-demo").await;
    let id = account["service_account_id"].as_str().unwrap();
    assert!(id.starts_with("sa_payment-service-demo_"), "{id}");
    assert_eq!(account["name"], "payment-service-demo");
    assert_eq!(account["address"], "agent://acme/prod/payment-service-demo");
    assert_eq!(account["agent_address"], account["address"]);
    assert_eq!(account["status"], "active");
    assert!(key.starts_with(&format!("axme_sa_{id}_")));

    let body = json!({"org_id": ORG_ID, "workspace_id": WORKSPACE_ID, "name": "payment-service-demo"});
    let duplicate = server.post("/v1/service-accounts", body).await;
    assert_eq!(duplicate.refused(409), "conflict");
    assert_eq!(duplicate.json()["service_account"]["service_account_id"], id);

    let list = format!("/v1/service-accounts?org_id={ORG_ID}&workspace_id={WORKSPACE_ID}");
    let listed = server.get(&list).await.ok();
    assert!(
        listed["service_accounts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|a| a["service_account_id"] == id)
    );
    assert_eq!(
        server.get(&format!("/v1/service-accounts/{id}")).await.ok()["service_account"]["name"],
        account["name"]
    );

    let me = server.get_as("/v1/me", &key).await.ok();
    assert_eq!(me["address"], account["address"]);
    assert_eq!(
        (&me["org_id"], &me["workspace_id"]),
        (&json!(ORG_ID), &json!(WORKSPACE_ID))
    );

    let path = format!("/v1/service-accounts/{id}");
    let patch = server.request(Method::PATCH, &path, OPERATOR_TOKEN);
    let patch = patch
        .json(&json!({"delivery_mode": "poll", "display_name": "Pay"}))
        .send()
        .await
        .unwrap();
    let patched = read(patch).await.ok();
    assert_eq!(patched["service_account"]["delivery_mode"], "poll");
    let agent = server.get_as("/v1/agents/payment-service-demo", &key).await.ok();
    assert_eq!(agent["agent"]["display_name"], "Pay");
    assert_eq!(agent["agent"]["service_account_id"], id);

    let gone = read(
        server
            .request(Method::DELETE, &path, OPERATOR_TOKEN)
            .send()
            .await
            .unwrap(),
    )
    .await
    .ok();
    assert_eq!(
        (&gone["service_account_id"], &gone["status"]),
        (&json!(id), &json!("deleted"))
    );
    assert_eq!(
        server.get_as("/v1/me", &key).await.refused(401),
        "invalid_platform_api_key"
    );
    assert_eq!(
        server.get("/v1/agents/payment-service-demo").await.refused(404),
        "agent_not_found"
    );
}

#[tokio::test]
async fn management_needs_a_key_of_that_workspace() {
    let server = Server::start().await;
    let (account, agent_key) = server.agent("worker").await;
    let body =
        |org: &str, workspace: &str| json!({"org_id": org, "workspace_id": workspace, "name": "new-one"});
    let by_agent = server
        .post_as("/v1/service-accounts", body(ORG_ID, WORKSPACE_ID), &agent_key)
        .await;
    assert_eq!(by_agent.refused(403), "invalid_actor_scope");
    let by_stranger = server
        .post_as("/v1/service-accounts", body(ORG_ID, WORKSPACE_ID), OTHER_TOKEN)
        .await;
    assert_eq!(by_stranger.refused(403), "invalid_actor_scope");
    let listed = format!("/v1/service-accounts?org_id={ORG_ID}&workspace_id={WORKSPACE_ID}");
    assert_eq!(
        server.get_as(&listed, OTHER_TOKEN).await.refused(403),
        "invalid_actor_scope"
    );
    let id = account["service_account_id"].as_str().unwrap();
    assert_eq!(
        server
            .get_as(&format!("/v1/service-accounts/{id}"), OTHER_TOKEN)
            .await
            .refused(404),
        "not_found"
    );
    let keys = format!("/v1/service-accounts/{id}/keys");
    let past = json!({"expires_at": "2001-01-01T00:00:00Z"});
    assert_eq!(server.post(&keys, past).await.refused(422), "invalid_argument");
    assert_eq!(
        server.post_as(&keys, json!({}), OTHER_TOKEN).await.refused(404),
        "not_found"
    );
    // The operator manages every tenant.
    let made = server
        .post("/v1/service-accounts", body(OTHER_ORG_ID, OTHER_WORKSPACE_ID))
        .await
        .ok();
    assert_eq!(made["service_account"]["address"], "agent://globex/prod/new-one");
    let malformed = server
        .post("/v1/service-accounts", body("org_1", WORKSPACE_ID))
        .await;
    assert_eq!(malformed.refused(422), "invalid_argument");
}

#[tokio::test]
async fn keys_are_read_from_both_headers_and_nothing_else() {
    let server = Server::start().await;
    let me = |headers: &'static [(&'static str, &'static str)]| {
        let mut request = server.http.get(format!("{}/v1/me", server.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async move { read(request.send().await.unwrap()).await }
    };
    const BEARER: &str = "Bearer axme_sa_sa_operator_0000_secret";
    me(&[("x-api-key", OPERATOR_TOKEN)]).await.ok();
    me(&[("authorization", BEARER)]).await.ok();
    me(&[
        ("x-api-key", OPERATOR_TOKEN),
        ("authorization", "Bearer eyJhbGciOi.actor.token"),
    ])
    .await
    .ok();
    for (headers, code) in [
        (&[][..], "missing_platform_api_key"),
        (&[("authorization", "")], "missing_platform_api_key"),
        (
            &[("authorization", "Bearer eyJhbGciOi.actor.token")],
            "invalid_actor_token",
        ),
        (&[("x-api-key", "axme_sa_nobody_x")], "invalid_platform_api_key"),
        (
            &[("x-api-key", "axme_sa_nobody_x"), ("authorization", BEARER)],
            "invalid_platform_api_key",
        ),
    ] {
        assert_eq!(me(headers).await.refused(401), code, "{headers:?}");
    }
    // A replica that may have missed a revocation answers nobody, but is still alive.
    server.node.set_stale(true);
    let stale = me(&[("x-api-key", OPERATOR_TOKEN)]).await;
    assert_eq!(stale.refused(503), "unavailable");
    assert_eq!(stale.headers["retry-after"], "1");
    assert_eq!(server.get("/readyz").await.refused(503), "unavailable");
    server.get("/livez").await.ok();
}

#[tokio::test]
async fn owner_scopes_must_agree() {
    let server = Server::start().await;
    let ask = |query: &str, header: &str| {
        let request = server.request(
            Method::GET,
            &format!("/v1/inbox?owner_agent={query}"),
            OPERATOR_TOKEN,
        );
        let request = request.header("x-owner-agent", header.to_owned());
        async move { read(request.send().await.unwrap()).await }
    };
    ask("worker", "worker").await.ok();
    assert_eq!(ask("worker", "other").await.refused(400), "owner_scope_conflict");
    let (_, key) = server.agent("worker").await;
    assert_eq!(
        server
            .get_as("/v1/inbox?owner_agent=other", &key)
            .await
            .refused(403),
        "invalid_actor_scope"
    );
    server.get_as("/v1/inbox", &key).await.ok();
}

fn bundle() -> Value {
    json!({
        "scenario_id": "replacing-webhooks.demo.v1",
        "agents": [{"role": "payments", "address": "payment-service-demo", "create_if_missing": true, "display_name": "Pay"}],
        "humans": [{"role": "boss", "contact": ""}],
        "workflow": {"steps": [{
            "step_id": "process_payment", "tool_id": "tool.agent.task.v1", "assigned_to": "payments",
            "step_deadline_seconds": 120,
        }]},
        "intent": {"type": "payment.process.v1", "payload": {"amount": 5}, "max_delivery_attempts": 3},
    })
}

#[tokio::test]
async fn a_scenario_runs_to_its_end() {
    let server = Server::start().await;
    let applied = server
        .post_once("/v1/scenarios/apply", &bundle(), "run-1")
        .await
        .ok();
    assert_eq!(applied["idempotent"], false);
    assert_eq!(applied["status"], "WAITING");
    assert_eq!(applied["pending_with"], "agent://acme/prod/payment-service-demo");
    assert_eq!(
        applied["agents"][0],
        json!({"role": "payments", "address": "agent://acme/prod/payment-service-demo", "created": true})
    );
    assert!(applied["agents_provisioned"][0]["service_account_id"].is_string());
    assert_eq!(applied["compile_id"], applied["workflow_compile_id"]);
    let again = server
        .post_once("/v1/scenarios/apply", &bundle(), "run-1")
        .await
        .ok();
    assert_eq!(again["idempotent"], true);
    assert_eq!(
        (&again["intent_id"], &again["compile_id"]),
        (&applied["intent_id"], &applied["compile_id"])
    );

    let delivered = server.get("/v1/agents/payment-service-demo/intents").await.ok()["intents"].clone();
    assert_eq!(
        delivered.as_array().unwrap().len(),
        1,
        "the parent is in no mailbox"
    );
    assert_eq!(delivered[0]["parent_intent_id"], applied["intent_id"]);
    let step = delivered[0]["intent_id"].as_str().unwrap();
    let got = server.get(&format!("/v1/intents/{step}")).await.ok();
    assert_eq!(got["payload"]["parent_payload"]["amount"], 5);
    let resume = format!("/v1/intents/{step}/resume?owner_agent=payment-service-demo");
    server
        .post(&resume, json!({"action": "complete", "transaction_id": "t1"}))
        .await
        .ok();

    let parent = format!("/v1/intents/{}", applied["intent_id"].as_str().unwrap());
    let parent = server.get(&parent).await.ok();
    assert_eq!(parent["intent"]["lifecycle_status"], "COMPLETED");
    assert_eq!(parent["intent"]["scenario_id"], "replacing-webhooks.demo.v1");
    assert_eq!(parent["intent"]["steps"][0]["intent_id"], step);
    assert_eq!(parent["result"]["transaction_id"], "t1");
}

#[tokio::test]
async fn a_body_key_deduplicates_too_and_a_bundle_without_steps_is_a_direct_intent() {
    let server = Server::start().await;
    let mut body = bundle();
    body["idempotency_key"] = json!("in-the-body");
    body["workflow"] = json!({});
    let first = server.post("/v1/scenarios/apply", body.clone()).await.ok();
    let again = server.post("/v1/scenarios/apply", body).await.ok();
    assert_eq!(first["intent_id"], again["intent_id"]);
    assert_eq!(again["idempotent"], true);
    assert_eq!(first["status"], "DELIVERED");
    let delivered = server.get("/v1/agents/payment-service-demo/intents").await.ok();
    assert_eq!(delivered["intents"][0]["intent_id"], first["intent_id"]);
}

#[tokio::test]
async fn bad_bundles_are_explained() {
    let server = Server::start().await;
    let valid = server.post("/v1/scenarios/validate", bundle()).await.ok();
    assert_eq!((&valid["valid"], &valid["errors"]), (&json!(true), &json!([])));
    let mut unknown = bundle();
    unknown["workflow"]["steps"][0]["runtime_type"] = json!("dance");
    let found = server.post("/v1/scenarios/validate", unknown.clone()).await.ok();
    assert_eq!(found["valid"], false);
    let message = found["errors"][0].as_str().unwrap();
    assert!(
        message.starts_with("workflow.steps[0].runtime_type is dance"),
        "{message}"
    );
    let refused = server.post("/v1/scenarios/apply", unknown).await;
    assert_eq!(refused.refused(422), "schema_invalid");
    assert_eq!(refused.json()["detail"], message);
    let nothing = server.post("/v1/scenarios/validate", json!({})).await.ok();
    assert_eq!(nothing["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn health_speaks_without_a_key() {
    let server = Server::start().await;
    for path in ["/health", "/v1/health"] {
        let request = server
            .http
            .get(format!("{}{path}", server.base))
            .header("X-Trace-Id", "trace-1");
        let answer = read(request.send().await.unwrap()).await;
        assert_eq!(answer.headers["x-trace-id"], "trace-1");
        let body = answer.ok();
        assert_eq!(
            (&body["status"], &body["service"]),
            (&json!("ok"), &json!("baton"))
        );
        assert!(body["registered_users"].is_number());
    }
    for path in ["/livez", "/readyz", "/startupz"] {
        server.get(path).await.ok();
    }
    let verbose = server.get("/readyz?verbose").await.ok();
    assert_eq!(verbose["checks"][0]["name"], "meta");
    let capabilities = server.get("/v1/capabilities").await.ok();
    let listed = |name: &str| -> Vec<String> {
        let list = capabilities[name].as_array().unwrap();
        list.iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    for known in [
        "intents.create",
        "human_tasks",
        "agents.push",
        "inbox",
        "deliveries",
        "schemas",
    ] {
        assert!(listed("capabilities").contains(&known.to_owned()), "{known}");
    }
    let types = listed("supported_intent_types");
    let fits = |name: &String| name.starts_with("intent.") && name.ends_with(".v1");
    assert!(!types.is_empty() && types.iter().all(fits), "{types:?}");
    assert_eq!(
        server.get("/v1/tool-registry/macros").await.ok()["macros"],
        json!([])
    );
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let server = Server::start().await;
    assert_eq!(server.get("/nothing").await.refused(404), "not_found");
    assert_eq!(
        server.get("/v1/mesh/agents").await.refused(501),
        "not_implemented"
    );
    assert_eq!(server.get("/v1/intents/%ff").await.refused(400), "bad_request");
    let put = server
        .request(Method::PUT, "/v1/intents", OPERATOR_TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(read(put).await.refused(405), "method_not_allowed");
    // Strangers learn nothing about what exists.
    let anonymous = server.http.post(format!("{}/v1/organizations", server.base));
    let anonymous = anonymous.header("authorization", "").send().await.unwrap();
    assert_eq!(read(anonymous).await.refused(401), "missing_platform_api_key");
}

#[tokio::test]
async fn requests_are_limited_per_key_and_endpoint() {
    let server = Server::with(|config| config.requests_per_minute = 3).await;
    let mut last = None;
    // A window may end while the test runs; one of seven calls in a row is refused either way.
    for _ in 0..7 {
        let answer = server.get("/v1/me").await;
        assert_eq!(answer.headers["x-ratelimit-limit"], "3");
        if answer.status == 429 {
            last = Some(answer);
            break;
        }
    }
    let refused = last.expect("limited");
    // With another node in the cluster this one admits its share only.
    server.node.set_live_nodes(2);
    let shared = server.get("/v1/service-accounts").await;
    assert_eq!(shared.headers["x-ratelimit-limit"], "2");
    server.node.set_live_nodes(1);
    assert_eq!(refused.refused(429), "rate_limit_exceeded");
    assert!(
        refused.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    server.post("/v1/intents", intent_to("worker")).await.ok();
    for _ in 0..5 {
        let stream = server
            .get("/v1/agents/worker/intents/stream?wait_seconds=1")
            .await;
        assert_eq!(stream.status, 200, "streams are exempt");
    }
}
