//! The built-in agent: listens on its address, fetches each intent and completes it, over HTTP alone.

use super::scenario::AGENT;
use crate::client::Api;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Intents handled at the same time.
const CONCURRENCY: usize = 16;
/// How long one intent is worked on across failing nodes; later the broker delivers it again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Intents of bursts that the agent has seen, as (burst run, intent id).
pub(super) type Seen = Arc<Mutex<BTreeSet<(String, String)>>>;

/// A running agent.
#[derive(Debug)]
pub(super) struct Agent {
    seen: Seen,
    task: JoinHandle<()>,
}

impl Agent {
    /// Starts listening with the agent's own key.
    pub(super) fn start(api: Api, address: &str) -> Self {
        let seen = Seen::default();
        let path = format!("/v1/agents/{}/intents/stream", address.replace(' ', ""));
        let task = tokio::spawn(listen(api, path, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Ids of this burst's intents that were delivered.
    pub(super) fn seen_in(&self, run: &str) -> BTreeSet<String> {
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.iter()
            .filter(|(of, _)| of == run)
            .map(|(_, id)| id.clone())
            .collect()
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

async fn listen(api: Api, path: String, seen: Seen) {
    let mut frames = api.follow(path, 0);
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let open = Arc::new(Mutex::new(BTreeSet::new()));
    while let Some(frame) = frames.recv().await {
        let Some(id) = serde_json::from_str::<Value>(&frame.data)
            .ok()
            .and_then(|data| data["intent_id"].as_str().map(ToOwned::to_owned))
        else {
            continue;
        };
        // Deliveries are repeated until they are answered; one answer under way is enough.
        if !lock(&open).insert(id.clone()) {
            continue;
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (api, seen, open) = (api.clone(), Arc::clone(&seen), Arc::clone(&open));
        tokio::spawn(async move {
            if let Err(error) = handle(&api, &id, &seen).await {
                tracing::debug!(intent_id = %id, %error, "the demo agent gave up; the broker will deliver again");
            }
            lock(&open).remove(&id);
            drop(place);
        });
    }
}

async fn handle(api: &Api, id: &str, seen: &Seen) -> anyhow::Result<()> {
    let answer = api.get(&format!("/v1/intents/{id}"), PATIENCE).await?;
    anyhow::ensure!(answer.ok(), "cannot fetch: {}", answer.problem());
    let intent = &answer.body["intent"];
    let parent = &intent["payload"]["parent_payload"];
    let payload = if parent.is_null() {
        &intent["payload"]
    } else {
        parent
    };
    if let Some(run) = payload["demo_run"].as_str() {
        lock(seen).insert((run.to_owned(), id.to_owned()));
    }
    let short: String = id.chars().filter(char::is_ascii_hexdigit).skip(20).collect();
    let result = json!({
        "action": "complete",
        "status": "captured",
        "order_id": payload["order_id"],
        "amount": payload["amount"],
        "currency": payload["currency"],
        "transaction_id": format!("txn-{short}"),
    });
    let path = format!("/v1/intents/{id}/resume?owner_agent={AGENT}");
    let answer = api
        .call(Method::POST, &path, Some(&result), None, PATIENCE)
        .await?;
    // A conflict means that an earlier, unanswered try has completed it.
    anyhow::ensure!(
        answer.ok() || answer.status == 409,
        "not completed: {}",
        answer.problem()
    );
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
