//! The payment scenario: one agent, one step, watched to its end.

use crate::client::Api;
use crate::output::Output;
use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Bare name of the agent that handles the payments.
pub(super) const AGENT: &str = "payment-service-demo";
/// Type of every payment intent.
pub(super) const INTENT_TYPE: &str = "intent.payment.process.v1";
/// Longest wait for a scenario's end; its steps have deadlines of their own.
const SCENARIO_PATIENCE: Duration = Duration::from_secs(130);

/// The payment scenario.
pub(super) fn bundle() -> Value {
    json!({
        "scenario_id": "replacing-webhooks.demo.v1",
        "title": "Payment without webhooks",
        "agents": [{
            "role": "payment",
            "address": AGENT,
            "create_if_missing": true,
            "delivery_mode": "stream",
            "display_name": "Payment service",
        }],
        "workflow": {"steps": [{
            "step_id": "process_payment",
            "tool_id": "tool.agent.task.v1",
            "assigned_to": "payment",
            "step_deadline_seconds": 120,
        }]},
        "intent": {
            "type": INTENT_TYPE,
            "payload": payload(),
            "max_delivery_attempts": 3,
        },
    })
}

/// The order of the example.
pub(super) fn payload() -> Value {
    json!({"order_id": "ORD-8842", "amount": 199.99, "currency": "USD"})
}

/// The applied scenario.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) intent_id: String,
    /// Full address of the agent.
    pub(super) agent_address: String,
    pub(super) service_account_id: String,
}

/// Applies the scenario.
pub(super) async fn apply(api: &Api, bundle: &Value) -> anyhow::Result<Applied> {
    let key = format!("demo-scenario-{}", uuid::Uuid::new_v4());
    let answer = api
        .call(
            Method::POST,
            "/v1/scenarios/apply",
            Some(bundle),
            Some(&key),
            Duration::from_secs(20),
        )
        .await?;
    ensure!(answer.ok(), "the scenario was refused: {}", answer.problem());
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let agent = &answer.body["agents_provisioned"][0];
    Ok(Applied {
        intent_id: text(&answer.body["intent_id"]).context("no intent_id in the answer")?,
        agent_address: text(&agent["address"]).context("no agents_provisioned[0].address in the answer")?,
        service_account_id: text(&agent["service_account_id"])
            .context("no agents_provisioned[0].service_account_id in the answer")?,
    })
}

/// A key of the agent's own.
pub(super) async fn agent_key(api: &Api, service_account_id: &str) -> anyhow::Result<String> {
    let path = format!("/v1/service-accounts/{service_account_id}/keys");
    // Once only: a repeated call would mint another key and the lost one would stay valid.
    let answer = api
        .once(Method::POST, &path, Some(&json!({"name": "demo"})), None)
        .await?;
    ensure!(answer.ok(), "no key for the agent: {}", answer.problem());
    let token = answer.body["key"]["token"]
        .as_str()
        .context("no key.token in the answer")?;
    Ok(token.to_owned())
}

/// Prints each lifecycle event as it arrives and returns the terminal one's status.
pub(super) async fn watch(api: &Api, intent_id: &str, out: Output) -> anyhow::Result<String> {
    let mut frames = api.follow(format!("/v1/intents/{intent_id}/events/stream"), 0);
    let until = tokio::time::Instant::now() + SCENARIO_PATIENCE;
    loop {
        let frame = tokio::time::timeout_at(until, frames.recv())
            .await
            .context("the scenario did not end in time")?
            .context("the event stream closed")?;
        let event: Value = serde_json::from_str(&frame.data)?;
        out.line(describe(&event));
        let status = event["status"].as_str().unwrap_or_default();
        if is_terminal(event["event_type"].as_str().unwrap_or_default()) {
            return Ok(status.to_owned());
        }
    }
}

fn describe(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let mut line = format!(
        "  {:>2}  {:<22} {:<12}",
        event["seq"],
        text("event_type"),
        text("status")
    );
    if let Some(name) = event["pending_with"]["name"]
        .as_str()
        .filter(|name| !name.is_empty())
    {
        line.push_str(&format!(" with {name}"));
    }
    if let Some(at) = event["at"].as_str() {
        line.push_str(&format!("  {at}"));
    }
    line
}

/// Whether an event of this type ends an intent.
pub(super) fn is_terminal(event_type: &str) -> bool {
    matches!(
        event_type,
        "intent.completed" | "intent.failed" | "intent.canceled" | "intent.timed_out"
    )
}
