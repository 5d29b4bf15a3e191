//! Starts, watches and stops the nodes of a local cluster.

use super::layout::Layout;
use super::plan::Plan;
use super::process::NodeProcess;
use super::status::NodeStatus;
use crate::client::Api;
use crate::config::Config;
use crate::credentials::{Credentials, write_secret};
use crate::exit::Failure;
use fs2::FileExt as _;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How often a starting node is asked.
const POLL: Duration = Duration::from_millis(50);
/// One look at a node's port.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What to start.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// The `baton` binary.
    pub program: PathBuf,
    /// Directory of the cluster; a temporary one, removed in the end, when absent.
    pub data_dir: Option<PathBuf>,
    /// Number of nodes; absent = what the directory holds, or 3.
    pub nodes: Option<usize>,
    /// Settings shared by all nodes.
    pub base: Config,
    /// Whether node 1 takes port 8100 when it is free.
    pub usual_port: bool,
    /// Longest wait until every node is ready.
    pub ready_timeout: Duration,
}

impl LaunchOptions {
    /// Options for a cluster of this same binary without request limits.
    ///
    /// # Errors
    /// When the system does not say where this binary is.
    pub fn new() -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find the baton binary: {error}")))?;
        let mut base = Config::default();
        // One person's load generator is no tenant to protect others from.
        base.limits.requests_per_minute = 0;
        Ok(Self {
            program,
            data_dir: None,
            nodes: None,
            base,
            usual_port: false,
            ready_timeout: Duration::from_secs(60),
        })
    }
}

/// A running cluster. Dropping it kills the nodes; [`Cluster::stop`] ends them in order.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    plan: Plan,
    credentials: Credentials,
    program: PathBuf,
    ready_timeout: Duration,
    nodes: Vec<Option<NodeProcess>>,
    http: reqwest::Client,
    // Dropped last: the lock until the nodes are gone, then the temporary directory.
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

impl Cluster {
    /// Prepares the directory, starts every node and waits until all are ready. `progress` gets one line per step.
    ///
    /// # Errors
    /// One line: a directory in use, a node that ended (with its own last words), nodes not ready in time.
    pub async fn start(options: LaunchOptions, progress: &(dyn Fn(&str) + Sync)) -> Result<Self, Failure> {
        let mut cluster = Self::prepare(options)?;
        progress(&format!(
            "starting {} nodes in {}",
            cluster.size(),
            cluster.layout.root().display()
        ));
        for k in 1..=cluster.size() {
            cluster.start_node(k)?;
        }
        for k in 1..=cluster.size() {
            cluster.wait_ready(k).await?;
            progress(&format!("node-{k} ready at {}", cluster.base_url(k)));
        }
        Ok(cluster)
    }

    fn prepare(options: LaunchOptions) -> Result<Self, Failure> {
        let (root, temporary) = match options.data_dir {
            Some(dir) => (dir, None),
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("baton-")
                    .tempdir()
                    .map_err(|error| {
                        Failure::failed(format!("cannot make a temporary directory: {error}"))
                    })?;
                (dir.path().to_path_buf(), Some(dir))
            }
        };
        let cannot =
            |error: std::io::Error| Failure::config(format!("cannot use {}: {error}", root.display()));
        std::fs::create_dir_all(&root).map_err(cannot)?;
        let root = root.canonicalize().map_err(cannot)?;
        let layout = Layout::new(&root);
        let lock = File::create(layout.lock()).map_err(cannot)?;
        lock.try_lock_exclusive().map_err(|_| {
            Failure::failed(format!(
                "{} is in use by another baton dev, demo or bench; stop that one or use another --data-dir",
                root.display()
            ))
        })?;
        let plan = Plan::read_or_make(&layout, options.nodes, options.usual_port)?;
        let credentials = Credentials::read_or_mint(&layout.credentials())?;
        write_secret(&layout.client_env(), &credentials.client_env(&plan.base_urls()))?;
        for k in 1..=plan.nodes.len() {
            std::fs::create_dir_all(layout.data_dir(k)).map_err(cannot)?;
            let text = plan.config(&layout, k, &options.base).to_toml();
            std::fs::write(layout.config(k), text).map_err(cannot)?;
        }
        let http = reqwest::Client::builder()
            .timeout(PROBE_TIMEOUT)
            .build()
            .map_err(|error| Failure::failed(format!("cannot start an HTTP client: {error}")))?;
        Ok(Self {
            nodes: (0..plan.nodes.len()).map(|_| None).collect(),
            layout,
            plan,
            credentials,
            program: options.program,
            ready_timeout: options.ready_timeout,
            http,
            _lock: lock,
            _temporary: temporary,
        })
    }

    /// Number of nodes, running or not.
    #[must_use]
    pub fn size(&self) -> usize {
        self.plan.nodes.len()
    }

    /// Where the files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Tenant and operator key.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Base URL of node `k`.
    #[must_use]
    pub fn base_url(&self, k: usize) -> String {
        format!("http://{}", self.plan.nodes[k - 1].client)
    }

    /// Base URLs of all nodes.
    #[must_use]
    pub fn base_urls(&self) -> Vec<String> {
        self.plan.base_urls()
    }

    /// A client with the operator key.
    ///
    /// # Errors
    /// When the HTTP stack cannot start.
    pub fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.base_urls(), &self.credentials.operator_token)
    }

    /// Process id of node `k` while it runs.
    #[must_use]
    pub fn pid(&self, k: usize) -> Option<u32> {
        self.nodes[k - 1].as_ref().map(NodeProcess::pid)
    }

    /// Starts node `k`, which must not be running.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_node(&mut self, k: usize) -> Result<(), Failure> {
        self.nodes[k - 1] = Some(NodeProcess::start(&self.program, &self.layout, k)?);
        Ok(())
    }

    /// kill -9 of node `k`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill_node(&mut self, k: usize) -> Result<(), Failure> {
        match self.nodes[k - 1].take() {
            Some(mut node) => node.kill().await,
            None => Ok(()),
        }
    }

    /// Nodes that have ended by themselves since the last call, with their last words.
    pub fn reap(&mut self) -> Vec<(usize, String)> {
        let mut ended = Vec::new();
        for (n, slot) in self.nodes.iter_mut().enumerate() {
            if let Some(node) = slot
                && node.ended().is_some()
            {
                ended.push((n + 1, node.obituary()));
                node.forget_pid();
                *slot = None;
            }
        }
        ended
    }

    /// Number of nodes that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// Waits until node `k` says that it is ready and accepts the operator key.
    ///
    /// # Errors
    /// When the node ends, or the time is over.
    pub async fn wait_ready(&mut self, k: usize) -> Result<(), Failure> {
        let until = Instant::now() + self.ready_timeout;
        let ready = format!("{}/readyz", self.base_url(k));
        let me = format!("{}/v1/me", self.base_url(k));
        loop {
            let problem = match self.probe(&ready).await {
                Ok(_) => match self.probe(&me).await {
                    Ok(_) => return Ok(()),
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            if let Some(node) = self.nodes[k - 1].as_mut()
                && node.ended().is_some()
            {
                return Err(Failure::failed(node.obituary()));
            }
            if Instant::now() >= until {
                return Err(Failure::failed(format!(
                    "node-{k} is not ready after {} s ({problem}); see {}",
                    self.ready_timeout.as_secs(),
                    self.layout.log(k).display()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What node `k` says about its groups.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self, k: usize) -> anyhow::Result<NodeStatus> {
        let text = self.operator_page(k, "status").await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The metrics page of node `k`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self, k: usize) -> anyhow::Result<String> {
        self.operator_page(k, "metrics").await
    }

    /// The node (from 1) that leads `group`: the one that at least says so itself, in the highest term.
    ///
    /// # Errors
    /// When no running node claims it within `patience`.
    pub async fn leader_of(&self, group: u32, patience: Duration) -> anyhow::Result<usize> {
        let until = Instant::now() + patience;
        loop {
            let mut best: Option<(u64, usize)> = None;
            for k in (1..=self.size()).filter(|&k| self.pid(k).is_some()) {
                let Ok(status) = self.status(k).await else {
                    continue;
                };
                let claims =
                    |g: &&super::status::GroupStatus| g.group == group && g.leader == Some(status.node_id);
                if let Some(led) = status.groups.iter().find(claims) {
                    best = best.max(Some((led.term, k)));
                }
            }
            if let Some((_, k)) = best {
                return Ok(k);
            }
            anyhow::ensure!(Instant::now() < until, "no node leads group {group}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops every node in order; the last one ended first keeps a quorum for the others' hand-over as long as
    /// there is one. Returns the nodes that did not end by themselves.
    pub async fn stop(&mut self) -> Vec<usize> {
        let running = self.nodes.iter_mut().enumerate().filter_map(|(n, node)| {
            node.as_mut()
                .map(|node| async move { (n + 1, node.stop().await) })
        });
        let mut unclean = Vec::new();
        for (k, orderly) in futures::future::join_all(running).await {
            if !orderly {
                unclean.push(k);
            }
        }
        self.nodes.iter_mut().for_each(|node| *node = None);
        unclean
    }

    async fn operator_page(&self, k: usize, page: &str) -> anyhow::Result<String> {
        let url = format!("http://{}/{page}", self.plan.nodes[k - 1].operator);
        Ok(self
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?)
    }

    async fn probe(&self, url: &str) -> Result<(), String> {
        let request = self
            .http
            .get(url)
            .header("x-api-key", &self.credentials.operator_token);
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                let body: String = body.chars().take(300).collect();
                Err(format!("{status}: {body}"))
            }
            Err(_) => Err("no answer".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn options(dir: &std::path::Path) -> LaunchOptions {
        LaunchOptions {
            data_dir: Some(dir.to_path_buf()),
            nodes: Some(3),
            ..LaunchOptions::new().unwrap()
        }
    }

    #[tokio::test]
    async fn the_directory_has_what_clients_and_nodes_read() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::prepare(options(dir.path())).unwrap();
        let layout = cluster.layout().clone();
        let env = std::fs::read_to_string(layout.client_env()).unwrap();
        assert!(env.contains(&format!("AXME_BASE_URLS={}", cluster.base_urls().join(","))));
        assert!(env.contains(&format!("AXME_API_KEY={}", cluster.credentials().operator_token)));
        let mode = std::fs::metadata(layout.client_env())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        for k in 1..=3 {
            let config =
                crate::config::load(Some(&layout.config(k)), &crate::config::Overrides::default()).unwrap();
            assert_eq!(config.cluster.ordinal, k - 1);
            assert_eq!(config.limits.requests_per_minute, 0);
        }
    }

    #[tokio::test]
    async fn a_second_parent_is_refused_and_a_later_one_finds_the_same_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cluster::prepare(options(dir.path())).unwrap();
        let refusal = Cluster::prepare(options(dir.path())).unwrap_err();
        assert!(refusal.line.contains("in use"), "{refusal}");
        let (urls, token) = (first.base_urls(), first.credentials().operator_token.clone());
        drop(first);
        let again = Cluster::prepare(options(dir.path())).unwrap();
        assert_eq!(again.base_urls(), urls);
        assert_eq!(again.credentials().operator_token, token);
    }
}
