//! `baton audit`: what people and administrators did, and proof that nobody changed it afterwards.

mod chain;
mod export;
mod list;
mod source;
mod verify;

use super::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton audit list --action task.")]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List events, newest first
    #[command(
        after_help = "Examples:\n  baton audit list --action task.\n  baton audit list --owner payment --since 2026-05-01T00:00:00Z"
    )]
    List(ListArgs),
    /// Show how far each chain has come; keep a copy elsewhere to verify against later
    #[command(after_help = "Example: baton audit heads -o json > heads.json")]
    Heads(HeadsArgs),
    /// Write heads and every event as lines of JSON, for verification without the cluster
    #[command(after_help = "Example: baton audit export --out audit.jsonl")]
    Export(ExportArgs),
    /// Recompute every hash of every chain and compare; fails with the first event that does not fit
    #[command(
        after_help = "Examples:\n  baton audit verify --against heads.json\n  baton audit verify --file audit.jsonl --against heads.json"
    )]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only actions that begin like this
    #[arg(long, value_name = "PREFIX")]
    action: Option<String>,
    /// Only what was done on behalf of this agent
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<String>,
    /// Only from this time on, as in 2026-05-01T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Most events to show, 1 to 250
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Where to go on: the next_cursor of an earlier list
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Id of the workspace, with an operator key; cluster = the cluster as a whole
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Which chains.
#[derive(Debug, Clone, Args)]
struct ScopeArgs {
    /// Id of the workspace, with an operator key; cluster = the cluster as a whole
    #[arg(long, value_name = "ID", conflicts_with = "all_workspaces")]
    workspace: Option<String>,
    /// Every workspace and the cluster as a whole, with an operator key
    #[arg(long)]
    all_workspaces: bool,
}

impl ScopeArgs {
    /// As the surface names it; empty = the key's own.
    fn workspace_id(&self) -> String {
        if self.all_workspaces {
            "*".to_owned()
        } else {
            self.workspace.clone().unwrap_or_default()
        }
    }
}

#[derive(Debug, Args)]
struct HeadsArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// File to write; standard output when absent
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Heads or an export of an earlier time: nothing up to there may have changed or gone
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Verify this export instead of the cluster
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workspace", "all_workspaces"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: AuditArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        AuditCommand::List(args) => list::list(args, out).await,
        AuditCommand::Heads(args) => list::heads(&args, out).await,
        AuditCommand::Export(args) => export::run(&args, out).await,
        AuditCommand::Verify(args) => verify::run(&args, out).await,
    }
}
