//! `baton workspaces`: settings of a workspace.

use super::connect::ConnectArgs;
use super::http::{Http, path, text};
use super::values::{parse_duration, span};
use crate::exit::Failure;
use crate::output::{Output, properties};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Value, json};
use std::time::Duration;

/// The key's own workspace, in a path.
const OWN: &str = "self";

#[derive(Debug, Args)]
#[command(after_help = "Example: baton workspaces retention set 30d")]
pub(super) struct WorkspacesArgs {
    #[command(subcommand)]
    command: WorkspacesCommand,
}

#[derive(Debug, Subcommand)]
enum WorkspacesCommand {
    /// How long ended intents are kept
    #[command(after_help = "Example: baton workspaces retention show")]
    Retention(RetentionArgs),
}

#[derive(Debug, Args)]
struct RetentionArgs {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Show how long the workspace keeps ended intents
    #[command(after_help = "Example: baton workspaces retention show -o json")]
    Show(ShowArgs),
    /// Set how long it keeps them, ended ones included; asks for an operator key
    #[command(after_help = "Example: baton workspaces retention set 30d")]
    Set(SetArgs),
    /// Keep them as long as the cluster does; asks for an operator key
    #[command(after_help = "Example: baton workspaces retention clear")]
    Clear(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Id of the workspace; the key's own when absent
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Time after the end of an intent, as in 30d or 36h
    #[arg(value_name = "TIME", value_parser = parse_duration)]
    time: Duration,
    #[command(flatten)]
    of: ShowArgs,
}

pub(super) async fn run(args: WorkspacesArgs, out: Output) -> Result<(), Failure> {
    let WorkspacesCommand::Retention(RetentionArgs { command }) = args.command;
    let (of, method, body) = match command {
        RetentionCommand::Show(of) => (of, "GET", None),
        RetentionCommand::Clear(of) => (of, "DELETE", None),
        RetentionCommand::Set(SetArgs { time, of }) => {
            let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            (of, "PUT", Some(json!({"terminal_retention_ms": ms})))
        }
    };
    let id = of.workspace.as_deref().unwrap_or(OWN);
    let path = path(&["v1", "workspaces", id, "retention"], &[])?;
    let answer = Http::new(&of.connect)?.call(method, &path, body.as_ref()).await?;
    show(&answer["retention"], out);
    Ok(())
}

fn show(retention: &Value, out: Output) {
    let time = |name: &str| retention[name].as_u64().map(|ms| Cell::new(span(ms)));
    let of = if retention["inherited"] == true {
        "the cluster"
    } else {
        "this workspace"
    };
    let rows = vec![
        ("workspace", Some(Cell::new(text(&retention["workspace_id"])))),
        ("ended intents are kept", time("terminal_retention_ms")),
        ("setting of", Some(Cell::new(of))),
        ("shortest", time("terminal_retention_min_ms")),
        ("longest", time("terminal_retention_max_ms")),
    ];
    out.result(retention, &[properties(rows)]);
}
