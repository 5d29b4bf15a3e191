//! Management calls that are sent again under their idempotency key.

use super::support::{OPERATOR_TOKEN, Server, read};
use reqwest::Method;
use serde_json::{Value, json};

async fn patch(server: &Server, path: &str, body: &Value, idempotency_key: &str) -> super::support::Answer {
    let request = server.request(Method::PATCH, path, OPERATOR_TOKEN).json(body);
    let sent = request.header("Idempotency-Key", idempotency_key).send().await;
    read(sent.unwrap()).await
}

#[tokio::test]
async fn a_repeated_key_creation_shows_the_same_token_again() {
    let server = Server::start().await;
    let (account, _) = server.agent("worker").await;
    let id = account["service_account_id"].as_str().unwrap();
    let path = format!("/v1/service-accounts/{id}/keys");
    let keys_before = server.node.key_ids(id).len();
    let first = server.post_once(&path, &json!({"name": "ci"}), "k1").await.ok();
    let again = server.post_once(&path, &json!({"name": "ci"}), "k1").await.ok();
    assert_eq!(first, again);
    assert_eq!(server.node.key_ids(id).len(), keys_before + 1);
    let token = first["api_key"].as_str().unwrap();
    assert!(token.starts_with(&format!("axme_sa_{id}_")));
    let me = server.get_as("/v1/me", token).await.ok();
    assert_eq!(me["address"], account["address"]);
    let secret = token.rsplit('_').next().unwrap();
    assert_eq!(secret.len(), 64);
    assert!(!server.node.stores(secret.as_bytes()), "only its hash is kept");

    let other = server.post_once(&path, &json!({"name": "cd"}), "k1").await;
    assert_eq!(other.refused(409), "idempotency_conflict");
    assert_eq!(
        other.json()["detail"],
        "idempotency key reused with different payload"
    );

    // Another key, another caller, no key at all: another token each time.
    let mut tokens = vec![token.to_owned()];
    let body = json!({"name": "ci"});
    let operator_key = server.post(&path, json!({"kind": "workspace"})).await.ok();
    let colleague = operator_key["api_key"].as_str().unwrap();
    let by_colleague = server.request(Method::POST, &path, colleague).json(&body);
    let by_colleague = by_colleague.header("Idempotency-Key", "k1").send().await.unwrap();
    for answer in [
        server.post_once(&path, &body, "k2").await,
        read(by_colleague).await,
        server.post(&path, body.clone()).await,
        server.post(&path, body).await,
    ] {
        tokens.push(answer.ok()["api_key"].as_str().unwrap().to_owned());
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 5);
}

#[tokio::test]
async fn a_revoked_key_is_not_made_again() {
    let server = Server::start().await;
    let (account, _) = server.agent("worker").await;
    let id = account["service_account_id"].as_str().unwrap();
    let path = format!("/v1/service-accounts/{id}/keys");
    let key = server.post_once(&path, &json!({}), "k1").await.ok();
    let key_id = key["key"]["key_id"].as_str().unwrap();
    let revoke = format!("{path}/{key_id}/revoke");
    let first = server.post_once(&revoke, &json!({}), "r1").await.ok();
    assert_eq!(first, server.post_once(&revoke, &json!({}), "r1").await.ok());
    // The replay says what was said before; the token stays closed.
    let replay = server.post_once(&path, &json!({}), "k1").await.ok();
    assert_eq!(replay, key);
    let token = key["api_key"].as_str().unwrap();
    assert_eq!(
        server.get_as("/v1/me", token).await.refused(401),
        "invalid_platform_api_key"
    );
}

#[tokio::test]
async fn a_repeated_change_is_applied_once() {
    let server = Server::start().await;
    let (account, _) = server.agent("worker").await;
    let id = account["service_account_id"].as_str().unwrap();
    let path = format!("/v1/service-accounts/{id}");
    let one = json!({"display_name": "One"});
    let first = patch(&server, &path, &one, "p1").await.ok();
    assert_eq!(first["service_account"]["display_name"], "One");
    let two = json!({"display_name": "Two"});
    patch(&server, &path, &two, "p2").await.ok();
    assert_eq!(patch(&server, &path, &one, "p1").await.ok(), first);
    assert_eq!(
        patch(&server, &path, &two, "p1").await.refused(409),
        "idempotency_conflict"
    );
    let now = server.get(&path).await.ok();
    assert_eq!(
        now["service_account"]["display_name"], "Two",
        "the repetition did not undo the later change"
    );
    let empty = patch(&server, &path, &two, "").await;
    assert_eq!(empty.refused(422), "invalid_argument");
}
