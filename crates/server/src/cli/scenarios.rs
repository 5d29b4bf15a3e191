//! `baton scenarios`.

use super::connect::ConnectArgs;
use super::intents;
use super::values::read_input;
use crate::exit::{ExitCode, Failure};
use crate::output::{Output, list, properties, status_cell};
use baton_client::Status;
use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(after_help = "Example: baton scenarios apply payment.json --watch")]
pub(super) struct ScenariosArgs {
    #[command(subcommand)]
    command: ScenariosCommand,
}

#[derive(Debug, Subcommand)]
enum ScenariosCommand {
    /// Check a bundle, provision its agents where asked, and start it
    #[command(after_help = "Example: baton scenarios apply payment.json --watch")]
    Apply(ApplyArgs),
    /// Say everything that is wrong with a bundle; exit 1 if anything is
    #[command(after_help = "Example: baton scenarios validate payment.json")]
    Validate(ValidateArgs),
}

#[derive(Debug, Args)]
struct ApplyArgs {
    /// Bundle, JSON or YAML; - = standard input
    bundle: PathBuf,
    /// Follow the scenario until it has ended; exit 1 unless it is COMPLETED
    #[arg(long)]
    watch: bool,
    /// Idempotency key: however often this is run with it, there is one scenario [default: drawn]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    /// Bundle, JSON or YAML; - = standard input
    bundle: PathBuf,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: ScenariosArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        ScenariosCommand::Apply(args) => apply(args, out).await,
        ScenariosCommand::Validate(args) => validate(args, out).await,
    }
}

async fn apply(args: ApplyArgs, out: Output) -> Result<(), Failure> {
    let bundle = read_bundle(&args.bundle)?;
    let client = args.connect.client()?;
    let scenario = client.apply_scenario(&bundle, args.key.as_deref()).await?;
    let intent = &scenario.intent;
    let table = properties(vec![
        ("scenario", Some(Cell::new(&intent.intent_id))),
        ("status", Some(status_cell(intent.status))),
        ("compiled as", Some(Cell::new(&scenario.compile_id))),
        (
            "",
            scenario
                .replayed
                .then(|| Cell::new("an earlier call with the same key started it")),
        ),
    ]);
    if !args.watch {
        out.result(&scenario, &[table]);
        return Ok(());
    }
    if out.is_for_people() {
        out.result(&scenario, &[table]);
    }
    intents::follow(&mut client.watch(&intent.intent_id), out).await?;
    let status = client.get(&intent.intent_id).await?.status;
    if status == Status::Completed {
        return Ok(());
    }
    let line = format!(
        "the scenario is {status}; see baton intents trace {}",
        intent.intent_id
    );
    Err(Failure::new(ExitCode::Failed, line))
}

async fn validate(args: ValidateArgs, out: Output) -> Result<(), Failure> {
    let bundle = read_bundle(&args.bundle)?;
    let validation = args.connect.client()?.validate_scenario(&bundle).await?;
    let mut table = list(&["what", "where and why"]);
    for error in &validation.errors {
        table.add_row(["error", error]);
    }
    for warning in &validation.warnings {
        table.add_row(["warning", warning]);
    }
    if validation.valid && validation.warnings.is_empty() {
        table.add_row(["valid", "nothing is wrong with it"]);
    }
    out.result(&validation, &[table]);
    if validation.valid {
        Ok(())
    } else {
        Err(Failure::failed(format!(
            "{} has {} errors; correct them and validate again",
            args.bundle.display(),
            validation.errors.len()
        )))
    }
}

/// YAML includes JSON, but its errors are worse: what looks like JSON is read as such.
fn read_bundle(path: &Path) -> Result<Value, Failure> {
    let bytes = read_input(path)?;
    let wrong = |error: String| Failure::usage(format!("{} is no bundle: {error}", path.display()));
    if bytes.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    } else {
        serde_norway::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    }
}
