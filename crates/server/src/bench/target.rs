//! The cluster under test.

use super::driver::{Axp, Driver, Grpc};
use super::mode::Protocol;
use crate::client::Api;
use crate::cluster::plan::Plan;
use crate::cluster::status::NodeStatus;
use crate::cluster::{Cluster, LaunchOptions, Layout};
use crate::exit::Failure;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a node may take to say how many groups it has.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// A cluster to load, with whatever this machine can say about its nodes.
#[derive(Debug)]
pub(super) struct Target {
    urls: Vec<String>,
    key: String,
    /// Present when the nodes' files are here.
    layout: Option<Layout>,
    operators: Vec<String>,
    cluster: Option<Cluster>,
}

impl Target {
    pub(super) async fn start(
        launch: LaunchOptions,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, Failure> {
        let cluster = Cluster::start(launch, progress).await?;
        let layout = cluster.layout().clone();
        Ok(Self {
            urls: cluster.base_urls(),
            key: cluster.credentials().operator_token.clone(),
            operators: operators(&layout),
            layout: Some(layout),
            cluster: Some(cluster),
        })
    }

    /// The cluster that a client.env describes.
    pub(super) fn described(env: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(env)
            .map_err(|error| Failure::config(format!("cannot read --target {}: {error}", env.display())))?;
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim_start_matches("export ").split_once('='))
                .find_map(|(key, value)| (key == name).then(|| value.trim_matches(['"', '\'']).to_owned()))
        };
        let missing = |name: &str| Failure::config(format!("--target {} has no {name}", env.display()));
        let urls = value("AXME_BASE_URLS")
            .or_else(|| value("AXME_BASE_URL"))
            .ok_or_else(|| missing("AXME_BASE_URL"))?;
        let key = value("AXME_API_KEY").ok_or_else(|| missing("AXME_API_KEY"))?;
        let layout = env
            .parent()
            .map(Layout::new)
            .filter(|layout| layout.cluster_file().exists());
        Ok(Self {
            operators: layout.as_ref().map(operators).unwrap_or_default(),
            layout,
            ..Self::reached(urls.split(','), key)
        })
    }

    /// A cluster of which only addresses and a key are known.
    pub(super) fn reached<'a>(urls: impl Iterator<Item = &'a str>, key: String) -> Self {
        Self {
            urls: urls.map(|url| url.trim_end_matches('/').to_owned()).collect(),
            key,
            layout: None,
            operators: Vec::new(),
            cluster: None,
        }
    }

    /// A client for what is prepared before a cell.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.urls, &self.key)
    }

    /// A client of the cluster over `protocol`, ready for this many long streams.
    pub(super) fn driver(&self, protocol: Protocol, streams: usize) -> anyhow::Result<Driver> {
        Ok(match protocol {
            Protocol::Axp => Driver::Axp(Axp::new(self.api()?)),
            Protocol::Grpc => Driver::Grpc(Grpc::new(&self.urls, &self.key, streams)?),
        })
    }

    /// Groups that hold intents, if a node can be asked.
    pub(super) async fn shard_groups(&self) -> Option<u32> {
        let http = reqwest::Client::builder().timeout(STATUS_TIMEOUT).build().ok()?;
        for url in self.operator_pages("status") {
            if let Ok(page) = http.get(url).send().await
                && let Ok(status) = page.json::<NodeStatus>().await
            {
                return Some(status.shard_groups);
            }
        }
        None
    }

    pub(super) fn nodes(&self) -> usize {
        self.urls.len()
    }

    /// Process ids of the nodes that run here.
    pub(super) fn pids(&self) -> Vec<u32> {
        let Some(layout) = &self.layout else {
            return Vec::new();
        };
        (1..=self.nodes())
            .filter_map(|k| std::fs::read_to_string(layout.pid(k)).ok()?.trim().parse().ok())
            .collect()
    }

    /// Data directories of the nodes that run here.
    pub(super) fn data_dirs(&self) -> Vec<PathBuf> {
        let Some(layout) = &self.layout else {
            return Vec::new();
        };
        (1..=self.nodes()).map(|k| layout.data_dir(k)).collect()
    }

    /// URLs of an operator page of each node that can be reached from here.
    pub(super) fn operator_pages(&self, page: &str) -> Vec<String> {
        self.operators
            .iter()
            .map(|operator| format!("{operator}/{page}"))
            .collect()
    }

    pub(super) fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        self.cluster
            .as_mut()
            .ok_or_else(|| anyhow::anyhow!("kills are measured on an own cluster only"))
    }

    pub(super) async fn stop(&mut self) {
        if let Some(mut cluster) = self.cluster.take() {
            cluster.stop().await;
        }
    }
}

fn operators(layout: &Layout) -> Vec<String> {
    Plan::read_or_make(layout, None, false)
        .map(|plan| {
            plan.nodes
                .iter()
                .map(|node| format!("http://{}", node.operator))
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_env_is_enough_to_find_a_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let env = dir.path().join("client.env");
        std::fs::write(
            &env,
            "AXME_BASE_URL=http://a\nAXME_BASE_URLS=http://a,http://b/\nAXME_API_KEY=k\n",
        )
        .unwrap();
        let target = Target::described(&env).unwrap();
        assert_eq!(target.urls, ["http://a", "http://b"]);
        assert!(target.pids().is_empty() && target.operator_pages("metrics").is_empty());
        std::fs::write(&env, "AXME_BASE_URL=http://a\n").unwrap();
        assert!(Target::described(&env).unwrap_err().line.contains("AXME_API_KEY"));
    }
}
