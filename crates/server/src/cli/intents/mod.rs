//! `baton intents`.

mod cancel;
mod get;
mod list;
mod resume;
mod retry;
mod submit;
mod trace;
mod wait;
mod watch;

pub(super) use get::printed;
pub(super) use watch::follow;

use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: baton intents submit --to payment --type intent.payment.process.v1 --json '{\"order_id\":\"A1\"}' --wait"
)]
pub(super) struct IntentsArgs {
    #[command(subcommand)]
    command: IntentsCommand,
}

#[derive(Debug, Subcommand)]
enum IntentsCommand {
    /// Submit an intent; with --wait, until it has ended
    Submit(submit::SubmitArgs),
    /// Show one intent with payload and outcome
    Get(get::GetArgs),
    /// List intents, newest first
    List(list::ListArgs),
    /// Follow the events of an intent until it has ended
    Watch(watch::WatchArgs),
    /// Cancel intents by id, or all that a filter names
    Cancel(cancel::CancelArgs),
    /// Submit a copy of an intent that has ended
    Retry(retry::RetryArgs),
    /// Finish or steer an intent: a result, an error, an approval, another agent
    Resume(resume::ResumeArgs),
    /// Show the events of an intent as a timeline with durations
    Trace(trace::TraceArgs),
}

pub(super) async fn run(args: IntentsArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        IntentsCommand::Submit(args) => submit::run(args, out).await,
        IntentsCommand::Get(args) => get::run(args, out).await,
        IntentsCommand::List(args) => list::run(args, out).await,
        IntentsCommand::Watch(args) => watch::run(args, out).await,
        IntentsCommand::Cancel(args) => cancel::run(args, out).await,
        IntentsCommand::Retry(args) => retry::run(args, out).await,
        IntentsCommand::Resume(args) => resume::run(args, out).await,
        IntentsCommand::Trace(args) => trace::run(args, out).await,
    }
}
