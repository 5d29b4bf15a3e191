//! Tests that drive the server through the published Python client, unmodified.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cargo::tested;
use crate::context::Context;
use crate::counts;
use crate::process::{self, Output};
use crate::report::Outcome;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const BROWSER_LIMIT: Duration = Duration::from_secs(300);
/// What Debian and others call it.
const BROWSERS: [&str; 2] = ["chromium", "chromium-browser"];
const CLIENT_LIMIT: Duration = Duration::from_secs(20 * 60);
const CHAOS_LIMIT: Duration = Duration::from_secs(10 * 60);

/// The Python that has the client, or why there is none.
#[derive(Debug)]
pub(crate) enum Venv {
    Ready(PathBuf),
    Unavailable(String),
}

/// Makes `target/venv` with the pinned packages of `tests/python/requirements.txt`, once per content of that file.
pub(crate) fn prepare(context: &Context) -> Result<Venv> {
    let requirements = context.root.join("tests/python/requirements.txt");
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let venv = context.target.join("venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Venv::Ready(python));
    }
    let output = Output::File(context.log_file("venv"));
    let run = |program: &str, args: &[&str]| {
        process::run(program, args, &[], &context.root, INSTALL_LIMIT, &output)
    };
    let folder = venv.to_string_lossy();
    match run("python3", &["-m", "venv", "--clear", &folder]) {
        Ok(made) if made.ok() => {}
        Ok(made) => return Ok(Venv::Unavailable(format!("python3 -m venv: {}", made.why()))),
        Err(_) => return Ok(Venv::Unavailable("python3 is not installed".to_owned())),
    }
    let file = requirements.to_string_lossy();
    let installed = run(
        &python.to_string_lossy(),
        &["-m", "pip", "install", "--disable-pip-version-check", "-r", &file],
    )?;
    if !installed.ok() {
        return Ok(Venv::Unavailable(format!(
            "the Python package index is not reachable ({})",
            installed.output.lines().last().unwrap_or_default()
        )));
    }
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(Venv::Ready(python))
}

/// Installs the browser of the tests where there is none. Without it they are skipped, and say why.
fn browser(context: &Context) {
    let output = Output::File(context.log_file("browser"));
    let run = |program: &str, args: &[&str]| {
        let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
        process::run(program, args, &quiet, &context.root, BROWSER_LIMIT, &output).is_ok_and(|ran| ran.ok())
    };
    if !BROWSERS.iter().any(|name| run(name, &["--version"])) {
        let _ = run(
            "apt-get",
            &["install", "-y", "--no-install-recommends", "chromium"],
        );
    }
}

pub(super) fn client(context: &Context) -> Result<Outcome> {
    browser(context);
    pytest(context, "client", "not chaos", CLIENT_LIMIT)
}

pub(super) fn chaos(context: &Context) -> Result<Outcome> {
    pytest(context, "chaos", "chaos", CHAOS_LIMIT)
}

fn pytest(context: &Context, name: &str, selection: &str, limit: Duration) -> Result<Outcome> {
    let python = match prepare(context)? {
        Venv::Ready(python) => python,
        Venv::Unavailable(reason) => return Ok(Outcome::skipped(reason)),
    };
    let built = super::build_server(context)?;
    if built.counts.failed > 0 {
        return Ok(built);
    }
    let binary = context.server_binary();
    let scratch = context.target.join("client-tests").join(name);
    let args = ["-m", "pytest", "tests/python", "-m", selection];
    let environment = [
        ("BATON_BIN", binary.to_string_lossy().into_owned()),
        ("BATON_TEST_SCRATCH", scratch.to_string_lossy().into_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        // So that the reasons in its summary are not cut.
        ("COLUMNS", "300".to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let output = Output::File(context.log_file(name));
    let ran = process::run(
        &python.to_string_lossy(),
        &args,
        &environment,
        &context.root,
        limit,
        &output,
    )?;
    let mut outcome = tested(context, name, &ran, counts::pytest(&ran.output));
    let told = ran
        .output
        .lines()
        .filter(|l| l.starts_with("SKIPPED") || l.starts_with("chaos:") || l.starts_with("note:"));
    outcome.notes.splice(0..0, told.map(str::to_owned));
    Ok(outcome)
}
