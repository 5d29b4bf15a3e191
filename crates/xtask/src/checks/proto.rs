//! buf's lint of the client API. That nothing published changes is tested in `crates/protocol/tests`.

use std::time::Duration;

use anyhow::Result;

use crate::context::Context;
use crate::process::{self, Output};
use crate::report::Outcome;

/// The pinned linter, of the npm index.
const BUF: &str = "@bufbuild/buf@1.75.0";
const INSTALL_LIMIT: Duration = Duration::from_secs(120);
const LINT_LIMIT: Duration = Duration::from_secs(60);

/// Installs the linter under `target/buf`, once per version, and lints `proto/`.
pub(super) fn lint(context: &Context) -> Result<Outcome> {
    let home = context.target.join("buf").join(BUF.replace(['/', '@'], "_"));
    let program = home.join("node_modules/.bin/buf");
    if !program.exists() {
        let prefix = home.to_string_lossy();
        let output = Output::File(context.log_file("buf-install"));
        let args = ["install", "--no-audit", "--no-fund", "--prefix", &prefix, BUF];
        match process::run("npm", &args, &[], &context.root, INSTALL_LIMIT, &output) {
            Ok(installed) if installed.ok() => {}
            Ok(failed) => return Ok(Outcome::skipped(format!("npm: {}", failed.why()))),
            Err(_) => return Ok(Outcome::skipped("npm is not installed".to_owned())),
        }
    }
    let output = Output::File(context.log_file("buf"));
    let linted = process::run(
        &program.to_string_lossy(),
        &["lint"],
        &[],
        &context.root.join("proto"),
        LINT_LIMIT,
        &output,
    )?;
    let findings = linted.output.lines().filter(|line| !line.trim().is_empty());
    let mut findings: Vec<String> = findings.map(str::to_owned).collect();
    if linted.ok() {
        findings.clear();
    } else if findings.is_empty() {
        findings.push(format!("buf lint: {}", linted.why()));
    }
    Ok(Outcome::from_findings(findings))
}
