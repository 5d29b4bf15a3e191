//! Snapshots: whole or not at all.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use baton_raft_storage::{SnapshotError, SnapshotFile, log_id};
use common::{Replica, submits};
use openraft::RaftSnapshotBuilder as _;
use openraft::storage::RaftStateMachine as _;
use std::path::Path;

async fn built(dir: &Path, entries: u64) -> (Replica, SnapshotFile) {
    let mut replica = Replica::open(dir);
    replica.put(submits(1, 0..entries)).await;
    let mut builder = replica.machine.get_snapshot_builder().await;
    let snapshot = builder.build_snapshot().await.unwrap();
    (replica, snapshot.snapshot)
}

/// Transfers in small chunks, breaking off and resuming once.
fn transferred(from: &SnapshotFile, to: &Replica) -> SnapshotFile {
    let store = to.tables.snapshots();
    let mut reader = from.reader().unwrap();
    let id = from.meta().last_log_id.unwrap();
    let open = || store.receiver(id, from.len_bytes()).unwrap();
    let mut receiver = open();
    receiver
        .write_chunk(0, &reader.read_chunk(0, 100).unwrap())
        .unwrap();
    drop(receiver);
    let mut receiver = open();
    assert_eq!(receiver.offset(), 100, "a broken transfer is resumed");
    let gap = reader.read_chunk(200, 10).unwrap();
    assert!(receiver.write_chunk(200, &gap).is_err(), "a gap is refused");
    // A repeated chunk is fine.
    receiver
        .write_chunk(50, &reader.read_chunk(50, 100).unwrap())
        .unwrap();
    while receiver.offset() < from.len_bytes() {
        let chunk = reader.read_chunk(receiver.offset(), 1_000).unwrap();
        receiver.write_chunk(receiver.offset(), &chunk).unwrap();
    }
    receiver.finish().unwrap()
}

#[tokio::test]
async fn a_snapshot_carries_the_whole_state_to_another_replica() {
    let (from_dir, to_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut from, file) = built(from_dir.path(), 60).await;
    // Later applies are not part of it.
    let hash = from.state_hash();
    from.put(submits(1, 60..70)).await;
    let mut to = Replica::open(to_dir.path());
    let received = transferred(&file, &to);
    to.machine.install_snapshot(file.meta(), received).await.unwrap();
    assert_eq!(to.state_hash(), hash);
    assert_eq!(to.tables.applied_index(), 59);
    let current = to.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, *file.meta());
    let rows = to.row_count();
    to.crash();
    // Without any log, the tables are rebuilt from the snapshot.
    let to = Replica::open_as(to_dir.path(), "other boot");
    assert_eq!((to.state_hash(), to.row_count()), (hash, rows));
    assert_eq!(to.recovered.applied_index, 59);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_the_old_state_stays() {
    let (from_dir, to_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_from, file) = built(from_dir.path(), 60).await;
    let good = std::fs::read(file.path()).unwrap();
    let mut to = Replica::open(to_dir.path());
    to.put(submits(1, 0..5)).await;
    let hash = to.state_hash();
    let bad_path = to_dir.path().join("bad");
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&bad_path, &bad).unwrap();
        // Damage of the header shows at once, all other when it is installed.
        if let Ok(bad) = SnapshotFile::open(&bad_path) {
            assert!(
                to.machine.install_snapshot(file.meta(), bad).await.is_err(),
                "byte {at}"
            );
        }
        assert_eq!((to.state_hash(), to.tables.applied_index()), (hash, 4));
    }
    for cut in [1, 20, good.len() / 2] {
        std::fs::write(&bad_path, &good[..good.len() - cut]).unwrap();
        if let Ok(bad) = SnapshotFile::open(&bad_path) {
            assert!(matches!(bad.verify(), Err(SnapshotError::Corrupt { .. })));
        }
    }
    // The replica goes on.
    to.put(submits(1, 5..6)).await;
    assert_eq!(to.tables.applied_index(), 5);
}

#[tokio::test]
async fn a_snapshot_of_another_group_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut replica, file) = built(dir.path(), 5).await;
    let path = dir.path().join("other");
    let mut bytes = std::fs::read(file.path()).unwrap();
    // Header chunk: magic 8, head 9, payload; group id is the field with tag 0x28.
    let payload = 17..17 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let at = payload.start + bytes[payload.clone()].iter().rposition(|b| *b == 0x28).unwrap() + 1;
    bytes[at] = 2;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&[1]), &bytes[payload]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let other = SnapshotFile::open(&path).unwrap();
    let error = replica
        .machine
        .install_snapshot(file.meta(), other)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("belongs to group 2"), "{error}");
}

#[tokio::test]
async fn a_crash_between_the_steps_of_an_install_leaves_the_old_state() {
    let (from_dir, to_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_from, file) = built(from_dir.path(), 60).await;
    let mut to = Replica::open(to_dir.path());
    to.put(submits(1, 0..5)).await;
    to.tables.checkpoint().await.unwrap();
    let hash = to.state_hash();
    to.crash();
    let replica = to_dir.path().join("replica");
    // Half-written new tables, before the state file names them.
    std::fs::create_dir(replica.join("tables-2")).unwrap();
    std::fs::write(replica.join("tables-2/db"), b"half").unwrap();
    let to = Replica::open(to_dir.path());
    assert_eq!(to.recovered.rebuilt_because, None);
    assert_eq!((to.state_hash(), to.tables.applied_index()), (hash, 4));
    assert!(!replica.join("tables-2").exists(), "leftovers are removed");
    to.crash();
    // The snapshot file has arrived in its place, the tables are still the old ones.
    let arrived = replica.join("snapshots").join(file.path().file_name().unwrap());
    std::fs::copy(file.path(), arrived).unwrap();
    let to = Replica::open(to_dir.path());
    assert_eq!((to.state_hash(), to.tables.applied_index()), (hash, 4));
    // openraft installs a snapshot that is newer than the tables when it starts.
    assert_eq!(
        to.tables.snapshots().current().unwrap().meta().last_log_id,
        Some(log_id(1, 59))
    );
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept_and_an_open_one_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut replica, old) = built(dir.path(), 5).await;
    replica.put(submits(1, 5..8)).await;
    let mut builder = replica.machine.get_snapshot_builder().await;
    builder.build_snapshot().await.unwrap();
    assert!(!old.path().exists());
    old.verify().unwrap();
    let files = std::fs::read_dir(dir.path().join("replica/snapshots"))
        .unwrap()
        .count();
    assert_eq!(files, 1);
}
