//! The `baton` command line.

mod agents;
mod audit;
mod bench;
mod certs;
mod cluster;
mod cluster_args;
mod completion;
mod connect;
mod context;
mod contexts;
mod deliveries;
mod demo;
mod dev;
mod doctor;
mod health;
mod http;
mod inbox;
mod intents;
mod scenarios;
mod server;
mod tasks;
mod top;
mod values;
mod version;
mod workspaces;

use crate::exit::{EXIT_CODES_HELP, ExitCode, Failure};
use crate::output::{Format, Output};
use clap::{Parser, Subcommand};

/// A broker for durable intents: submit once, delivered until answered, one terminal outcome.
#[derive(Debug, Parser)]
#[command(
    name = "baton",
    version,
    after_help = EXIT_CODES_HELP,
    max_term_width = 110,
    infer_subcommands = true,
    subcommand_help_heading = "Commands"
)]
pub struct Cli {
    /// Form of results: table for people, json or yaml for scripts (progress then goes to standard error)
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
    /// Submit, find, follow and steer intents
    #[command(visible_alias = "intent")]
    Intents(Box<intents::IntentsArgs>),
    /// Register agents, make their keys, see what waits for them
    #[command(visible_alias = "agent")]
    Agents(agents::AgentsArgs),
    /// Start workflows of several agents, or check them
    #[command(visible_alias = "scenario")]
    Scenarios(scenarios::ScenariosArgs),
    /// See what came for an address and what became of what it sent
    Inbox(inbox::InboxArgs),
    /// See what waits for people, and answer it
    #[command(visible_alias = "task")]
    Tasks(tasks::TasksArgs),
    /// See what became of pushed deliveries, and post dead letters again
    #[command(visible_alias = "delivery")]
    Deliveries(deliveries::DeliveriesArgs),
    /// See what people and administrators did, and verify that nobody changed the record
    Audit(audit::AuditArgs),
    /// See and change settings of a workspace
    #[command(visible_alias = "workspace")]
    Workspaces(workspaces::WorkspacesArgs),
    /// Look at nodes, groups and leaders; move leaders
    Cluster(cluster::ClusterCommandArgs),
    /// Watch nodes, groups and backlogs live
    Top(top::TopArgs),
    /// Find out what is wrong and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Name clusters and their keys, and choose between them
    Context(context::ContextArgs),
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
        Command::Intents(args) => on_runtime(intents::run(*args, out)),
        Command::Agents(args) => on_runtime(agents::run(args, out)),
        Command::Scenarios(args) => on_runtime(scenarios::run(args, out)),
        Command::Inbox(args) => on_runtime(inbox::run(args, out)),
        Command::Tasks(args) => on_runtime(tasks::run(args, out)),
        Command::Deliveries(args) => on_runtime(deliveries::run(args, out)),
        Command::Audit(args) => on_runtime(audit::run(args, out)),
        Command::Workspaces(args) => on_runtime(workspaces::run(args, out)),
        Command::Cluster(args) => on_runtime(cluster::run(args, out)),
        Command::Top(args) => on_runtime(top::run(args, out)),
        Command::Doctor(args) => on_runtime(doctor::run(args, out)),
        Command::Context(args) => context::run(args, out),
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
            explained(sub);
        }
    }

    fn explained(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for arg in command.get_arguments() {
            assert!(
                arg.get_help().is_some(),
                "{} --{}",
                command.get_name(),
                arg.get_id()
            );
        }
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            explained(sub);
        }
    }

    #[test]
    fn help_of_every_command_that_talks_to_a_cluster_has_an_example() {
        let mut command = Cli::command();
        command.build();
        let names = [
            "intents",
            "agents",
            "scenarios",
            "inbox",
            "tasks",
            "deliveries",
            "audit",
            "workspaces",
            "cluster",
            "top",
            "doctor",
            "context",
        ];
        for name in names {
            exemplified(command.find_subcommand(name).unwrap());
        }
    }

    fn exemplified(command: &clap::Command) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            help.contains("xample") && help.contains("baton "),
            "{}",
            command.get_name()
        );
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            exemplified(sub);
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
            "baton intents submit --to a --type t --json {} --deadline 5m --wait",
            "baton intents submit --to a --type t --file - --wait 2m --endpoint h:1,h:2",
            "baton intents list --status failed,timed_out --since 1h",
            "baton intents cancel --to a --dry-run",
            "baton intents resume i --approve",
            "baton agents keys create a --kind agent --expires-in 90d",
            "baton scenarios apply b.json --watch",
            "baton inbox",
            "baton inbox --owner a",
            "baton inbox show t",
            "baton tasks list --assignee a --type t",
            "baton tasks show i",
            "baton tasks answer i --outcome submitted --data days=7 --comment c",
            "baton tasks answer i --approve",
            "baton agents callback set a https://x.example.com/in",
            "baton agents callback rotate a --overlap 1h --secret-file -",
            "baton deliveries list --status dead-lettered,failed",
            "baton deliveries show d",
            "baton deliveries replay d",
            "baton deliveries replay --all --dry-run",
            "baton audit list --action task. --owner a --limit 5",
            "baton audit heads --all-workspaces -o json",
            "baton audit export --out f --workspace cluster",
            "baton audit verify --file f --against g",
            "baton workspaces retention show",
            "baton workspaces retention set 30d --workspace w",
            "baton workspaces retention clear",
            "baton cluster transfer-leader 3 --to 2",
            "baton top --once -o yaml",
            "baton context add dev --env-file e",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(Cli::try_parse_from(["baton", "dev", "--nodes", "2"]).is_err());
        assert!(Cli::try_parse_from(["baton", "demo", "--nodes", "1"]).is_err());
        for line in [
            "baton intents submit --to a",
            "baton intents submit --to a --type t --json {",
            "baton deliveries replay",
            "baton tasks answer i",
            "baton tasks answer i --approve --reject",
            "baton tasks answer i --approve --data days",
            "baton deliveries replay d --all",
            "baton intents resume i",
            "baton intents resume i --approve --reject",
            "baton intents list --status done",
            "baton cluster transfer-leader x --to 2",
            "baton audit heads --all-workspaces --workspace w",
            "baton workspaces retention set soon",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
