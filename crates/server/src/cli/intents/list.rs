//! `baton intents list`.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::{now_ms, parse_duration, span};
use crate::exit::Failure;
use crate::output::{Output, list, status_cell};
use baton_client::{IntentFilter, Status};
use clap::Args;
use comfy_table::Cell;
use std::time::Duration;

/// Most intents of one list.
const LIMIT_MAX: u32 = 100_000;
/// Intents asked for at once.
const PAGE: u32 = 500;

/// Which intents.
#[derive(Debug, Clone, Args)]
pub(super) struct FilterArgs {
    /// Sent to this agent
    #[arg(long, value_name = "AGENT", help_heading = "Filter")]
    to: Option<String>,
    /// In any of these statuses, as in failed,timed_out
    #[arg(long, value_name = "STATUS,…", value_delimiter = ',', help_heading = "Filter")]
    status: Vec<Status>,
    /// Of this type
    #[arg(long = "type", value_name = "TYPE", help_heading = "Filter")]
    intent_type: Option<String>,
    /// With this correlation id
    #[arg(long, value_name = "UUID", help_heading = "Filter")]
    correlation_id: Option<String>,
    /// Created within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Filter")]
    since: Option<Duration>,
}

impl FilterArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.to.is_none()
            && self.status.is_empty()
            && self.intent_type.is_none()
            && self.correlation_id.is_none()
            && self.since.is_none()
    }

    pub(super) fn filter(self) -> IntentFilter {
        let since =
            |time: Duration| now_ms().saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        IntentFilter {
            to_agent: self.to,
            statuses: self.status,
            intent_type: self.intent_type,
            correlation_id: self.correlation_id,
            created_from_ms: self.since.map(since),
            created_until_ms: None,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example: baton intents list --to payment --status failed,timed_out --since 1h")]
pub(super) struct ListArgs {
    /// Most intents to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    limit: u32,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: ListArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let limit = args.limit as usize;
    let mut pages = client.list(args.filter.filter()).page_size(args.limit.min(PAGE));
    let mut intents = Vec::new();
    while intents.len() < limit {
        let Some(page) = pages.next().await? else { break };
        intents.extend(page);
    }
    let more = intents.len() > limit || pages.token().is_some();
    intents.truncate(limit);
    let now = now_ms();
    let mut table = list(&["intent", "status", "type", "to", "age", "updated"]);
    for intent in &intents {
        table.add_row([
            Cell::new(&intent.intent_id),
            status_cell(intent.status),
            Cell::new(&intent.intent_type),
            Cell::new(&intent.to_agent),
            Cell::new(span(now.saturating_sub(intent.created_at_ms))),
            Cell::new(span(now.saturating_sub(intent.updated_at_ms))),
        ]);
    }
    out.result(&intents, &[table]);
    if more && out.is_for_people() {
        out.line(format!("there are more; --limit shows more than {limit}"));
    }
    Ok(())
}
