//! The project's chores: `cargo xtask test` runs every check there is, `cargo xtask soak` the long chaos run.
//!
//! # Invariants
//! - A check is bounded by a timeout and ends only processes that it started.
//! - A check that cannot run here says `skipped` and why; it never counts as passed.
//! - The exit status is non-zero when anything failed.

#![expect(
    clippy::print_stdout,
    reason = "a command line tool reports on standard output"
)]

mod checks;
mod context;
mod counts;
mod process;
mod report;
mod soak;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::context::Context;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every check and test; the exit status says whether all of them passed
    Test(TestArgs),
    /// Kill nodes under load for a long time and check that nothing is lost or doubled
    Soak(soak::SoakArgs),
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// Run only these checks (repeat the flag or separate names with commas)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print the names of the checks and what they look at
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let cli = Cli::parse();
    let context = Context::discover()?;
    match cli.command {
        Command::Test(args) if args.list => {
            for check in checks::ALL {
                println!("{:<14} {}", check.name, check.about);
            }
            Ok(true)
        }
        Command::Test(args) => checks::run(&context, &args.only),
        Command::Soak(args) => soak::run(&context, &args),
    }
}
