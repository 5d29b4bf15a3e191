//! Tables are trusted after a restart only where nothing can be missing; rebuilding them gives the same state.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use baton_protocol::proto::internal::TablesMark;
use baton_raft_storage::{MachineError, log_id};
use common::{Replica, submits};
use openraft::RaftSnapshotBuilder as _;
use openraft::storage::{RaftLogStorage as _, RaftStateMachine as _};
use prost::Message as _;
use std::path::{Path, PathBuf};

/// Applies 40 entries, of which a checkpoint covers 30. Returns the state hash.
async fn filled(dir: &Path) -> (Replica, u64) {
    let mut replica = Replica::open(dir);
    replica.put(submits(1, 0..30)).await;
    replica.tables.checkpoint().await.unwrap();
    replica.put(submits(1, 30..40)).await;
    let hash = replica.state_hash();
    assert_ne!(hash, 0);
    (replica, hash)
}

fn tables_dir(dir: &Path) -> PathBuf {
    std::fs::read_dir(dir.join("replica"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("tables-"))
        .unwrap()
}

/// Opens again and expects trust or a rebuild for a reason; either way the replay ends in the same state.
async fn reopened(dir: &Path, boot_id: &str, hash: u64, rebuilt_because: Option<&str>) {
    let mut replica = Replica::open_as(dir, boot_id);
    match (&replica.recovered.rebuilt_because, rebuilt_because) {
        (None, None) => {}
        (Some(reason), Some(expected)) => assert!(reason.contains(expected), "{reason}"),
        (found, expected) => panic!("{found:?}, expected {expected:?}"),
    }
    replica.replay().await;
    assert_eq!(replica.tables.applied_index(), 39);
    assert_eq!(replica.state_hash(), hash);
}

#[tokio::test]
async fn a_crash_under_the_same_kernel_keeps_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, hash) = filled(dir.path()).await;
    replica.crash();
    let again = Replica::open(dir.path());
    assert_eq!(again.recovered.applied_index, 29);
    again.crash();
    reopened(dir.path(), "boot", hash, None).await;
}

#[tokio::test]
async fn a_clean_stop_is_trusted_after_a_reboot_once() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, hash) = filled(dir.path()).await;
    replica.tables.close_clean().unwrap();
    replica.crash();
    let again = Replica::open_as(dir.path(), "second boot");
    assert_eq!(again.recovered.rebuilt_because, None);
    assert_eq!(again.recovered.applied_index, 39);
    // The mark is gone with the opening: this process did not stop cleanly.
    again.crash();
    reopened(dir.path(), "third boot", hash, Some("without a clean stop")).await;
}

#[tokio::test]
async fn an_open_checkpoint_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, hash) = filled(dir.path()).await;
    replica.crash();
    {
        let db = sled::open(tables_dir(dir.path())).unwrap();
        let meta = db.open_tree("meta").unwrap();
        let mut mark = TablesMark::decode(&*meta.get("mark").unwrap().unwrap()).unwrap();
        mark.dirty = true;
        meta.insert("mark", mark.encode_to_vec()).unwrap();
        db.flush().unwrap();
    }
    reopened(dir.path(), "boot", hash, Some("checkpoint")).await;
}

#[tokio::test]
async fn tables_ahead_of_the_log_are_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut replica, _) = filled(dir.path()).await;
    // As if the log's last entries had been lost.
    let lost = submits(1, 40..45).into_iter().map(|e| Ok((e, None)));
    replica.machine.apply(futures::stream::iter(lost)).await.unwrap();
    replica.tables.checkpoint().await.unwrap();
    replica.crash();
    let replica = Replica::open(dir.path());
    let reason = replica.recovered.rebuilt_because.clone().unwrap();
    assert!(reason.contains("beyond the log"), "{reason}");
    assert_eq!(replica.recovered.applied_index, 0);
}

#[tokio::test]
async fn damaged_tables_never_give_a_wrong_state() {
    for part in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let (replica, hash) = filled(dir.path()).await;
        replica.crash();
        for entry in std::fs::read_dir(tables_dir(dir.path())).unwrap() {
            let path = entry.unwrap().path();
            let Ok(mut bytes) = std::fs::read(&path) else {
                continue;
            };
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            let damaged = &mut bytes[used * part / 8..used * (part + 1) / 8];
            damaged.iter_mut().for_each(|b| *b = b.wrapping_add(77));
            std::fs::write(&path, bytes).unwrap();
        }
        // Whether sled notices, starts empty or ends early: the log makes the state whole again.
        let mut replica = Replica::open(dir.path());
        replica.replay().await;
        assert_eq!(replica.state_hash(), hash, "part {part}: {:?}", replica.recovered);
        assert_eq!(replica.state_hash(), replica.hash_of_rows());
    }
}

#[tokio::test]
async fn a_rebuild_starts_from_the_snapshot_when_the_log_begins_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut replica, hash) = filled(dir.path()).await;
    let mut builder = replica.machine.get_snapshot_builder().await;
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(log_id(1, 39)));
    replica.log.purge(log_id(1, 35)).await.unwrap();
    drop(builder);
    replica.crash();
    reopened(dir.path(), "other boot", hash, Some("without a clean stop")).await;
}

#[tokio::test]
async fn a_gap_between_tables_and_log_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (mut replica, _) = filled(dir.path()).await;
    replica.log.purge(log_id(1, 35)).await.unwrap();
    replica.crash();
    let Err(error) = Replica::try_open(dir.path(), "other boot") else {
        panic!("opened with a gap");
    };
    assert!(matches!(error, MachineError::Gap { purged: 35, .. }));
    assert!(error.to_string().contains("sync it from its peers"));
}

#[tokio::test]
async fn a_removed_group_leaves_nothing_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = filled(dir.path()).await;
    replica.engine.remove_group(common::REPLICA).await.unwrap();
    let mut again = replica.engine.group(common::GROUP, common::REPLICA).unwrap();
    assert_eq!(again.get_log_state().await.unwrap().last_log_id, None);
}

#[tokio::test]
async fn the_committed_id_is_saved_by_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let (mut replica, _) = filled(dir.path()).await;
    replica.log.save_committed(Some(log_id(1, 38))).await.unwrap();
    replica.crash();
    let mut again = Replica::open(dir.path());
    assert_eq!(again.log.read_committed().await.unwrap(), Some(log_id(1, 38)));
}
