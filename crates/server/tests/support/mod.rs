//! Local clusters of real processes, as the tests of this folder start them.

use baton_server::cluster::{Cluster, LaunchOptions};
use std::path::Path;
use std::time::Duration;

/// `nodes` processes with four shard groups and their data in `dir`.
pub(crate) fn options(dir: &Path, nodes: usize) -> LaunchOptions {
    let mut options = LaunchOptions {
        program: env!("CARGO_BIN_EXE_baton").into(),
        data_dir: Some(dir.to_path_buf()),
        nodes: Some(nodes),
        ready_timeout: Duration::from_secs(30),
        ..LaunchOptions::new().unwrap()
    };
    options.base.cluster.shard_groups = 4;
    options
}

pub(crate) async fn start(options: LaunchOptions) -> Cluster {
    Cluster::start(options, &|line| eprintln!("{line}"))
        .await
        .unwrap()
}
