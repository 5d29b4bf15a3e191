//! `baton agents keys`: what only the HTTP surface offers.

use crate::cli::connect::ConnectArgs;
use crate::cli::http::Http;
use crate::cli::values::{now_ms, parse_duration};
use crate::exit::Failure;
use crate::output::{Output, properties};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "Example: baton agents keys create payment --expires-in 90d")]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key; it is shown once
    #[command(after_help = "Example: baton agents keys create payment -o json | jq -r .token > payment.key")]
    Create(CreateArgs),
    /// Revoke a key; it stops working on every node within two seconds
    #[command(after_help = "Example: baton agents keys revoke payment key_4f9s8d7f6s5d")]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Address of the agent, or its name in the key's workspace
    agent: String,
    /// What the key may do: agent = act as the agent, workspace = act for the workspace, operator = everything
    #[arg(long, value_name = "KIND", value_parser = ["agent", "workspace", "operator"])]
    kind: Option<String>,
    /// Name of the key, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The key stops working after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires_in: Option<Duration>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Address of the agent, or its name in the key's workspace
    agent: String,
    /// Id of the key
    key_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: KeysArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        KeysCommand::Create(args) => create(args, out).await,
        KeysCommand::Revoke(args) => revoke(args, out).await,
    }
}

async fn create(args: CreateArgs, out: Output) -> Result<(), Failure> {
    let account = account(&args.connect, &args.agent).await?;
    let mut body = json!({});
    if let Some(kind) = args.kind {
        body["kind"] = kind.into();
    }
    if let Some(name) = args.name {
        body["name"] = name.into();
    }
    if let Some(time) = args.expires_in {
        let at = now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        body["expires_at"] = crate::cli::values::moment(at).into();
    }
    let http = Http::new(&args.connect)?;
    let path = format!("/v1/service-accounts/{account}/keys");
    let answer = http.call("POST", &path, Some(&body)).await?;
    show(answer, out);
    Ok(())
}

async fn revoke(args: RevokeArgs, out: Output) -> Result<(), Failure> {
    if !args
        .key_id
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    {
        return Err(Failure::usage(format!("{:?} is no key id", args.key_id)));
    }
    let account = account(&args.connect, &args.agent).await?;
    let http = Http::new(&args.connect)?;
    let path = format!("/v1/service-accounts/{account}/keys/{}/revoke", args.key_id);
    let answer = http.call("POST", &path, None).await?;
    show(answer, out);
    Ok(())
}

/// Id of the agent's account.
async fn account(connect: &ConnectArgs, agent: &str) -> Result<String, Failure> {
    Ok(connect.client()?.get_agent(agent).await?.agent_id)
}

fn show(mut answer: Value, out: Output) {
    let key = answer["key"].take();
    let names = [
        ("key id", "key_id"),
        ("account", "service_account_id"),
        ("status", "status"),
        ("expires", "expires_at"),
        ("revoked", "revoked_at"),
        ("key (shown this once)", "token"),
    ];
    let rows = names.map(|(label, field)| (label, key[field].as_str().map(Cell::new)));
    out.result(&key, &[properties(rows.into())]);
}
