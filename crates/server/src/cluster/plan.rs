//! Size and ports of a local cluster, chosen once and kept in `cluster.toml`.

use super::layout::Layout;
use crate::config::Config;
use crate::exit::Failure;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Cluster sizes that `dev` offers.
pub const SIZES: [usize; 3] = [1, 3, 5];

/// Ports of one node, all on loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub operator: SocketAddr,
}

/// What a restart must repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub nodes: Vec<NodePlan>,
}

impl Plan {
    /// Reads the plan of an existing cluster or makes one of `size` nodes (default 3). Node 1's client port is the
    /// usual 8100 when `usual_port` is set and the port is free.
    ///
    /// # Errors
    /// A directory of another size, an unreadable file, no free ports.
    pub fn read_or_make(layout: &Layout, size: Option<usize>, usual_port: bool) -> Result<Self, Failure> {
        let path = layout.cluster_file();
        if path.exists() {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::config(format!("cannot read {}: {error}", path.display())))?;
            let plan: Self = toml::from_str(&text).map_err(|error| {
                Failure::config(format!(
                    "{}: {}; correct it or use another directory",
                    path.display(),
                    error.message()
                ))
            })?;
            if size.is_some_and(|size| size != plan.nodes.len()) {
                return Err(Failure::config(format!(
                    "{} holds a cluster of {} nodes; leave --nodes out or use another --data-dir",
                    layout.root().display(),
                    plan.nodes.len()
                )));
            }
            return Ok(plan);
        }
        let plan = Self::make(size.unwrap_or(3), usual_port)?;
        let text = toml::to_string(&plan).expect("addresses only");
        std::fs::write(&path, text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(plan)
    }

    /// Takes all ports at the same time, so that none is handed out twice, then lets go of them.
    fn make(size: usize, usual_port: bool) -> Result<Self, Failure> {
        let taken = |error: std::io::Error| Failure::failed(format!("no free loopback port: {error}"));
        let mut held = Vec::new();
        let mut nodes = Vec::new();
        for n in 0..size {
            let mut port = |wish: u16| -> Result<SocketAddr, Failure> {
                let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wish))
                    .or_else(|_| any())
                    .map_err(taken)?;
                let address = listener.local_addr().map_err(taken)?;
                held.push(listener);
                Ok(address)
            };
            let client = port(if usual_port && n == 0 { 8100 } else { 0 })?;
            nodes.push(NodePlan {
                client,
                peer: port(0)?,
                operator: port(0)?,
            });
        }
        Ok(Self { nodes })
    }

    /// Configuration of node `k` (from 1).
    #[must_use]
    pub fn config(&self, layout: &Layout, k: usize, base: &Config) -> Config {
        let node = &self.nodes[k - 1];
        let mut config = base.clone();
        config.name = format!("node-{k}");
        config.data_dir = layout.data_dir(k);
        config.client.listen = node.client;
        config.peer.listen = node.peer;
        config.operator.listen = node.operator;
        config.cluster.peers = self.nodes.iter().map(|n| n.peer.to_string()).collect();
        config.cluster.ordinal = k - 1;
        // Agents of a cluster for trying out are on this machine, too.
        config.push.allow_http = true;
        for home in ["127.0.0.0/8", "::1/128"] {
            let home = home.parse().expect("a network");
            if !config.push.allow_networks.contains(&home) {
                config.push.allow_networks.push(home);
            }
        }
        config.cluster.bootstrap_credentials = (k == 1).then(|| layout.credentials());
        config
    }

    /// Base URLs of all nodes.
    #[must_use]
    pub fn base_urls(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|n| format!("http://{}", n.client))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_plan_is_made_once_and_keeps_its_ports() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let plan = Plan::read_or_make(&layout, Some(5), false).unwrap();
        let ports: BTreeSet<_> = plan
            .nodes
            .iter()
            .flat_map(|n| [n.client, n.peer, n.operator])
            .collect();
        assert_eq!(ports.len(), 15);
        assert_eq!(Plan::read_or_make(&layout, None, false).unwrap(), plan);
        let failure = Plan::read_or_make(&layout, Some(3), false).unwrap_err();
        assert!(failure.line.contains("5 nodes"), "{failure}");
    }

    #[test]
    fn node_configurations_agree_and_only_the_first_reads_the_credentials() {
        let layout = Layout::new("/c");
        let plan = Plan::make(3, false).unwrap();
        let configs: Vec<_> = (1..=3)
            .map(|k| plan.config(&layout, k, &Config::default()))
            .collect();
        for (n, config) in configs.iter().enumerate() {
            assert_eq!(config.cluster.peers, configs[0].cluster.peers);
            assert_eq!(config.cluster.peers[n], config.peer_address());
            assert_eq!(config.cluster.bootstrap_credentials.is_some(), n == 0);
            assert_eq!(config.data_dir, layout.data_dir(n + 1));
        }
    }
}
