//! `baton agents backlog`.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::{now_ms, span};
use crate::exit::Failure;
use crate::output::{Output, list};
use baton_client::Backlog;
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents backlog payment")]
pub(super) struct BacklogArgs {
    /// Addresses or names; without one, all agents of the workspace
    agents: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct Row {
    pub(in crate::cli) agent: String,
    #[serde(flatten)]
    pub(in crate::cli) backlog: Backlog,
}

impl Row {
    /// How long the oldest has been waiting.
    pub(in crate::cli) fn age(&self) -> String {
        let oldest = self.backlog.oldest_at_ms;
        oldest.map_or_else(String::new, |at| span(now_ms().saturating_sub(at)))
    }
}

pub(super) async fn run(args: BacklogArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let mut agents = args.agents;
    if agents.is_empty() {
        let all = client.list_agents().await?;
        agents = all.into_iter().map(|agent| agent.address).collect();
    }
    let mut rows = Vec::new();
    for agent in agents {
        let backlog = client.backlog(&agent).await?;
        rows.push(Row { agent, backlog });
    }
    let mut table = list(&["agent", "open", "oldest"]);
    for row in &rows {
        table.add_row([
            row.agent.clone(),
            row.backlog.open_deliveries.to_string(),
            row.age(),
        ]);
    }
    out.result(&rows, &[table]);
    Ok(())
}
