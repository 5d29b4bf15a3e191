//! `baton intents resume`.

use super::get::show;
use crate::cli::connect::ConnectArgs;
use crate::cli::values::parse_json;
use crate::exit::Failure;
use crate::output::Output;
use baton_client::{Payload, Resume};
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  baton intents resume 0193a1c2-… --result '{\"charged\":true}'\n  \
        baton intents resume 0193a1c2-… --approve --reason 'checked by hand'"
)]
pub(super) struct ResumeArgs {
    /// Id of the intent
    intent_id: String,
    #[command(flatten)]
    action: ActionArgs,
    /// Why; kept with the event
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Idempotency key [default: drawn]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ActionArgs {
    /// Finish the work with this result
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    result: Option<Value>,
    /// Finish the work as failed
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    error: Option<Value>,
    /// Let a waiting intent go on
    #[arg(long)]
    approve: bool,
    /// End a waiting intent
    #[arg(long)]
    reject: bool,
    /// Make another agent responsible
    #[arg(long, value_name = "AGENT")]
    to: Option<String>,
}

impl ActionArgs {
    fn action(self) -> Resume {
        match self {
            Self {
                result: Some(result), ..
            } => Resume::Result(Payload::from(result)),
            Self {
                error: Some(error), ..
            } => Resume::Error(Payload::from(error)),
            Self { to: Some(agent), .. } => Resume::HandOver(agent),
            Self { approve: true, .. } => Resume::Approve,
            // One of them is there: clap sees to that.
            Self { .. } => Resume::Reject,
        }
    }
}

pub(super) async fn run(args: ResumeArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let mut change = client
        .resume(args.intent_id, args.action.action())
        .reason(args.reason);
    if let Some(key) = args.key {
        change = change.key(key);
    }
    show(&change.send().await?.intent, out);
    Ok(())
}
