//! `baton intents submit`.

use super::wait::wait_for_end;
use crate::cli::connect::ConnectArgs;
use crate::cli::values::{parse_duration, parse_json, read_input};
use crate::exit::Failure;
use crate::output::{Output, properties, status_cell};
use baton_client::{Payload, Receipt, Submit};
use clap::Args;
use comfy_table::Cell;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  baton intents submit --to payment --type intent.payment.process.v1 --json '{\"order_id\":\"A1\"}' --key A1\n  \
        baton intents submit --to scanner --type intent.scan.v1 --file image.png --content-type image/png --wait 2m"
)]
pub(super) struct SubmitArgs {
    /// Agent that shall do it: agent://org/workspace/name, or a name of the key's workspace
    #[arg(long, value_name = "AGENT")]
    to: String,
    /// Type of the intent
    #[arg(long = "type", value_name = "TYPE")]
    intent_type: String,
    /// Payload as JSON
    #[arg(long, value_name = "JSON", value_parser = parse_json, conflicts_with = "file")]
    json: Option<Value>,
    /// File with the payload; - = standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Media type of --file
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "application/json",
        requires = "file"
    )]
    content_type: String,
    /// Idempotency key: however often this is run with it, there is one intent [default: drawn]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// TIMED_OUT unless it has ended after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Agent that is told the result
    #[arg(long, value_name = "AGENT")]
    reply_to: Option<String>,
    /// UUID that ties intents together
    #[arg(long, value_name = "UUID")]
    correlation_id: Option<String>,
    /// Attempts at delivery before it is FAILED
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// W3C traceparent for the receiver
    #[arg(long, value_name = "TRACEPARENT", env = "TRACEPARENT")]
    traceparent: Option<String>,
    /// Wait for the end, at most this long [default without a value: 1m]; exit 1 unless it is COMPLETED
    #[arg(long, value_name = "TIME", value_parser = parse_duration, num_args = 0..=1, default_missing_value = "1m")]
    wait: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: SubmitArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let wait = args.wait;
    let receipt = client.submit(describe(args)?).await?;
    match wait {
        None => {
            show(&receipt, out);
            Ok(())
        }
        Some(wait) => wait_for_end(&client, &receipt.intent_id, wait, out).await,
    }
}

fn describe(args: SubmitArgs) -> Result<Submit, Failure> {
    let mut submit = Submit::new(args.to, args.intent_type);
    if let Some(value) = args.json {
        submit = submit.payload(value);
    }
    if let Some(file) = args.file {
        let payload = Payload::bytes(read_input(&file)?, args.content_type);
        if payload.is_json() {
            payload
                .decode::<Value>()
                .map_err(|error| Failure::usage(format!("{} is no JSON: {error}", file.display())))?;
        }
        submit = submit.payload(payload);
    }
    if let Some(key) = args.key {
        submit = submit.key(key);
    }
    if let Some(time) = args.deadline {
        submit = submit.deadline_in(time);
    }
    if let Some(agent) = args.reply_to {
        submit = submit.reply_to(agent);
    }
    if let Some(id) = args.correlation_id {
        submit = submit.correlation_id(id);
    }
    if let Some(attempts) = args.max_attempts {
        submit = submit.max_delivery_attempts(attempts);
    }
    if let Some(traceparent) = args.traceparent {
        submit = submit.traceparent(traceparent);
    }
    Ok(submit)
}

/// The receipt, as `retry` shows it too.
pub(super) fn show(receipt: &Receipt, out: Output) {
    let said = if receipt.replayed {
        "an earlier call with the same key made it"
    } else {
        "committed"
    };
    let table = properties(vec![
        ("intent", Some(Cell::new(&receipt.intent_id))),
        ("status", Some(status_cell(receipt.status))),
        ("", Some(Cell::new(said))),
    ]);
    out.result(receipt, &[table]);
}
