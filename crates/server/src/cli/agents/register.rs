//! `baton agents register`.

use super::show::table;
use crate::cli::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::Output;
use baton_client::NewAgent;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents register payment --key -o json | jq -r .api_key > payment.key")]
pub(super) struct RegisterArgs {
    /// Last part of the agent's address
    name: String,
    /// Also make a key for it; it is shown once
    #[arg(long)]
    key: bool,
    /// Name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// How it gets its work
    #[arg(long, value_name = "MODE", value_parser = ["stream", "poll", "http", "inbox", "internal"])]
    delivery_mode: Option<String>,
    /// Where its deliveries are posted, with --delivery-mode http
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: RegisterArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let agent = NewAgent {
        name: args.name,
        display_name: args.display_name,
        delivery_mode: args.delivery_mode,
        callback_url: args.callback_url,
        create_key: args.key,
        idempotency_key: None,
    };
    let registration = client.register_agent(agent).await?;
    out.result(&registration, &[table(&registration.agent)]);
    if out.is_for_people() {
        if !registration.created {
            out.line("it was there already");
        }
        if let Some(key) = &registration.api_key {
            out.line(format!("\nkey (shown this once): {key}"));
        }
        if let Some(secret) = &registration.callback_secret {
            out.line(format!("\nsecret of posts (shown this once): {secret}"));
        }
    }
    Ok(())
}
