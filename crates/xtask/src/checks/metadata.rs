//! What `cargo metadata` says about the dependency graph, reduced to what the checks read.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::context::Context;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct RawPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    dependencies: Vec<RawDependency>,
}

#[derive(Debug, Deserialize)]
struct RawDependency {
    name: String,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
}

/// One package of the graph as it is built on this platform.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: Option<String>,
    pub(super) ours: bool,
    /// Names of direct dependencies, without those of tests and build scripts.
    pub(super) dependencies: BTreeSet<String>,
}

/// Reads the graph for this platform.
pub(super) fn packages(context: &Context) -> Result<Vec<Package>> {
    let host = host(context)?;
    let args = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &host,
    ];
    let output = Command::new(&context.cargo)
        .args(args)
        .current_dir(&context.root)
        .stdin(Stdio::null())
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let built: BTreeSet<&str> = metadata.resolve.nodes.iter().map(|n| n.id.as_str()).collect();
    let members: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    Ok(metadata
        .packages
        .iter()
        .filter(|p| built.contains(p.id.as_str()))
        .map(|p| Package {
            name: p.name.clone(),
            version: p.version.clone(),
            licence: p.license.clone(),
            ours: members.contains(p.id.as_str()),
            dependencies: p
                .dependencies
                .iter()
                .filter(|d| d.kind.is_none())
                .map(|d| d.name.clone())
                .collect(),
        })
        .collect())
}

/// Versions of each crate from outside, for crates that are present more than once.
pub(super) fn duplicates(packages: &[Package]) -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages.iter().filter(|p| !p.ours) {
        versions
            .entry(package.name.clone())
            .or_default()
            .insert(package.version.clone());
    }
    versions.retain(|_, v| v.len() > 1);
    versions
}

fn host(context: &Context) -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(&context.root)
        .stdin(Stdio::null())
        .output()
        .context("running rustc -vV")?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
