//! Checks that are one cargo command.

use std::time::Duration;

use anyhow::Result;

use crate::context::Context;
use crate::counts;
use crate::process::{self, Output, Ran};
use crate::report::{Counts, Outcome};

/// A first build on a small machine compiles about 350 crates.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
const TEST_LIMIT: Duration = Duration::from_secs(45 * 60);
const QUICK_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How much of a failing command's output is shown; the rest is in the log file.
const TAIL_LINES: usize = 60;

pub(super) fn fmt(context: &Context) -> Result<Outcome> {
    plain(
        context,
        "fmt",
        &["fmt", "--all", "--check", "--", "--color", "never"],
        &[],
        QUICK_LIMIT,
    )
}

pub(super) fn lockfile(context: &Context) -> Result<Outcome> {
    let args = ["metadata", "--locked", "--format-version", "1"];
    let ran = cargo(context, "lockfile", &args, &[], QUICK_LIMIT)?;
    if ran.ok() {
        return Ok(Outcome::passed());
    }
    Ok(Outcome::failed(vec![
        format!("{}; run `cargo check` and commit Cargo.lock", ran.why()),
        tail(&ran.output),
    ]))
}

pub(super) fn clippy(context: &Context) -> Result<Outcome> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        // All findings at once, not those of the first crate only.
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ];
    plain(context, "clippy", &args, &[], BUILD_LIMIT)
}

pub(super) fn docs(context: &Context) -> Result<Outcome> {
    let args = ["doc", "--workspace", "--no-deps", "--locked"];
    plain(
        context,
        "docs",
        &args,
        &[("RUSTDOCFLAGS", "-D warnings")],
        BUILD_LIMIT,
    )
}

pub(crate) fn build_server(context: &Context) -> Result<Outcome> {
    let args = ["build", "--package", "baton-server", "--bin", "baton", "--locked"];
    plain(context, "build", &args, &[], BUILD_LIMIT)
}

pub(super) fn tests(context: &Context) -> Result<Outcome> {
    let has_nextest = cargo(context, "tests", &["nextest", "--version"], &[], QUICK_LIMIT)?.ok();
    if has_nextest {
        let args = [
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            // So that a test can say that it cannot run on this machine.
            "--success-output",
            "immediate",
            "--failure-output",
            "final",
        ];
        let ran = cargo(context, "tests", &args, &[], TEST_LIMIT)?;
        return Ok(tested(context, "tests", &ran, counts::nextest(&ran.output)));
    }
    let args = [
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--locked",
        "--no-fail-fast",
        "--",
        "--show-output",
    ];
    let ran = cargo(context, "tests", &args, &[], TEST_LIMIT)?;
    Ok(tested(context, "tests", &ran, counts::libtest(&ran.output)))
}

pub(super) fn doctests(context: &Context) -> Result<Outcome> {
    let args = ["test", "--workspace", "--doc", "--locked", "--no-fail-fast"];
    let ran = cargo(context, "doctests", &args, &[], TEST_LIMIT)?;
    Ok(tested(context, "doctests", &ran, counts::libtest(&ran.output)))
}

/// Runs each micro-benchmark once, unoptimized: that it works, not how fast it is.
pub(super) fn benches(context: &Context) -> Result<Outcome> {
    // The whole workspace, so that dependencies are the ones that are built already.
    let args = ["test", "--workspace", "--bench", "*", "--locked"];
    plain(context, "benches", &args, &[], TEST_LIMIT)
}

/// Turns a test runner's output into an outcome.
pub(super) fn tested(context: &Context, name: &str, ran: &Ran, counts: Option<Counts>) -> Outcome {
    let mut counts = counts.unwrap_or_default();
    let mut notes = counts::apply_skip_lines(&mut counts, &ran.output);
    if ran.ok() && counts.failed == 0 {
        return Outcome { counts, notes };
    }
    // It did not even come to a test result, or ended badly after all tests had passed.
    counts.failed = counts.failed.max(1);
    notes.push(format!(
        "{}; full output: {}",
        ran.why(),
        context.log_file(name).display()
    ));
    let failed = counts::failed_tests(&ran.output);
    if failed.is_empty() {
        notes.push(tail(&ran.output));
    }
    notes.extend(failed);
    Outcome { counts, notes }
}

fn plain(
    context: &Context,
    name: &str,
    args: &[&str],
    environment: &[(&str, &str)],
    limit: Duration,
) -> Result<Outcome> {
    let ran = cargo(context, name, args, environment, limit)?;
    if ran.ok() {
        return Ok(Outcome::passed());
    }
    Ok(Outcome::failed(vec![
        format!("{}; full output: {}", ran.why(), context.log_file(name).display()),
        tail(&ran.output),
    ]))
}

fn cargo(
    context: &Context,
    name: &str,
    args: &[&str],
    environment: &[(&str, &str)],
    limit: Duration,
) -> Result<Ran> {
    let output = Output::File(context.log_file(name));
    process::run(&context.cargo, args, environment, &context.root, limit, &output)
}

pub(super) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
