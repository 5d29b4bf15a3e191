//! The calls over HTTP and event streams.

use super::{Numbered, PATIENCE, Refused, SEEN_QUEUE_ITEMS_MAX};
use crate::bench::load::{INTENT_TYPE, Job};
use crate::client::Api;
use crate::client::sse::Frame;
use anyhow::Context as _;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

/// Completions under way per agent.
const IN_FLIGHT: usize = 64;
/// How long a completion is tried; the broker delivers again later.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(10);
/// Seq of the last of the three events of an intent's birth, which the submitter knows already.
const BIRTH_SEQ: u64 = 3;

/// A client of the AXP surface.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Axp {
    api: Api,
}

/// What the generator reads of a delivery.
#[derive(Debug, Deserialize)]
struct Delivery {
    intent_id: String,
    payload: Numbered,
}

impl Delivery {
    fn read(frame: &Frame) -> Option<Self> {
        serde_json::from_str(&frame.data).ok()
    }
}

impl Axp {
    pub(in crate::bench) fn new(api: Api) -> Self {
        Self { api }
    }

    pub(super) fn starting_at(&self, n: usize) -> Self {
        Self {
            api: self.api.starting_at(n),
        }
    }

    pub(super) async fn submit(&self, job: &Job) -> anyhow::Result<String> {
        let body = json!({"intent_type": INTENT_TYPE, "to_agent": job.to, "payload": job.payload()});
        let key = job.key();
        let answer = self
            .api
            .once(Method::POST, "/v1/intents", Some(&body), key.as_deref())
            .await?;
        anyhow::ensure!(answer.ok(), "submit: {}", answer.problem());
        let id = answer.body["intent_id"].as_str();
        Ok(id.context("submit: no intent_id in the answer")?.to_owned())
    }

    pub(super) async fn cycle(&self, job: &Job) -> anyhow::Result<u64> {
        let id = self.submit(job).await?;
        self.ended(&id, BIRTH_SEQ).await
    }

    pub(super) async fn get(&self, id: &str) -> anyhow::Result<u64> {
        let answer = self
            .api
            .once(Method::GET, &format!("/v1/intents/{id}"), None, None)
            .await?;
        anyhow::ensure!(answer.ok(), "get: {}", answer.problem());
        let intent = &answer.body["intent"];
        anyhow::ensure!(intent["intent_id"] == id, "get: another intent came back");
        number_of(&intent["payload"])
    }

    pub(super) async fn resolve(&self, id: &str, number: u64) -> anyhow::Result<()> {
        let body = json!({"status": "COMPLETED", "result": {"number": number}});
        let path = format!("/v1/intents/{id}/resolve");
        let answer = self
            .api
            .call(Method::POST, &path, Some(&body), None, COMPLETION_PATIENCE)
            .await?;
        anyhow::ensure!(answer.ok(), "resolve: {}", answer.problem());
        Ok(())
    }

    pub(super) async fn watch(&self, id: &str) -> anyhow::Result<u64> {
        self.ended(id, 0).await
    }

    /// Waits for the terminal event on the intent's stream.
    async fn ended(&self, id: &str, since: u64) -> anyhow::Result<u64> {
        let mut frames = self.api.follow(format!("/v1/intents/{id}/events/stream"), since);
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = tokio::time::timeout_at(until, frames.recv())
                .await
                .context("no end was seen in time")?
                .context("the event stream closed")?;
            match frame.event.as_str() {
                "intent.completed" => {
                    let event: Value = serde_json::from_str(&frame.data)?;
                    return number_of(&event["details"]["result"]);
                }
                "intent.failed" | "intent.canceled" | "intent.timed_out" => {
                    anyhow::bail!("ended as {}", frame.event)
                }
                _ => {}
            }
        }
    }

    pub(super) fn subscribe(&self, agent: &str) -> mpsc::Receiver<u64> {
        let (sender, receiver) = mpsc::channel(SEEN_QUEUE_ITEMS_MAX);
        let mut frames = self.api.follow(format!("/v1/agents/{agent}/intents/stream"), 0);
        tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = frames.recv() => frame,
                    () = sender.closed() => None,
                };
                let Some(frame) = frame else { return };
                if let Some(delivery) = Delivery::read(&frame) {
                    // A closed receiver is noticed above.
                    _ = sender.send(delivery.payload.number).await;
                }
            }
        });
        receiver
    }

    /// An agent that completes every delivery straight from its frame.
    pub(super) async fn listen(self, name: String, refused: Refused) {
        let mut frames = self.api.follow(format!("/v1/agents/{name}/intents/stream"), 0);
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        while let Some(frame) = frames.recv().await {
            let Some(delivery) = Delivery::read(&frame) else {
                refused.count(1);
                continue;
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (axp, name, refused) = (self.clone(), name.clone(), refused.clone());
            tokio::spawn(async move {
                if let Err(error) = axp.complete(&delivery, &name).await {
                    refused.count(1);
                    tracing::debug!(%error, "a completion did not take effect");
                }
                drop(place);
            });
        }
    }

    async fn complete(&self, delivery: &Delivery, name: &str) -> anyhow::Result<()> {
        let path = format!("/v1/intents/{}/resume?owner_agent={name}", delivery.intent_id);
        let result = json!({"action": "complete", "number": delivery.payload.number});
        let answer = self
            .api
            .call(Method::POST, &path, Some(&result), None, COMPLETION_PATIENCE)
            .await?;
        anyhow::ensure!(answer.ok(), "resume: {}", answer.problem());
        Ok(())
    }
}

fn number_of(json: &Value) -> anyhow::Result<u64> {
    json["number"]
        .as_u64()
        .context("a payload or result without its number")
}
