//! Licences, duplicates and advisories, with the rules of `deny.toml` (the format of cargo-deny).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::licence::satisfied;
use super::metadata::{self, Package};
use crate::context::Context;
use crate::process::{self, Output};
use crate::report::Outcome;

const ADVISORIES_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
struct Skip {
    /// `name@version`, as in Cargo.lock.
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

fn policy(context: &Context) -> Result<Policy> {
    let path = context.root.join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

pub(super) fn licences(context: &Context) -> Result<Outcome> {
    let findings = licence_findings(&metadata::packages(context)?, &policy(context)?.licenses)?;
    Ok(Outcome::from_findings(findings))
}

fn licence_findings(packages: &[Package], rules: &Licences) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in packages {
        let Some(expression) = &package.licence else {
            findings.push(format!("{} {} names no licence", package.name, package.version));
            continue;
        };
        let allowed = |name: &str| {
            rules.allow.iter().any(|a| a == name)
                || rules
                    .exceptions
                    .iter()
                    .any(|e| e.name == package.name && e.allow.iter().any(|a| a == name))
        };
        if !satisfied(expression, &allowed)
            .with_context(|| format!("licence of {} {}", package.name, package.version))?
        {
            findings.push(format!(
                "{} {} is under \"{expression}\", which deny.toml does not allow",
                package.name, package.version
            ));
        }
    }
    Ok(findings)
}

pub(super) fn duplicates(context: &Context) -> Result<Outcome> {
    let packages = metadata::packages(context)?;
    Ok(Outcome::from_findings(duplicate_findings(
        &packages,
        &policy(context)?.bans.skip,
    )))
}

/// Of each duplicated crate, exactly one version may be missing from the list: the one we mean to keep.
fn duplicate_findings(packages: &[Package], skip: &[Skip]) -> Vec<String> {
    let listed: BTreeSet<&str> = skip.iter().map(|s| s.package.as_str()).collect();
    let mut findings = Vec::new();
    let mut needed = BTreeSet::new();
    for (name, versions) in metadata::duplicates(packages) {
        let (known, unlisted): (Vec<_>, Vec<_>) = versions
            .iter()
            .partition(|v| listed.contains(format!("{name}@{v}").as_str()));
        needed.extend(known.iter().map(|v| format!("{name}@{v}")));
        if unlisted.len() > 1 {
            findings.push(format!(
                "{name} is present as {}: make them one, or give the old one a reason in deny.toml [bans] skip",
                unlisted
                    .iter()
                    .map(|v| v.as_str())
                    .collect::<Vec<_>>()
                    .join(" and ")
            ));
        }
    }
    for entry in skip {
        if !needed.contains(&entry.package) {
            findings.push(format!(
                "{} in deny.toml is no duplicate any more: remove it",
                entry.package
            ));
        }
        if entry.reason.trim().is_empty() {
            findings.push(format!("{} in deny.toml has no reason", entry.package));
        }
    }
    findings
}

/// Needs the RustSec database, which cargo-deny fetches: used where that tool is installed.
pub(super) fn advisories(context: &Context) -> Result<Outcome> {
    let output = Output::File(context.log_file("advisories"));
    let deny = |args: &[&str]| {
        process::run(
            &context.cargo,
            args,
            &[],
            &context.root,
            ADVISORIES_LIMIT,
            &output,
        )
    };
    if !deny(&["deny", "--version"])?.ok() {
        return Ok(Outcome::skipped(
            "advisories (cargo-deny is not installed, so the database is not reachable)",
        ));
    }
    let ran = deny(&["deny", "check", "advisories"])?;
    if ran.ok() {
        return Ok(Outcome::passed());
    }
    if ran.output.contains("failed to fetch advisory database")
        || ran.output.contains("failed to open advisory")
    {
        return Ok(Outcome::skipped("advisories (database not reachable)"));
    }
    Ok(Outcome::failed(vec![super::cargo::tail(&ran.output)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, licence: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: licence.map(str::to_owned),
            ours: false,
            dependencies: BTreeSet::new(),
        }
    }

    fn skip(package: &str) -> Skip {
        Skip {
            package: package.to_owned(),
            reason: "old".to_owned(),
        }
    }

    #[test]
    fn a_new_duplicate_and_a_stale_entry_are_found() {
        let graph = [
            package("rand", "0.8.8", None),
            package("rand", "0.9.5", None),
            package("syn", "2.0.0", None),
        ];
        assert_eq!(duplicate_findings(&graph, &[]).len(), 1);
        assert_eq!(
            duplicate_findings(&graph, &[skip("rand@0.8.8")]),
            Vec::<String>::new()
        );
        assert_eq!(
            duplicate_findings(&graph, &[skip("rand@0.8.8"), skip("syn@1.0.0")]).len(),
            1
        );
    }

    #[test]
    fn a_licence_outside_the_list_is_found_unless_excepted() {
        let rules = Licences {
            allow: vec!["MIT".to_owned()],
            exceptions: vec![Exception {
                name: "odd".to_owned(),
                allow: vec!["GPL-3.0".to_owned()],
            }],
        };
        let graph = [
            package("odd", "1.0.0", Some("GPL-3.0")),
            package("bad", "1.0.0", Some("GPL-3.0")),
            package("none", "1.0.0", None),
        ];
        assert_eq!(licence_findings(&graph, &rules).unwrap().len(), 2);
    }
}
