//! `baton intents cancel`.

use super::list::FilterArgs;
use crate::cli::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Output, list};
use baton_client::{Client, Error, IntentFilter};
use clap::Args;
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  baton intents cancel 0193a1c2-… --reason 'ordered twice'\n  \
        baton intents cancel --to payment --type intent.payment.process.v1 --dry-run"
)]
pub(super) struct CancelArgs {
    /// Ids of intents
    #[arg(value_name = "INTENT_ID")]
    intent_ids: Vec<String>,
    /// Why; kept with the event
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// With a filter: only say what would be canceled
    #[arg(long)]
    dry_run: bool,
    /// With a filter: do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    intent_id: String,
    canceled: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Row {
    fn new(intent_id: String, error: Option<&Error>) -> Self {
        Self {
            intent_id,
            canceled: error.is_none(),
            code: error.map(|error| error.code().to_owned()),
            message: error.map(ToString::to_string),
        }
    }
}

pub(super) async fn run(args: CancelArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    match (args.intent_ids.is_empty(), args.filter.is_empty()) {
        (false, true) => one_by_one(&client, args, out).await,
        (true, false) => by_filter(&client, args, out).await,
        (true, true) => Err(Failure::usage(
            "name intents by id, or by a filter such as --to AGENT",
        )),
        (false, false) => Err(Failure::usage("name intents by id or by a filter, not both")),
    }
}

async fn one_by_one(client: &Client, args: CancelArgs, out: Output) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut last = None;
    for intent_id in args.intent_ids {
        let change = client.cancel(intent_id.clone()).reason(args.reason.clone());
        let error = change.send().await.err();
        rows.push(Row::new(intent_id, error.as_ref()));
        last = error.or(last);
    }
    show(&rows, "canceled", out);
    last.map_or(Ok(()), |error| Err(error.into()))
}

async fn by_filter(client: &Client, args: CancelArgs, out: Output) -> Result<(), Failure> {
    let filter = args.filter.filter();
    if args.dry_run {
        let answer = client.bulk_cancel(filter, &args.reason, 0, true).await?;
        show(&rows(answer.results), "would be canceled", out);
        if answer.more {
            out.line("there are more than these");
        }
        return Ok(());
    }
    if !args.yes {
        confirm(client, &filter).await?;
    }
    let mut all = Vec::new();
    loop {
        let answer = client.bulk_cancel(filter.clone(), &args.reason, 0, false).await?;
        // Without progress, another round would find the same ones.
        let progress = answer.results.iter().any(|one| one.error.is_none());
        all.extend(rows(answer.results));
        if !answer.more || !progress {
            break;
        }
    }
    show(&all, "canceled", out);
    Ok(())
}

/// Asks on a terminal; refuses where nobody can answer.
async fn confirm(client: &Client, filter: &IntentFilter) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "a filter may name many intents; try --dry-run, then --yes",
        ));
    }
    let answer = client.bulk_cancel(filter.clone(), "", 0, true).await?;
    let more = if answer.more { "more than " } else { "" };
    let mut err = std::io::stderr();
    _ = write!(err, "cancel {more}{} intents? [y/N] ", answer.results.len());
    _ = err.flush();
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = read.await.ok().and_then(Result::ok).unwrap_or_default();
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::failed("nothing was canceled"))
    }
}

fn rows(results: Vec<baton_client::Canceled>) -> Vec<Row> {
    let each = results
        .into_iter()
        .map(|one| Row::new(one.intent_id, one.error.as_ref()));
    each.collect()
}

fn show(rows: &[Row], done: &str, out: Output) {
    let mut table = list(&["intent", "what"]);
    for row in rows {
        let what = row.message.as_deref().unwrap_or(done);
        table.add_row([row.intent_id.as_str(), what]);
    }
    out.result(&rows, &[table]);
}
