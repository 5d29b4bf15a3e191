//! What a damaged log file does: a torn tail is cut and remembered, anything else is refused.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use baton_raft_storage::{GroupLog, LogEngine, log_id};
use common::{GROUP, REPLICA, append, entry, small_log};
use openraft::RaftLogReader as _;
use std::path::{Path, PathBuf};

const ENTRIES: u64 = 10;

/// One record per entry, then the newest file with its preallocated zeros.
async fn written(dir: &Path) -> PathBuf {
    let engine = LogEngine::open(dir, small_log()).unwrap();
    let mut group = engine.group(GROUP, REPLICA).unwrap();
    for index in 0..ENTRIES {
        append(
            &mut group,
            vec![entry(log_id(1, index), format!("payload-{index:02}"))],
        )
        .await
        .unwrap();
    }
    drop(group);
    drop(engine);
    std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "raftlog"))
        .max()
        .unwrap()
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).unwrap() + 1
}

fn find(bytes: &[u8], text: &str) -> usize {
    bytes
        .windows(text.len())
        .position(|w| w == text.as_bytes())
        .unwrap()
}

fn flip(path: &Path, at: impl Fn(&[u8]) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

async fn indexes(group: &mut GroupLog) -> Vec<u64> {
    let entries = group.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|e| e.log_id.index).collect()
}

#[tokio::test]
async fn an_undamaged_log_is_not_suspect() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path()).await;
    let engine = LogEngine::open(dir.path(), small_log()).unwrap();
    assert!(!engine.was_cut());
    assert!(!engine.group(GROUP, REPLICA).unwrap().is_suspect());
}

#[tokio::test]
async fn preallocated_zeros_are_no_torn_record() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path()).await;
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.resize(used(&bytes) + 100_000, 0);
    std::fs::write(&file, bytes).unwrap();
    let engine = LogEngine::open(dir.path(), small_log()).unwrap();
    assert!(!engine.was_cut());
    let mut group = engine.group(GROUP, REPLICA).unwrap();
    assert_eq!(indexes(&mut group).await.len() as u64, ENTRIES);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_replica_is_suspect_until_it_has_caught_up() {
    for zeros in [0, 5_000] {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path()).await;
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.truncate(used(&bytes) - 5);
        bytes.resize(bytes.len() + zeros, 0);
        std::fs::write(&file, bytes).unwrap();
        for _ in 0..2 {
            // The second opening finds nothing to cut, and must remember.
            let engine = LogEngine::open(dir.path(), small_log()).unwrap();
            let mut group = engine.group(GROUP, REPLICA).unwrap();
            assert_eq!(indexes(&mut group).await, (0..ENTRIES - 1).collect::<Vec<_>>());
            assert!(engine.was_cut() && group.is_suspect());
        }
        let engine = LogEngine::open(dir.path(), small_log()).unwrap();
        let mut group = engine.group(GROUP, REPLICA).unwrap();
        append(&mut group, vec![entry(log_id(2, ENTRIES - 1), "again")])
            .await
            .unwrap();
        group.clear_suspect().unwrap();
        drop((engine, group));
        let engine = LogEngine::open(dir.path(), small_log()).unwrap();
        let mut group = engine.group(GROUP, REPLICA).unwrap();
        assert!(!engine.was_cut() && !group.is_suspect());
        assert_eq!(indexes(&mut group).await.len() as u64, ENTRIES);
    }
}

#[tokio::test]
async fn a_broken_record_before_the_last_one_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path()).await;
    // Behind payload and its checksum comes the record's index part.
    flip(&file, |bytes| find(bytes, "payload-04") + "payload-04".len() + 6);
    let message = LogEngine::open(dir.path(), small_log()).unwrap_err().to_string();
    assert!(message.contains("damaged"), "{message}");
    assert!(message.contains("sync it from its peers"), "{message}");
    assert!(
        LogEngine::open(dir.path(), small_log()).is_err(),
        "refusing must not repair"
    );
}

#[tokio::test]
async fn a_broken_payload_before_the_last_one_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path()).await;
    flip(&file, |bytes| find(bytes, "payload-04"));
    let engine = LogEngine::open(dir.path(), small_log()).unwrap();
    let mut group = engine.group(GROUP, REPLICA).unwrap();
    assert_eq!(group.try_get_log_entries(0..4).await.unwrap().len(), 4);
    let message = group.try_get_log_entries(0..10).await.unwrap_err().to_string();
    assert!(message.contains("cannot be read"), "{message}");
}
