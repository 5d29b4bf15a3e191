//! The checks, in the order they run: quick ones first.

mod boundaries;
mod cargo;
mod dependencies;
mod licence;
mod metadata;
mod proto;
mod python;
mod tidy;

pub(crate) use cargo::build_server;
pub(crate) use python::{Venv, prepare as prepare_python};

use std::time::Instant;

use anyhow::{Result, bail};

use crate::context::Context;
use crate::report::{self, Counts, Outcome};

/// Something that must hold, or a set of tests.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    run: fn(&Context) -> Result<Outcome>,
}

const fn check(name: &'static str, about: &'static str, run: fn(&Context) -> Result<Outcome>) -> Check {
    Check { name, about, run }
}

/// Every check there is.
pub(crate) const ALL: &[Check] = &[
    check("fmt", "formatting of all Rust code", cargo::fmt),
    check("lockfile", "Cargo.lock matches the manifests", cargo::lockfile),
    check(
        "tidy",
        "file length, leftovers, clocks, the crate map",
        tidy::check,
    ),
    check("boundaries", "which crate may depend on which", boundaries::check),
    check("licences", "licences of all dependencies", dependencies::licences),
    check(
        "duplicates",
        "crates present in more than one version",
        dependencies::duplicates,
    ),
    check(
        "advisories",
        "known vulnerabilities of dependencies",
        dependencies::advisories,
    ),
    check("proto", "lint of the client API", proto::lint),
    check("clippy", "lints, warnings are errors", cargo::clippy),
    check("docs", "API documentation, warnings are errors", cargo::docs),
    check(
        "build",
        "the server binary that the client tests run",
        cargo::build_server,
    ),
    check("tests", "unit, property and integration tests", cargo::tests),
    check("doctests", "examples in documentation", cargo::doctests),
    check("benches", "every micro-benchmark once", cargo::benches),
    check(
        "client",
        "the published Python client against a cluster of processes",
        python::client,
    ),
    check(
        "chaos",
        "a short run of the soak: nodes killed under load",
        python::chaos,
    ),
];

/// Runs the named checks (all when none is named) and says whether nothing failed.
pub(crate) fn run(context: &Context, only: &[String]) -> Result<bool> {
    for name in only {
        if !ALL.iter().any(|c| c.name == name) {
            let known: Vec<_> = ALL.iter().map(|c| c.name).collect();
            bail!("no check is named {name}; there are {}", known.join(", "));
        }
    }
    let mut total = Counts::default();
    for check in ALL {
        if !only.is_empty() && !only.iter().any(|name| name == check.name) {
            continue;
        }
        let started = Instant::now();
        let outcome =
            (check.run)(context).unwrap_or_else(|error| Outcome::failed(vec![format!("{error:#}")]));
        println!("{}", report::lines(check.name, &outcome, started.elapsed()));
        total = total + outcome.counts;
    }
    println!("{}", report::summary(total));
    Ok(total.failed == 0)
}
