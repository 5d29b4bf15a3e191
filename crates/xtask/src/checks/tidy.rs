//! Rules that no compiler checks. Exceptions, each with its reason, are in `crates/xtask/tidy.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::context::Context;
use crate::report::Outcome;

/// Places with sources of ours.
const SOURCES: &[&str] = &["crates", "tests", "benches", "proto"];

#[derive(Debug, Deserialize)]
struct Rules {
    lines_max: usize,
    #[serde(default)]
    long_files: Vec<Exception>,
    #[serde(default)]
    clocks: Vec<Exception>,
}

/// A file, or a folder with a closing slash, that a rule does not hold for.
#[derive(Debug, Deserialize)]
struct Exception {
    path: String,
    reason: String,
}

pub(super) fn check(context: &Context) -> Result<Outcome> {
    let path = context.root.join("crates/xtask/tidy.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules: Rules = toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut findings = Vec::new();
    for exception in rules.long_files.iter().chain(&rules.clocks) {
        if exception.reason.trim().is_empty() {
            findings.push(format!("tidy.toml gives no reason for {}", exception.path));
        }
        if !context.root.join(&exception.path).exists() {
            findings.push(format!(
                "tidy.toml lists {}, which does not exist",
                exception.path
            ));
        }
    }
    let mut files = Vec::new();
    for folder in SOURCES {
        collect(&context.root.join(folder), &mut files)?;
    }
    files.sort();
    for file in files {
        let name = file
            .strip_prefix(&context.root)
            .context("a source lies outside the workspace")?
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("reading {name}"))?;
        findings.extend(source_findings(&name, &text, &rules));
    }
    findings.extend(crate_findings(context)?);
    Ok(Outcome::from_findings(findings))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !["target", "__pycache__", "node_modules"].contains(&name.as_ref()) {
                collect(&path, files)?;
            }
        } else if [".rs", ".proto", ".py", ".toml"]
            .iter()
            .any(|e| name.ends_with(e))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn source_findings(name: &str, text: &str, rules: &Rules) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > rules.lines_max && !listed(&rules.long_files, name) {
        findings.push(format!(
            "{name} has {lines} lines, more than {}: split it, or give a reason in tidy.toml",
            rules.lines_max
        ));
    }
    // Written in two halves, so that this file does not find itself.
    for leftover in ["todo", "unimplemented"].map(|w| format!("{w}!(")) {
        push_lines(&mut findings, name, text, &leftover, "finish it or leave it out");
    }
    for marker in ["FIX", "XX"].map(|w| format!("{w}{}", if w == "FIX" { "ME" } else { "X" })) {
        push_lines(&mut findings, name, text, &marker, "open an issue instead");
    }
    // Tests may look at the clock to bound how long they wait.
    let test = name.contains("/tests/") || name.starts_with("tests/");
    if name.ends_with(".rs") && !test && !listed(&rules.clocks, name) {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
        // tokio's instants follow the runtime's clock, which a test can pause and move.
        let reads_machine = code
            .lines()
            .any(|l| l.contains("std::time::") && l.contains("Instant"));
        let clocks = [("SystemTime", true), ("Instant", reads_machine)];
        for clock in clocks
            .iter()
            .filter(|(_, bad)| *bad)
            .map(|(t, _)| format!("{t}::now("))
        {
            push_lines(
                &mut findings,
                name,
                code,
                &clock,
                "take the injected clock, or give a reason in tidy.toml",
            );
        }
    }
    findings
}

fn push_lines(findings: &mut Vec<String>, name: &str, text: &str, needle: &str, advice: &str) {
    for (index, line) in text.lines().enumerate() {
        if line.contains(needle) {
            findings.push(format!("{name}:{}: {needle} found: {advice}", index + 1));
        }
    }
}

fn listed(exceptions: &[Exception], name: &str) -> bool {
    exceptions
        .iter()
        .any(|e| e.path == name || (e.path.ends_with('/') && name.starts_with(&e.path)))
}

/// Every crate is in the map, states its invariants and takes the workspace's lints.
fn crate_findings(context: &Context) -> Result<Vec<String>> {
    let map =
        fs::read_to_string(context.root.join("crates/README.md")).context("reading crates/README.md")?;
    let mut findings = Vec::new();
    for entry in fs::read_dir(context.root.join("crates")).context("listing crates")? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !map.contains(&format!("`{name}`")) {
            findings.push(format!("crates/README.md does not name `{name}`"));
        }
        let root = ["src/lib.rs", "src/main.rs"]
            .map(|f| folder.join(f))
            .into_iter()
            .find(|f| f.exists())
            .with_context(|| format!("crates/{name} has neither src/lib.rs nor src/main.rs"))?;
        if !fs::read_to_string(&root)?.contains("//! # Invariants") {
            findings.push(format!("the root of crates/{name} states no invariants"));
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!(
                "crates/{name}/Cargo.toml does not take the workspace's lints"
            ));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            lines_max: 5,
            long_files: Vec::new(),
            clocks: vec![Exception {
                path: "crates/clock/".to_owned(),
                reason: "it is the clock".to_owned(),
            }],
        }
    }

    #[test]
    fn each_rule_finds_its_offence() {
        let clock = format!("use std::time::{0}; let t = {0}::now();", "Instant");
        let tokio = clock.replace("std", "tokio");
        for (text, count) in [
            ("fine\n".to_owned(), 0),
            ("1\n2\n3\n4\n5\n6\n".to_owned(), 1),
            (format!("{}!()", "todo"), 1),
            (format!("// FIX{}: later", "ME"), 1),
            (clock.clone(), 1),
            (tokio, 0),
            (format!("#[cfg(test)]\nmod tests {{ {clock} }}"), 0),
        ] {
            assert_eq!(
                source_findings("crates/a/src/x.rs", &text, &rules()).len(),
                count,
                "{text}"
            );
        }
        assert!(source_findings("crates/clock/src/lib.rs", &clock, &rules()).is_empty());
    }
}
