//! `baton agents callback`: where an agent's deliveries are posted, and what the posts are signed with.

use crate::cli::connect::ConnectArgs;
use crate::cli::values::{moment, parse_duration, read_key};
use crate::exit::Failure;
use crate::output::{Output, properties};
use baton_client::{Agent, CallbackChange, NewCallback};
use clap::{Args, Subcommand};
use comfy_table::{Cell, Table};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents callback set payment https://pay.example.com/intents")]
pub(super) struct CallbackArgs {
    #[command(subcommand)]
    command: CallbackCommand,
}

#[derive(Debug, Subcommand)]
enum CallbackCommand {
    /// Show where deliveries are posted, and whether they are
    #[command(after_help = "Example: baton agents callback show payment")]
    Show(ShowArgs),
    /// Post an agent's deliveries to this URL; a secret that it needs is drawn and shown once
    #[command(after_help = "Example: baton agents callback set payment https://pay.example.com/intents")]
    Set(SetArgs),
    /// Stop posting; the agent gets its deliveries by stream again
    #[command(after_help = "Example: baton agents callback remove payment")]
    Remove(ShowArgs),
    /// Make another secret the one that posts are signed with; it is shown once
    #[command(after_help = "Example: baton agents callback rotate payment --overlap 1h")]
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Address of the agent, or its name in the key's workspace
    agent: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Address of the agent, or its name in the key's workspace
    agent: String,
    /// Where to post
    url: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Address of the agent, or its name in the key's workspace
    agent: String,
    /// File with the new secret; - = standard input [default: drawn]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How long the secret before signs too [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    overlap: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: CallbackArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        CallbackCommand::Show(args) => {
            let agent = args.connect.client()?.get_agent(&args.agent).await?;
            out.result(&agent, &[table(&agent)]);
        }
        CallbackCommand::Set(args) => {
            let callback = NewCallback {
                url: Some(args.url),
                delivery_mode: Some("http".to_owned()),
            };
            let client = args.connect.client()?;
            changed(&client.set_callback(&args.agent, callback).await?, out);
        }
        CallbackCommand::Remove(args) => {
            let callback = NewCallback {
                url: Some(String::new()),
                delivery_mode: Some("stream".to_owned()),
            };
            let client = args.connect.client()?;
            changed(&client.set_callback(&args.agent, callback).await?, out);
        }
        CallbackCommand::Rotate(args) => {
            let secret = args.secret_file.as_deref().map(read_key).transpose()?;
            let client = args.connect.client()?;
            let change = client
                .rotate_callback_secret(&args.agent, secret.as_deref(), args.overlap)
                .await?;
            changed(&change, out);
        }
    }
    Ok(())
}

fn changed(change: &CallbackChange, out: Output) {
    out.result(change, &[table(&change.agent)]);
    if let (true, Some(secret)) = (out.is_for_people(), &change.callback_secret) {
        out.line(format!("\nsecret (shown this once): {secret}"));
    }
}

fn table(agent: &Agent) -> Table {
    let time = |at: Option<u64>| at.map(|at| Cell::new(moment(at)));
    properties(vec![
        ("agent", Some(Cell::new(&agent.address))),
        ("url", agent.callback_url.as_ref().map(Cell::new)),
        ("state", Some(Cell::new(state(agent)))),
        ("secret set", time(agent.callback_secret_set_at_ms)),
        ("disabled", time(agent.callback_disabled_at_ms)),
        ("because", agent.callback_disabled_reason.as_ref().map(Cell::new)),
    ])
}

fn state(agent: &Agent) -> &'static str {
    let pushed = agent.delivery_mode.as_deref() == Some("http");
    if agent.callback_disabled_at_ms.is_some() {
        "disabled: set it anew"
    } else if pushed && agent.callback_url.is_some() {
        "posting"
    } else if pushed {
        "no url: nothing is posted"
    } else {
        "delivery mode is not http: nothing is posted"
    }
}
