//! `baton agents`.

mod backlog;
mod callback;
mod keys;
mod register;
mod show;

pub(super) use backlog::Row as BacklogRow;

use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents register payment --key")]
pub(super) struct AgentsArgs {
    #[command(subcommand)]
    command: AgentsCommand,
}

#[derive(Debug, Subcommand)]
enum AgentsCommand {
    /// List the agents of the workspace
    List(show::ListArgs),
    /// Show one agent
    Show(show::ShowArgs),
    /// Register an agent, or find the one of this name
    Register(register::RegisterArgs),
    /// Make or revoke an agent's keys
    Keys(keys::KeysArgs),
    /// Show and set where an agent's deliveries are posted; rotate the secret
    Callback(callback::CallbackArgs),
    /// Show what waits for agents
    Backlog(backlog::BacklogArgs),
}

pub(super) async fn run(args: AgentsArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        AgentsCommand::List(args) => show::list_agents(args, out).await,
        AgentsCommand::Show(args) => show::run(args, out).await,
        AgentsCommand::Register(args) => register::run(args, out).await,
        AgentsCommand::Keys(args) => keys::run(args, out).await,
        AgentsCommand::Callback(args) => callback::run(args, out).await,
        AgentsCommand::Backlog(args) => backlog::run(args, out).await,
    }
}
