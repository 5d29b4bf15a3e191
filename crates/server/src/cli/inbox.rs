//! `baton inbox`.

use super::connect::ConnectArgs;
use super::values::{moment, now_ms, span};
use crate::exit::Failure;
use crate::output::{Output, list, properties};
use baton_client::Thread;
use clap::{Args, Subcommand};
use comfy_table::{Cell, Table};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  baton inbox\n  baton inbox show thread_0193a1c2",
    args_conflicts_with_subcommands = true
)]
pub(super) struct InboxArgs {
    #[command(subcommand)]
    command: Option<InboxCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum InboxCommand {
    /// List threads, newest first
    #[command(after_help = "Example: baton inbox list --owner agent://baton/default/payment")]
    List(ListArgs),
    /// Show one thread with what happened in it
    #[command(after_help = "Example: baton inbox show thread_0193a1c2")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Whose threads [default: the key's own address]
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<String>,
    /// Most threads to show
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Id of the thread
    thread_id: String,
    /// Whose thread [default: the key's own address]
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: InboxArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        None => list_threads(args.list, out).await,
        Some(InboxCommand::List(args)) => list_threads(args, out).await,
        Some(InboxCommand::Show(args)) => show(args, out).await,
    }
}

async fn list_threads(args: ListArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let threads = client.inbox(args.owner.as_deref(), args.limit).await?;
    let now = now_ms();
    let mut table = list(&["thread", "status", "from", "to", "updated"]);
    for thread in &threads {
        table.add_row([
            thread.thread_id.clone(),
            thread.status.clone(),
            thread.from_agent.clone().unwrap_or_default(),
            thread.to_agent.clone().unwrap_or_default(),
            span(now.saturating_sub(thread.updated_at_ms)),
        ]);
    }
    out.result(&threads, &[table]);
    Ok(())
}

async fn show(args: ShowArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let thread = client.thread(&args.thread_id, args.owner.as_deref()).await?;
    out.result(&thread, &[head(&thread), entries(&thread)]);
    Ok(())
}

fn head(thread: &Thread) -> Table {
    properties(vec![
        ("thread", Some(Cell::new(&thread.thread_id))),
        ("intent", Some(Cell::new(&thread.intent_id))),
        ("status", Some(Cell::new(&thread.status))),
        ("owner", Some(Cell::new(&thread.owner))),
        ("from", thread.from_agent.as_ref().map(Cell::new)),
        ("to", thread.to_agent.as_ref().map(Cell::new)),
    ])
}

fn entries(thread: &Thread) -> Table {
    let mut table = list(&["at", "event", "by", "details"]);
    for entry in &thread.entries {
        let details = entry.details.as_ref();
        table.add_row([
            moment(entry.at_ms),
            entry.event_type.clone(),
            entry.actor.clone().unwrap_or_default(),
            details.map(super::intents::printed).unwrap_or_default(),
        ]);
    }
    table
}
