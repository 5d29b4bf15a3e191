//! `baton intents retry`.

use super::submit::show;
use super::wait::wait_for_end;
use crate::cli::connect::ConnectArgs;
use crate::cli::values::parse_duration;
use crate::exit::{ExitCode, Failure};
use crate::output::Output;
use baton_client::{Intent, Submit};
use clap::Args;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    long_about = "Submits a copy of an intent that has ended: same agent, type, payload and reply address, no \
        deadline. The copy's correlation id is the id of the original, so that baton intents list --correlation-id \
        finds all copies.",
    after_help = "Example: baton intents retry 0193a1c2-… --wait"
)]
pub(super) struct RetryArgs {
    /// Id of the intent
    intent_id: String,
    /// Idempotency key of the copy: however often this is run with it, there is one copy [default: drawn]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Wait for the end of the copy, at most this long [default without a value: 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, num_args = 0..=1, default_missing_value = "1m")]
    wait: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: RetryArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let original = client.get(&args.intent_id).await?;
    if !original.status.is_terminal() {
        return Err(Failure::new(
            ExitCode::Conflict,
            format!(
                "the intent is {} and may still succeed; cancel it first, or wait",
                original.status
            ),
        ));
    }
    let receipt = client.submit(copy(original, args.key)?).await?;
    match args.wait {
        None => {
            show(&receipt, out);
            Ok(())
        }
        Some(wait) => wait_for_end(&client, &receipt.intent_id, wait, out).await,
    }
}

fn copy(original: Intent, key: Option<String>) -> Result<Submit, Failure> {
    let payload = original.payload.ok_or_else(|| {
        Failure::failed("the payload is too large to be read in one message; submit the intent anew")
    })?;
    let mut submit = Submit::new(original.to_agent, original.intent_type)
        .payload(payload)
        .correlation_id(original.intent_id)
        .max_delivery_attempts(original.max_delivery_attempts);
    if let Some(agent) = original.reply_to {
        submit = submit.reply_to(agent);
    }
    if let Some(key) = key {
        submit = submit.key(key);
    }
    Ok(submit)
}
