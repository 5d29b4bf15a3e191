//! `baton deliveries`: what became of pushes, and replays.

use super::connect::ConnectArgs;
use super::http::{Http, path, text};
use crate::exit::Failure;
use crate::output::{Output, list, properties};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Cell, Table};
use serde_json::{Value, json};

#[derive(Debug, Args)]
#[command(after_help = "Example: baton deliveries list --status dead-lettered")]
pub(super) struct DeliveriesArgs {
    #[command(subcommand)]
    command: DeliveriesCommand,
}

#[derive(Debug, Subcommand)]
enum DeliveriesCommand {
    /// List pushed deliveries, newest intent first
    #[command(after_help = "Example: baton deliveries list --status dead-lettered --agent payment")]
    List(ListArgs),
    /// Show one delivery
    #[command(after_help = "Example: baton deliveries show dlv_0193a1c2…")]
    Show(ShowArgs),
    /// Post deliveries once more, for the agent's information; intents stay as they are
    #[command(
        after_help = "Examples:\n  baton deliveries replay dlv_0193a1c2…\n  baton deliveries replay --agent payment --dry-run"
    )]
    Replay(ReplayArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Pending,
    Delivered,
    Failed,
    DeadLettered,
}

impl State {
    fn wire_name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only deliveries with one of these statuses, comma separated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STATUS,…")]
    status: Vec<State>,
    /// Only deliveries to this agent
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<String>,
    /// Most deliveries to show
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Where to go on: the next_cursor of an earlier list
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Id of the delivery
    delivery_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["delivery_id", "agent", "all"]))]
struct ReplayArgs {
    /// Id of one delivery; without it, dead letters that were not replayed yet
    #[arg(conflicts_with_all = ["agent", "all", "dry_run", "limit"])]
    delivery_id: Option<String>,
    /// Dead letters of this agent
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<String>,
    /// Dead letters of every agent of the workspace
    #[arg(long)]
    all: bool,
    /// Most deliveries to replay
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Only say which they would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: DeliveriesArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        DeliveriesCommand::List(args) => list_deliveries(args, out).await,
        DeliveriesCommand::Show(args) => {
            let path = path(&["v1", "deliveries", &args.delivery_id], &[])?;
            show(&args.connect, "GET", &path, out).await
        }
        DeliveriesCommand::Replay(args) => match &args.delivery_id {
            Some(id) => {
                let path = path(&["v1", "deliveries", id, "replay"], &[])?;
                show(&args.connect, "POST", &path, out).await
            }
            None => replay_many(args, out).await,
        },
    }
}

async fn list_deliveries(args: ListArgs, out: Output) -> Result<(), Failure> {
    let states: Vec<_> = args.status.iter().map(|state| state.wire_name()).collect();
    let query = [
        ("status", states.join(",")),
        ("agent_address", args.agent.unwrap_or_default()),
        ("cursor", args.cursor.unwrap_or_default()),
        ("limit", args.limit.to_string()),
    ];
    let path = path(&["v1", "deliveries"], &query)?;
    let answer = Http::new(&args.connect)?.call("GET", &path, None).await?;
    out.result(&answer, &[table(&answer)]);
    Ok(())
}

async fn show(connect: &ConnectArgs, method: &str, path: &str, out: Output) -> Result<(), Failure> {
    let answer = Http::new(connect)?.call(method, path, None).await?;
    let delivery = &answer["delivery"];
    let names = [
        "delivery_id",
        "replay_of_delivery_id",
        "intent_id",
        "alias",
        "callback_url",
        "status",
        "attempts",
        "max_attempts",
        "last_status",
        "error_detail",
        "next_attempt_at",
        "created_at",
        "updated_at",
    ];
    let row = |name| {
        let shown = Some(&delivery[name]).filter(|value| !value.is_null());
        (name, shown.map(|value| Cell::new(text(value))))
    };
    out.result(delivery, &[properties(names.map(row).to_vec())]);
    Ok(())
}

async fn replay_many(args: ReplayArgs, out: Output) -> Result<(), Failure> {
    let body = json!({
        "agent_address": args.agent,
        "limit": args.limit,
        "dry_run": args.dry_run,
    });
    let http = Http::new(&args.connect)?;
    let answer = http.call("POST", "/v1/deliveries/replay", Some(&body)).await?;
    let shown = if args.dry_run {
        table(&answer)
    } else {
        let mut replayed = list(&["delivery", "replay", "error"]);
        for row in rows(&answer) {
            replayed.add_row(["delivery_id", "replay_delivery_id", "error"].map(|name| text(&row[name])));
        }
        replayed
    };
    out.result(&answer, &[shown]);
    Ok(())
}

fn table(answer: &Value) -> Table {
    let mut table = list(&["delivery", "status", "agent", "attempts", "last status", "error"]);
    for row in rows(answer) {
        let names = [
            "delivery_id",
            "status",
            "alias",
            "attempts",
            "last_status",
            "error_detail",
        ];
        table.add_row(names.map(|name| text(&row[name])));
    }
    table
}

fn rows(answer: &Value) -> &[Value] {
    answer["deliveries"].as_array().map_or(&[], Vec::as_slice)
}
