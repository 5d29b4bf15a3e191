//! The agents of the push cells: accounts in delivery mode `http`, and the endpoint here that they are posted to.

use super::driver::{Driver, Numbered, Refused};
use super::load::{Load, Role};
use crate::client::Api;
use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::{StreamExt as _, TryStreamExt as _};
use hmac::{Hmac, Mac as _};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Accounts created at the same time.
const CREATING_IN_FLIGHT: usize = 16;
/// How long creating one is tried.
const CREATE_PATIENCE: Duration = Duration::from_secs(20);
/// Results under way; a post beyond them waits for its answer.
const COMPLETING_IN_FLIGHT: usize = 1024;

/// A running endpoint with its agents; it stops when dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Results that were refused, and posts that could not be read or were not signed as they should be.
    pub(super) refused: Refused,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Listens and creates an account for each of the load's push agents.
    pub(super) async fn start(
        load: &Load,
        driver: &Driver,
        api: &Api,
        listen: SocketAddr,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen for posts at {listen}"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let refused = Refused::default();
        let shared = Arc::new(Shared {
            driver: driver.clone(),
            secrets: create_accounts(load, api, &url).await?,
            places: Arc::new(Semaphore::new(COMPLETING_IN_FLIGHT)),
            refused: refused.clone(),
        });
        let app = Router::new().route("/{agent}", post(take)).with_state(shared);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the endpoint of the push agents ended");
            }
        });
        Ok(Self { refused, task })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Creates the accounts; answers their secrets by the agent's number.
async fn create_accounts(load: &Load, api: &Api, url: &str) -> anyhow::Result<Vec<String>> {
    let me = api
        .call(Method::GET, "/v1/me", None, None, CREATE_PATIENCE)
        .await?;
    anyhow::ensure!(me.ok(), "whose key is this: {}", me.problem());
    let me = &me.body;
    let creates = (0..load.agents().count() as u64).map(|n| {
        let account = json!({
            "org_id": me["org_id"], "workspace_id": me["workspace_id"],
            "name": load.recipient(Role::Pushed, n),
            "delivery_mode": "http", "callback_url": format!("{url}/{n}"),
        });
        create_account(api, account)
    });
    futures::stream::iter(creates)
        .buffered(CREATING_IN_FLIGHT)
        .try_collect()
        .await
}

async fn create_account(api: &Api, account: Value) -> anyhow::Result<String> {
    let key = account["name"].as_str().map(ToOwned::to_owned);
    let answer = api
        .call(
            Method::POST,
            "/v1/service-accounts",
            Some(&account),
            key.as_deref(),
            CREATE_PATIENCE,
        )
        .await?;
    anyhow::ensure!(answer.ok(), "no account for a push agent: {}", answer.problem());
    let secret = answer.body["callback_secret"].as_str();
    Ok(secret.context("an account without callback_secret")?.to_owned())
}

struct Shared {
    driver: Driver,
    secrets: Vec<String>,
    places: Arc<Semaphore>,
    refused: Refused,
}

/// What is read of a post.
#[derive(Deserialize)]
struct Post {
    intent_id: String,
    payload: Numbered,
}

/// Takes one post and hands in the result behind the answer, as an agent should.
async fn take(
    State(shared): State<Arc<Shared>>,
    Path(agent): Path<usize>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let signed = shared
        .secrets
        .get(agent)
        .is_some_and(|secret| is_signed(secret, &headers, &body));
    let post = serde_json::from_slice::<Post>(&body);
    let (true, Ok(post)) = (signed, post) else {
        shared.refused.count(1);
        return StatusCode::BAD_REQUEST;
    };
    let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    tokio::spawn(async move {
        let driver = shared.driver.starting_at(agent);
        if let Err(error) = driver.resolve(&post.intent_id, post.payload.number).await {
            shared.refused.count(1);
            tracing::debug!(%error, "a result did not take effect");
        }
        drop(place);
    });
    StatusCode::OK
}

/// Whether `X-Axme-Signature` is this secret's for this body.
fn is_signed(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let wanted = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map(|mac| format!("sha256={:x}", mac.chain_update(body).finalize().into_bytes()));
    let given = headers.get("x-axme-signature").map(|value| value.as_bytes());
    wanted.is_ok_and(|wanted| given == Some(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_signed_with_its_agents_secret_over_its_body() {
        // printf '{}' | openssl dgst -sha256 -hmac whsec_c2VjcmV0
        let hex = "f2a9d48be51b03e17422a1499a4cdb7f8400afd0aa4cf50f34b9852d223553bb";
        let mut headers = HeaderMap::new();
        assert!(!is_signed("whsec_c2VjcmV0", &headers, b"{}"));
        headers.insert("x-axme-signature", format!("sha256={hex}").parse().unwrap());
        assert!(is_signed("whsec_c2VjcmV0", &headers, b"{}"));
        assert!(!is_signed("whsec_other", &headers, b"{}"));
        assert!(!is_signed("whsec_c2VjcmV0", &headers, b"{ }"));
    }
}
