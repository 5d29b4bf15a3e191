//! `baton demo`: three nodes, the payment scenario, and a burst that loses its leader on the way.

mod agent;
mod burst;
mod endpoint;
mod scenario;
mod show;

pub use show::Show;

use crate::cluster::{Cluster, LaunchOptions};
use crate::exit::Failure;
use crate::output::{Output, table};
use agent::Agent;
use std::time::Duration;

/// What to show.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    pub launch: LaunchOptions,
    /// Intents of the burst.
    pub intents: usize,
    /// Submits at the same time.
    pub concurrency: usize,
    /// End after the table.
    pub exit: bool,
    /// Show this scenario alone, and end with it.
    pub show: Option<Show>,
}

/// Runs the demo. Returns when told to by `interrupted`, or after the table with `exit`.
///
/// # Errors
/// A cluster that does not start; with `exit` also lost or doubled intents.
pub async fn run(
    options: DemoOptions,
    out: Output,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut cluster: Option<Cluster> = None;
    let result = tokio::select! {
        result = play(&options, out, &mut cluster) => result,
        () = interrupted => Ok(()),
    };
    if let Some(mut cluster) = cluster {
        out.line("stopping the nodes");
        cluster.stop().await;
    }
    result
}

async fn play(options: &DemoOptions, out: Output, slot: &mut Option<Cluster>) -> Result<(), Failure> {
    let cluster = Cluster::start(options.launch.clone(), &|line| out.line(line)).await?;
    let cluster = slot.insert(cluster);
    introduce(cluster, out);
    let api = cluster.api()?;

    if let Some(show) = options.show {
        return show::play(show, cluster, &api, out).await;
    }
    out.line("\nOne payment, as scenario replacing-webhooks.demo.v1:");
    let applied = scenario::apply(&api, &scenario::bundle()).await?;
    let key = scenario::agent_key(&api, &applied.service_account_id).await?;
    let agent_api = crate::client::Api::new(&cluster.base_urls(), &key)?;
    let agent = Agent::start(agent_api, scenario::AGENT);
    let status = scenario::watch(&api, &applied.intent_id, out).await?;
    if status != "COMPLETED" {
        return Err(Failure::failed(format!("the payment scenario ended {status}")));
    }

    let group = agent_group(cluster, &applied.agent_address).await?;
    out.line(format!(
        "\n{} payments, {} at a time; the node that leads group {group} is killed in the middle:",
        options.intents, options.concurrency
    ));
    let size = burst::Size {
        intents: options.intents,
        concurrency: options.concurrency,
    };
    let outcome = burst::run(cluster, &api, &agent, &applied.agent_address, group, size).await?;
    report(&outcome, out);
    cluster.start_node(outcome.killed_node)?;
    cluster.wait_ready(outcome.killed_node).await?;
    out.line(format!("node-{} is back", outcome.killed_node));

    if options.exit {
        agent.stop();
        return if outcome.clean() {
            Ok(())
        } else {
            Err(Failure::failed(
                "the burst lost or doubled intents; see the table",
            ))
        };
    }
    invite(cluster, out);
    std::future::pending().await
}

fn introduce(cluster: &Cluster, out: Output) {
    let credentials = cluster.credentials();
    out.line(format!("\nAPI address    {}", cluster.base_url(1)));
    out.line(format!("operator key   {}", credentials.operator_token));
    out.line(format!("org id         {}", credentials.org_id));
    out.line(format!("workspace id   {}", credentials.workspace_id));
}

async fn agent_group(cluster: &Cluster, address: &str) -> Result<u32, Failure> {
    let slot = baton_protocol::Slot::of_key(address);
    let status = cluster.status(1).await?;
    let map = baton_protocol::GroupMap::new(status.shard_groups).map_err(|e| Failure::failed(e.message))?;
    Ok(map.group_of(slot).0)
}

fn report(outcome: &burst::Outcome, out: Output) {
    let mut rows = table(&["burst", "intents"]);
    rows.add_row(["submitted".to_owned(), outcome.submitted.to_string()]);
    rows.add_row(["completed".to_owned(), outcome.completed.to_string()]);
    rows.add_row(["lost".to_owned(), outcome.lost.to_string()]);
    rows.add_row(["completed twice".to_owned(), outcome.completed_twice.to_string()]);
    rows.add_row(["created twice".to_owned(), outcome.created_twice.to_string()]);
    rows.add_row([
        format!("failover after kill -9 of node-{}", outcome.killed_node),
        format!("{} ms", outcome.failover_ms),
    ]);
    out.result(outcome, &[rows]);
}

/// Three lines that a person can paste into another terminal.
fn invite(cluster: &Cluster, out: Output) {
    let env = cluster.layout().client_env();
    out.line("\nThe cluster stays up until Ctrl-C and the built-in agent goes on handling payments.");
    out.line("Send one with the published Python client from another terminal:\n");
    out.line(format!("  set -a; . {}; set +a", env.display()));
    out.line("  python3 -m venv /tmp/axme && /tmp/axme/bin/pip install -q axme==0.2.0");
    out.line(format!(
        "  /tmp/axme/bin/python -c 'import os; from axme import *; \
         c = AxmeClient(AxmeClientConfig(os.environ[\"AXME_BASE_URL\"], os.environ[\"AXME_API_KEY\"])); \
         print(c.wait_for(c.send_intent({{\"intent_type\": \"{}\", \"to_agent\": \"{}\", \
         \"payload\": {{\"order_id\": \"ORD-1\", \"amount\": 5, \"currency\": \"USD\"}}}})))'",
        scenario::INTENT_TYPE,
        scenario::AGENT
    ));
}

/// How long a demo may take to become ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(90);
