//! `baton agents list` and `baton agents show`.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::moment;
use crate::exit::Failure;
use crate::output::{Output, list, properties};
use baton_client::Agent;
use clap::Args;
use comfy_table::{Cell, Table};

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents list -o json | jq -r '.[].address'")]
pub(super) struct ListArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents show agent://baton/default/payment")]
pub(super) struct ShowArgs {
    /// Address of the agent, or its name in the key's workspace
    agent: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn list_agents(args: ListArgs, out: Output) -> Result<(), Failure> {
    let agents = args.connect.client()?.list_agents().await?;
    let mut table = list(&["address", "name", "delivery", "created", "state"]);
    for agent in &agents {
        table.add_row([
            agent.address.clone(),
            agent.name.clone(),
            mode(agent).to_owned(),
            moment(agent.created_at_ms),
            state(agent).to_owned(),
        ]);
    }
    out.result(&agents, &[table]);
    Ok(())
}

pub(super) async fn run(args: ShowArgs, out: Output) -> Result<(), Failure> {
    let agent = args.connect.client()?.get_agent(&args.agent).await?;
    out.result(&agent, &[table(&agent)]);
    Ok(())
}

pub(super) fn table(agent: &Agent) -> Table {
    properties(vec![
        ("address", Some(Cell::new(&agent.address))),
        ("name", Some(Cell::new(&agent.name))),
        ("shown as", agent.display_name.as_ref().map(Cell::new)),
        ("id", Some(Cell::new(&agent.agent_id))),
        ("delivery", Some(Cell::new(mode(agent)))),
        ("created", Some(Cell::new(moment(agent.created_at_ms)))),
        ("state", Some(Cell::new(state(agent)))),
    ])
}

fn mode(agent: &Agent) -> &str {
    agent.delivery_mode.as_deref().unwrap_or("stream")
}

fn state(agent: &Agent) -> &'static str {
    if agent.disabled { "disabled" } else { "active" }
}
