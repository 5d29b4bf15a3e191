//! The `baton` command line.

mod bench;
mod certs;
mod cluster_args;
mod completion;
mod demo;
mod dev;
mod health;
mod server;
mod version;

use crate::exit::{EXIT_CODES_HELP, ExitCode, Failure};
use crate::output::{Format, Output};
use clap::{Parser, Subcommand};

/// A broker for durable intents: submit once, delivered until answered, one terminal outcome.
#[derive(Debug, Parser)]
#[command(name = "baton", version, after_help = EXIT_CODES_HELP, max_term_width = 110)]
pub struct Cli {
    /// Form of results: table for people, json for scripts (progress then goes to standard error)
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        value_name = "FORM",
        default_value = "table",
        env = "BATON_OUTPUT",
        hide_possible_values = true
    )]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node
    Server(Box<server::ServerArgs>),
    /// Run a local cluster of real processes until Ctrl-C
    Dev(dev::DevArgs),
    /// Show a payment, then 200 more while a leader is killed
    Demo(demo::DemoArgs),
    /// Measure a cluster: submits, full cycles, reads, observers, stored intents, failover
    Bench(Box<bench::BenchArgs>),
    /// Make certificates for mutual TLS between nodes
    Certs(certs::CertsArgs),
    /// Ask a node whether it is ready; for container health checks
    Health(health::HealthArgs),
    /// Print version and build target
    Version,
    /// Print a completion script
    Completion(completion::CompletionArgs),
}

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            _ = error.print();
            return if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Success
            };
        }
    };
    let out = Output::new(cli.output);
    match run(cli.command, out) {
        Ok(()) => ExitCode::Success,
        Err(failure) => {
            report(&failure);
            failure.code
        }
    }
}

fn run(command: Command, out: Output) -> Result<(), Failure> {
    match command {
        Command::Server(args) => server::run(*args),
        Command::Dev(args) => on_runtime(dev::run(args, out)),
        Command::Demo(args) => on_runtime(demo::run(args, out)),
        Command::Bench(args) => on_runtime(bench::run(*args, out)),
        Command::Certs(args) => certs::run(args, out),
        Command::Health(args) => on_runtime(health::run(args, out)),
        Command::Version => {
            version::run(out);
            Ok(())
        }
        Command::Completion(args) => {
            completion::run(&args);
            Ok(())
        }
    }
}

fn report(failure: &Failure) {
    use std::io::Write as _;
    // Nobody is left to tell when standard error is closed.
    _ = writeln!(std::io::stderr().lock(), "baton: {failure}");
}

/// Runs a client-side command; nodes have runtimes of their own, see [`crate::node`].
fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?
        .block_on(command)
}

/// Resolves at Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_is_explained() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for arg in sub.get_arguments() {
                assert!(arg.get_help().is_some(), "{} --{}", sub.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn the_documented_forms_parse() {
        for line in [
            "baton server --config x.toml --client-listen 127.0.0.1:1",
            "baton dev --nodes 5 --data-dir d --restart",
            "baton demo --exit --intents 50",
            "baton bench --concurrency 1,16 --duration 2 --failover 3 --output json",
            "baton certs generate --out d --name node-1 --name node-2",
            "baton -o json version",
            "baton completion bash",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(Cli::try_parse_from(["baton", "dev", "--nodes", "2"]).is_err());
        assert!(Cli::try_parse_from(["baton", "demo", "--nodes", "1"]).is_err());
    }
}
