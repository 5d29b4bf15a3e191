//! openraft's own storage suite, unchanged.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use baton_raft_storage::{GroupLog, GroupMachine, TypeConfig};
use common::Replica;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, GroupLog, GroupMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, GroupLog, GroupMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let replica = Replica::open(dir.path());
        Ok((dir, replica.log, replica.machine))
    }
}

#[tokio::test]
async fn storage_passes_the_library_s_suite() {
    Suite::test_all(Builder).await.unwrap();
}
