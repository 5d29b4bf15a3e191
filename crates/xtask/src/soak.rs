//! The long run: the client tests with their real delays, then nodes killed under load for as long as wanted.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::checks::{self, Venv};
use crate::context::Context;
use crate::process::{self, Output};

/// Time for starting, draining and checking around the run itself.
const AROUND: Duration = Duration::from_secs(10 * 60);
const CLIENT_LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// Minutes of load with nodes being killed
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Seconds between two kills (each is drawn between half and one and a half times this)
    #[arg(long, default_value_t = 5.0)]
    kill_every: f64,
    /// Seed of all choices; the same seed kills the same nodes after the same delays
    #[arg(long)]
    seed: Option<u64>,
    /// Leave the client tests with their real delays out
    #[arg(long)]
    chaos_only: bool,
}

/// Runs the soak and says whether it was clean.
pub(crate) fn run(context: &Context, args: &SoakArgs) -> Result<bool> {
    let python = match checks::prepare_python(context)? {
        Venv::Ready(python) => python.to_string_lossy().into_owned(),
        Venv::Unavailable(reason) => bail!("the soak needs the Python client: {reason}"),
    };
    let built = checks::build_server(context)?;
    if built.counts.failed > 0 {
        bail!("the server does not build:\n{}", built.notes.join("\n"));
    }
    let binary = context.server_binary().to_string_lossy().into_owned();
    let scratch = context.target.join("soak").to_string_lossy().into_owned();
    let environment = [
        ("BATON_BIN", binary.as_str()),
        ("BATON_TEST_SCRATCH", scratch.as_str()),
        ("BATON_TEST_LONG", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    let python_run = |arguments: &[&str], limit: Duration| {
        process::run(
            &python,
            arguments,
            &environment,
            &context.root,
            limit,
            &Output::Terminal,
        )
    };
    let mut clean = true;
    if !args.chaos_only {
        let ran = python_run(&["-m", "pytest", "tests/python", "-m", "not chaos"], CLIENT_LIMIT)?;
        clean &= ran.ok();
    }
    let seconds = (args.minutes * 60).to_string();
    let kill_every = args.kill_every.to_string();
    let seed = args.seed.map(|s| s.to_string());
    let mut arguments = vec![
        "tests/python/soak.py",
        "--seconds",
        &seconds,
        "--kill-every",
        &kill_every,
    ];
    if let Some(seed) = &seed {
        arguments.extend(["--seed", seed]);
    }
    let limit = Duration::from_secs(args.minutes * 60) + AROUND;
    let ran = python_run(&arguments, limit)?;
    println!(
        "soak {}: {}",
        if ran.ok() { "clean" } else { "NOT clean" },
        ran.why()
    );
    Ok(clean && ran.ok())
}
