//! Who the nodes are.

use super::{Values, path};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Args)]
pub struct ClusterFlags {
    /// Advertised peer addresses of all nodes, comma separated, in the order of their ordinals; the same list on
    /// every node; absent = this node alone [key: cluster.peers]
    #[arg(
        long,
        env = "BATON_CLUSTER_PEERS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    pub cluster_peers: Option<Vec<String>>,
    /// Index of this node in the peer list, from 0; ordinal 0 creates the cluster [key: cluster.ordinal; default: 0]
    #[arg(
        long,
        env = "BATON_CLUSTER_ORDINAL",
        value_name = "N",
        help_heading = "Cluster"
    )]
    pub cluster_ordinal: Option<usize>,
    /// Shard groups of a new cluster, fixed for its life [key: cluster.shard_groups; default: 16]
    #[arg(
        long,
        env = "BATON_CLUSTER_SHARD_GROUPS",
        value_name = "N",
        help_heading = "Cluster"
    )]
    pub shard_groups: Option<u32>,
    /// File with organization, workspace and operator token of a new cluster, read once and by ordinal 0 only;
    /// only the token's hash is stored [key: cluster.bootstrap_credentials; default: minted into the data directory]
    #[arg(
        long,
        env = "BATON_CLUSTER_BOOTSTRAP_CREDENTIALS",
        value_name = "FILE",
        help_heading = "Cluster"
    )]
    pub bootstrap_credentials: Option<PathBuf>,
}

impl ClusterFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("cluster.peers", self.cluster_peers.clone());
        values.set("cluster.ordinal", self.cluster_ordinal);
        values.set("cluster.shard_groups", self.shard_groups);
        values.set(
            "cluster.bootstrap_credentials",
            path(self.bootstrap_credentials.as_deref()),
        );
    }
}
