//! Where the files of a local cluster are.

use std::path::{Path, PathBuf};

/// A cluster directory. Nodes count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held by the parent while it runs.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Node count and ports, so that a restart finds the same cluster.
    #[must_use]
    pub fn cluster_file(&self) -> PathBuf {
        self.root.join("cluster.toml")
    }

    /// The operator key and tenant, mode 0600.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials.toml")
    }

    /// What clients source, mode 0600.
    #[must_use]
    pub fn client_env(&self) -> PathBuf {
        self.root.join("client.env")
    }

    /// Directory of node `k`.
    #[must_use]
    pub fn node_dir(&self, k: usize) -> PathBuf {
        self.root.join(format!("node-{k}"))
    }

    /// Data directory of node `k`.
    #[must_use]
    pub fn data_dir(&self, k: usize) -> PathBuf {
        self.node_dir(k).join("data")
    }

    /// Process id of node `k` while it runs.
    #[must_use]
    pub fn pid(&self, k: usize) -> PathBuf {
        self.node_dir(k).join("pid")
    }

    /// Configuration of node `k`.
    #[must_use]
    pub fn config(&self, k: usize) -> PathBuf {
        self.node_dir(k).join("config.toml")
    }

    /// Log lines of node `k`, appended across restarts.
    #[must_use]
    pub fn log(&self, k: usize) -> PathBuf {
        self.node_dir(k).join("log")
    }
}
