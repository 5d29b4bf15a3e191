//! `baton demo --scenario`: one scenario, narrated to its end.

use super::agent::Agent;
use super::endpoint::Endpoint;
use super::scenario::{self, AGENT, INTENT_TYPE};
use crate::client::Api;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::{Context as _, ensure};
use baton_protocol::{GroupMap, IntentId};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A scenario that can be shown by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Show {
    /// An agent prepares a refund, a person is reminded and approves it
    HumanApproval,
    /// Two agent steps with a pause between them, in which a node is killed
    Delay,
    /// The agent is an HTTP endpoint that is down at first
    Push,
}

/// How long the person in the story takes; longer than the first reminder.
const THINKING: Duration = Duration::from_secs(3);
/// Pause between two attempts at an endpoint.
const RETRY_MS: u64 = 1_000;
const CALL_PATIENCE: Duration = Duration::from_secs(20);

impl Show {
    /// What the nodes need to be told for this story.
    pub(crate) fn prepare(self, config: &mut Config) {
        if self == Self::Push {
            config.push.retry_schedule_ms = vec![RETRY_MS];
        }
    }

    fn bundle(self, callback_url: Option<&str>) -> Value {
        let work = |step: &str| {
            json!({
                "step_id": step,
                "tool_id": "tool.agent.task.v1",
                "assigned_to": "worker",
                "step_deadline_seconds": 60,
            })
        };
        let (id, steps) = match self {
            Self::HumanApproval => (
                "human-approval.demo.v1",
                vec![
                    work("prepare_refund"),
                    json!({
                        "step_id": "approve",
                        "tool_id": "tool.approval.human_signoff",
                        "assigned_to": "manager",
                        "step_deadline_seconds": 60,
                        "remind_after_seconds": 2,
                        "human_task": {"title": "Pay out this refund?", "task_type": "approval"},
                    }),
                ],
            ),
            Self::Delay => (
                "delay.demo.v1",
                vec![
                    work("reserve"),
                    json!({
                        "step_id": "cool_down",
                        "tool_id": "tool.internal.delay",
                        "input": {"seconds": 5},
                    }),
                    work("charge"),
                ],
            ),
            Self::Push => ("push.demo.v1", vec![work("process_payment")]),
        };
        json!({
            "scenario_id": id,
            "agents": [{
                "role": "worker",
                "address": AGENT,
                "create_if_missing": true,
                "display_name": "Payment service",
                "delivery_mode": if callback_url.is_some() { "http" } else { "stream" },
                "callback_url": callback_url,
            }],
            "humans": [{"role": "manager", "contact": "manager@example.com", "display_name": "The manager"}],
            "workflow": {"steps": steps},
            "intent": {"type": INTENT_TYPE, "payload": scenario::payload()},
        })
    }
}

/// Applies the scenario, plays everybody's part and returns when it has completed.
pub(super) async fn play(show: Show, cluster: &mut Cluster, api: &Api, out: Output) -> Result<(), Failure> {
    let endpoint = match show {
        Show::Push => Some(Endpoint::start(api.clone(), out).await?),
        Show::HumanApproval | Show::Delay => None,
    };
    let url = endpoint.as_ref().map(|endpoint| endpoint.url.as_str());
    let applied = scenario::apply(api, &show.bundle(url)).await?;
    let agent = if endpoint.is_none() {
        let key = scenario::agent_key(api, &applied.service_account_id).await?;
        Some(Agent::start(Api::new(&cluster.base_urls(), &key)?, AGENT))
    } else {
        None
    };
    out.line(format!("\nScenario intent {}", applied.intent_id));
    let story = async {
        match show {
            Show::HumanApproval => approve(api, &applied.intent_id, out).await,
            Show::Delay => kill_in_the_pause(cluster, api, &applied.intent_id, out).await,
            Show::Push => Ok(()),
        }
    };
    let (status, told) = tokio::join!(scenario::watch(api, &applied.intent_id, out), story);
    if let Some(agent) = agent {
        agent.stop();
    }
    if let Some(endpoint) = endpoint {
        endpoint.stop();
    }
    told?;
    let status = status?;
    if status == "COMPLETED" {
        out.line("\nThe scenario completed, as it should.");
        Ok(())
    } else {
        Err(Failure::failed(format!("the scenario ended {status}")))
    }
}

/// The manager's part: finds the task in the list, thinks, approves.
async fn approve(api: &Api, intent_id: &str, out: Output) -> anyhow::Result<()> {
    wait_for(api, intent_id, "WAITING_FOR_HUMAN").await?;
    let tasks = api.get("/v1/me/tasks", CALL_PATIENCE).await?;
    ensure!(tasks.ok(), "no list of tasks: {}", tasks.problem());
    out.line("      the manager finds the task in the list and thinks; nobody polls");
    tokio::time::sleep(THINKING).await;
    let answer = json!({"task_result": {"outcome": "approved", "comment": "the customer is right"}});
    let path = format!("/v1/intents/{intent_id}/resume");
    let key = format!("demo-approval-{intent_id}");
    let answered = api
        .call(Method::POST, &path, Some(&answer), Some(&key), CALL_PATIENCE)
        .await?;
    ensure!(answered.ok(), "the approval was refused: {}", answered.problem());
    out.line("      the manager approved");
    Ok(())
}

/// The accident: the node that would have ended the pause is gone.
async fn kill_in_the_pause(
    cluster: &mut Cluster,
    api: &Api,
    intent_id: &str,
    out: Output,
) -> anyhow::Result<()> {
    wait_for(api, intent_id, "WAITING_FOR_TIME").await?;
    let id: uuid::Uuid = intent_id.parse()?;
    let id = IntentId::from_slice(id.as_bytes()).context("the intent id is malformed")?;
    let status = cluster.status(1).await?;
    let group = GroupMap::new(status.shard_groups)?.group_of(id.slot()).0;
    let victim = cluster.leader_of(group, CALL_PATIENCE).await?;
    cluster.kill_node(victim).await?;
    out.line(format!(
        "      kill -9 of node-{victim}, which led the scenario; the pause is in the log of the others"
    ));
    Ok(())
}

async fn wait_for(api: &Api, intent_id: &str, reason: &str) -> anyhow::Result<()> {
    let path = format!("/v1/intents/{intent_id}");
    for _ in 0..300 {
        let answer = api.get(&path, CALL_PATIENCE).await?;
        if answer.body["intent"]["lifecycle_waiting_reason"] == reason {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the scenario never came to {reason}")
}
