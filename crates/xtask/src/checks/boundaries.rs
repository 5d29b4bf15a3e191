//! The arrows between crates: a new edge is a change of architecture and is made here first.

use anyhow::Result;

use super::metadata::{self, Package};
use crate::context::Context;
use crate::report::Outcome;

/// Crates of ours, and which of ours each may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("baton-protocol", &[]),
    ("baton-state-machine", &["baton-protocol"]),
    ("baton-raft-storage", &["baton-protocol", "baton-state-machine"]),
    (
        "baton-consensus",
        &["baton-protocol", "baton-state-machine", "baton-raft-storage"],
    ),
    ("baton-delivery", &["baton-protocol", "baton-state-machine"]),
    ("baton-gateway", &["baton-protocol"]),
    ("baton-client", &["baton-protocol"]),
    (
        "baton-server",
        &[
            "baton-protocol",
            "baton-state-machine",
            "baton-raft-storage",
            "baton-consensus",
            "baton-delivery",
            "baton-gateway",
            "baton-client",
        ],
    ),
];

/// Foreign crates that only some of ours may use, because each use is a seam we want in one place.
const RESERVED: &[(&str, &[&str])] = &[
    ("openraft", &["baton-raft-storage", "baton-consensus"]),
    ("sled", &["baton-raft-storage"]),
    ("raft-engine", &["baton-raft-storage"]),
    ("axum", &["baton-gateway", "baton-server"]),
    ("lettre", &["baton-delivery"]),
];

/// What the pure crate must never see.
const FORBIDDEN_IN_STATE_MACHINE: &[&str] = &["tokio", "rand", "openraft", "sled", "jiff", "tracing", "uuid"];

pub(super) fn check(context: &Context) -> Result<Outcome> {
    Ok(Outcome::from_findings(findings(&metadata::packages(context)?)))
}

fn findings(packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|p| p.ours) {
        let name = package.name.as_str();
        let ours = ALLOWED.iter().find(|(n, _)| *n == name);
        for dependency in &package.dependencies {
            let dependency = dependency.as_str();
            if let Some((_, allowed)) = ours {
                let is_ours = ALLOWED.iter().any(|(n, _)| *n == dependency);
                if is_ours && !allowed.contains(&dependency) {
                    findings.push(format!("{name} must not depend on {dependency}"));
                }
                let reserved = RESERVED.iter().find(|(n, _)| *n == dependency);
                if reserved.is_some_and(|(_, users)| !users.contains(&name)) {
                    findings.push(format!("{name} must not use {dependency} directly"));
                }
            }
            if name == "baton-state-machine" && FORBIDDEN_IN_STATE_MACHINE.contains(&dependency) {
                findings.push(format!("{name} is pure and must not use {dependency}"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            licence: None,
            ours: true,
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        }
    }

    #[test]
    fn an_edge_that_points_up_is_found() {
        assert!(findings(&[ours("baton-gateway", &["baton-protocol", "axum"])]).is_empty());
        assert_eq!(findings(&[ours("baton-gateway", &["baton-consensus"])]).len(), 1);
        assert_eq!(findings(&[ours("baton-delivery", &["sled"])]).len(), 1);
        assert_eq!(findings(&[ours("baton-state-machine", &["rand"])]).len(), 1);
    }
}
