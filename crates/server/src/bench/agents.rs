//! Agents of the cycle cells: they complete every delivery straight from its frame.

use super::load::Load;
use crate::client::Api;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Completions under way per agent.
const IN_FLIGHT: usize = 64;
/// How long a completion is tried; the broker delivers again later.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listeners, one per agent address, spread over the nodes.
#[derive(Debug)]
pub(super) struct Agents {
    tasks: Vec<JoinHandle<()>>,
}

impl Agents {
    pub(super) fn start(api: &Api, load: &Load) -> Self {
        let tasks = load
            .agents()
            .enumerate()
            .map(|(n, name)| tokio::spawn(listen(api.starting_at(n), name)))
            .collect();
        Self { tasks }
    }

    pub(super) fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(api: Api, name: String) {
    let mut frames = api.follow(format!("/v1/agents/{name}/intents/stream"), 0);
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let result = Arc::new(json!({"action": "complete", "status": "captured"}));
    while let Some(frame) = frames.recv().await {
        let Ok(data) = serde_json::from_str::<Value>(&frame.data) else {
            continue;
        };
        let Some(id) = data["intent_id"].as_str() else {
            continue;
        };
        let path = format!("/v1/intents/{id}/resume?owner_agent={name}");
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (api, result) = (api.clone(), Arc::clone(&result));
        tokio::spawn(async move {
            if let Err(error) = api.call(Method::POST, &path, Some(&result), None, PATIENCE).await {
                tracing::debug!(%error, "a completion was not answered");
            }
            drop(place);
        });
    }
}
