//! The HTTP endpoint of a push agent: down at first, then it takes its delivery and hands in the result.

use super::scenario::AGENT;
use crate::client::Api;
use crate::output::Output;
use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Deliveries that find the endpoint down.
const DOWN_FOR: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(20);

struct Shared {
    api: Api,
    out: Output,
    hits: AtomicU32,
}

/// A running endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: String,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Listens on a free port of this machine.
    pub(super) async fn start(api: Api, out: Output) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("no port for the endpoint")?;
        let url = format!("http://{}/deliveries", listener.local_addr()?);
        let shared = Arc::new(Shared {
            api,
            out,
            hits: AtomicU32::new(0),
        });
        let app = Router::new().route("/deliveries", post(take)).with_state(shared);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the demo endpoint ended");
            }
        });
        Ok(Self { url, task })
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let hit = shared.hits.fetch_add(1, Ordering::Relaxed) + 1;
    if hit <= DOWN_FOR {
        shared
            .out
            .line(format!("      attempt {hit}: the endpoint is down, 503"));
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let signed = if headers.contains_key("x-axme-signature") {
        "signed"
    } else {
        "unsigned"
    };
    shared.out.line(format!("      attempt {hit}: taken, {signed}"));
    let delivery: Value = serde_json::from_slice(&body).unwrap_or_default();
    tokio::spawn(async move {
        if let Err(error) = hand_in(&shared.api, &delivery).await {
            shared.out.line(format!("      no result: {error}"));
        }
    });
    StatusCode::OK
}

async fn hand_in(api: &Api, delivery: &Value) -> anyhow::Result<()> {
    let id = delivery["intent_id"]
        .as_str()
        .context("the delivery names no intent")?;
    let result = json!({"action": "complete", "status": "captured"});
    let path = format!("/v1/intents/{id}/resume?owner_agent={AGENT}");
    let key = format!("demo-endpoint-{id}");
    let answer = api
        .call(Method::POST, &path, Some(&result), Some(&key), PATIENCE)
        .await?;
    anyhow::ensure!(answer.ok(), "not completed: {}", answer.problem());
    Ok(())
}
