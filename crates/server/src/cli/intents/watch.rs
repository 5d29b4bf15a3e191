//! `baton intents watch`.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::moment;
use crate::exit::Failure;
use crate::output::Output;
use baton_client::Event;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton intents watch 0193a1c2-… -o json   (one event a line)")]
pub(super) struct WatchArgs {
    /// Id of the intent
    intent_id: String,
    /// Begin after this event
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    since: u32,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: WatchArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    follow(&mut client.watch_from(args.intent_id, args.since), out).await
}

/// Prints events until the last one, or until nobody reads any more.
pub(in crate::cli) async fn follow(watch: &mut baton_client::Watch, out: Output) -> Result<(), Failure> {
    while let Some(event) = watch.next().await {
        let event = event?;
        if !out.record(&event, line(&event, out)) {
            break;
        }
    }
    Ok(())
}

fn line(event: &Event, out: Output) -> String {
    let mut line = format!(
        "{:>3}  {}  {}  {}",
        event.seq,
        moment(event.at_ms),
        out.status(event.status),
        event.event_type
    );
    if let Some(who) = event.actor.as_ref().or(event.handler.as_ref()) {
        line.push_str(&format!("  by {who}"));
    }
    if event.delivery_attempt > 0 {
        line.push_str(&format!("  attempt {}", event.delivery_attempt));
    }
    if let Some(step) = &event.step_id {
        line.push_str(&format!("  step {step}"));
    }
    if let Some(reason) = event.outcome.as_ref().and_then(|outcome| outcome.reason.as_ref()) {
        line.push_str(&format!("  {reason}"));
    }
    line
}
