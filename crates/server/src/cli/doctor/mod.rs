//! `baton doctor`: what would keep this machine from working with the cluster, and what to do about it.

mod checks;

use super::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Output, list};
use clap::Args;
use comfy_table::{Cell, Color};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    long_about = "Looks at the settings of this command line, each endpoint, the key, the clocks and, with --config, a \
        node's own configuration and disk. Says what to do about each thing that is wrong. Exit 1 if anything is.",
    after_help = "Examples:\n  baton doctor\n  baton doctor --config /etc/baton/baton.toml"
)]
pub(super) struct DoctorArgs {
    /// Also check this node configuration (TOML), its files and its disk
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Works, but not as it should.
    Warning,
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    detail: String,
    /// What to do; empty when nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
}

impl Finding {
    fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict: Verdict::Ok,
            detail: detail.into(),
            fix: String::new(),
        }
    }

    fn bad(
        verdict: Verdict,
        check: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check: check.into(),
            verdict,
            detail: detail.into(),
            fix: fix.into(),
        }
    }
}

pub(super) async fn run(args: DoctorArgs, out: Output) -> Result<(), Failure> {
    let mut findings = checks::cluster(&args.connect).await;
    if let Some(path) = &args.config {
        findings.extend(checks::node(path));
    }
    let mut table = list(&["", "check", "what was found"]);
    for finding in &findings {
        let (mark, colour) = match finding.verdict {
            Verdict::Ok => ("ok", Color::Green),
            Verdict::Warning => ("warning", Color::Yellow),
            Verdict::Wrong => ("WRONG", Color::Red),
        };
        let detail = if finding.fix.is_empty() {
            finding.detail.clone()
        } else {
            format!("{}\n→ {}", finding.detail, finding.fix)
        };
        table.add_row([
            Cell::new(mark).fg(colour),
            Cell::new(&finding.check),
            Cell::new(detail),
        ]);
    }
    out.result(&findings, &[table]);
    match findings.iter().filter(|f| f.verdict == Verdict::Wrong).count() {
        0 => Ok(()),
        n => Err(Failure::failed(format!(
            "{n} things are wrong; the lines with an arrow say what to do"
        ))),
    }
}
