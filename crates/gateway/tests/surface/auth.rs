//! Who is let in where: every route with every kind of key.

use super::support::{OPERATOR_TOKEN, ORG_ID, Server, WORKSPACE_ID, read};
use reqwest::Method;
use serde_json::json;

/// Routes that answer without a key: they say nothing about anybody's data.
const PUBLIC: [&str; 5] = ["/health", "/v1/health", "/livez", "/readyz", "/startupz"];
/// Routes that are about a whole workspace: (method, pattern), closed to agents.
const MANAGERS_ONLY: [(&str, &str); 11] = [
    ("GET", "/v1/audit/events"),
    ("GET", "/v1/audit/heads"),
    ("POST", "/v1/intents/bulk-cancel"),
    ("GET", "/v1/intents"),
    ("POST", "/v1/service-accounts"),
    ("PATCH", "/v1/service-accounts/{id}"),
    ("DELETE", "/v1/service-accounts/{id}"),
    ("POST", "/v1/service-accounts/{id}/keys"),
    ("POST", "/v1/service-accounts/{id}/keys/{key_id}/revoke"),
    ("DELETE", "/v1/service-accounts/{id}/keys/{key_id}"),
    ("POST", "/v1/scenarios/apply"),
];

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// A path that fits the pattern and names nothing that exists.
fn path(pattern: &str) -> String {
    pattern
        .replace("{*rest}", "agent://acme/prod/nobody")
        .replace("{key_id}", "key_none")
        .replace("{id}", "01a20431-ab8b-8fcd-9536-d0beba7b419a")
}

/// A body with which the route gets as far as looking at rights.
fn body(pattern: &str) -> serde_json::Value {
    match pattern {
        "/v1/service-accounts" => {
            json!({"org_id": ORG_ID, "workspace_id": WORKSPACE_ID, "name": "matrix"})
        }
        "/v1/scenarios/apply" => json!({
            "scenario_id": "matrix.v1",
            "agents": [{"role": "a", "address": "matrix-agent", "create_if_missing": true}],
            "workflow": {"steps": [{"step_id": "s", "assigned_to": "a"}]},
            "intent": {"type": "intent.matrix.v1", "payload": {}},
        }),
        _ => json!({}),
    }
}

async fn key_of_kind(server: &Server, account: &str, kind: &str) -> (String, String) {
    let made = server
        .post(
            &format!("/v1/service-accounts/{account}/keys"),
            json!({"kind": kind}),
        )
        .await
        .ok();
    let id = made["key_id"]
        .as_str()
        .or(made["key"]["key_id"].as_str())
        .unwrap_or_else(|| panic!("no key id in {made}"));
    (id.to_owned(), made["api_key"].as_str().unwrap().to_owned())
}

async fn status(server: &Server, method: &Method, pattern: &str, key: Option<&str>) -> u16 {
    let mut request = server
        .http
        .request(
            method.clone(),
            format!("{}{}?wait_seconds=1", server.base, path(pattern)),
        )
        .json(&body(pattern));
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    read(request.send().await.unwrap()).await.status.as_u16()
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should() {
    let server = Server::start().await;
    let (account, agent) = server.agent("matrix-keys").await;
    let account = account["service_account_id"].as_str().unwrap().to_owned();
    let (revoked_id, revoked) = key_of_kind(&server, &account, "agent").await;
    let revoke = format!("/v1/service-accounts/{account}/keys/{revoked_id}/revoke");
    server.post(&revoke, json!({})).await.ok();
    let (_, workspace) = key_of_kind(&server, &account, "workspace").await;
    let routes = baton_gateway::route_patterns();
    assert!(routes.len() >= 30, "the list must come from the router");
    for pattern in routes {
        for method in &METHODS {
            let name = format!("{method} {pattern}");
            let with = |key| status(&server, method, pattern, key);
            if PUBLIC.contains(&pattern) {
                let expected = if *method == Method::GET { 200 } else { 405 };
                assert_eq!(with(None).await, expected, "{name}");
                continue;
            }
            // A link is its own key, and this one is forged.
            if pattern == "/t/{token}" {
                let linked = [Method::GET, Method::POST].contains(method);
                for key in [None, Some(OPERATOR_TOKEN)] {
                    assert_eq!(with(key).await, if linked { 404 } else { 405 }, "{name}");
                }
                continue;
            }
            let outsiders = [None, Some("axme_sa_wrong_0000"), Some(revoked.as_str())];
            let first = with(outsiders[0]).await;
            assert!([401, 405].contains(&first), "{name} without a key: {first}");
            for key in &outsiders[1..] {
                assert_eq!(with(*key).await, first, "{name} with {key:?}");
            }
            for (kind, key) in [
                ("agent", agent.as_str()),
                ("workspace", &workspace),
                ("operator", OPERATOR_TOKEN),
            ] {
                let got = with(Some(key)).await;
                let closed = kind == "agent" && MANAGERS_ONLY.contains(&(method.as_str(), pattern));
                let expected: &[u16] = match (first, closed) {
                    (405, _) => &[405],
                    (_, true) => &[403],
                    // Nothing here exists, and bodies are empty: found, not found, invalid or not served yet.
                    (_, false) => &[200, 400, 404, 409, 422, 501],
                };
                assert!(
                    expected.contains(&got),
                    "{name} with the {kind} key: {got}, expected {expected:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_path_that_is_not_served_tells_an_outsider_nothing() {
    let server = Server::start().await;
    for path in ["/v1/approvals/x", "/v1/media/x", "/mcp"] {
        let bare = server.http.get(format!("{}{path}", server.base));
        assert_eq!(read(bare.send().await.unwrap()).await.status, 401, "{path}");
        assert_eq!(server.get(path).await.status, 501, "{path}");
    }
}
