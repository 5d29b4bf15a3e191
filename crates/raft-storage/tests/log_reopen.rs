//! What the log holds after truncations, purges and evictions, before and after reopening.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use baton_protocol::GroupId;
use baton_raft_storage::{Entry, GroupLog, LogEngine, LogId, LogOptions, Vote, log_id};
use common::{append, entry, small_log, submit};
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use std::path::Path;

fn group(engine: &LogEngine, number: u32) -> GroupLog {
    engine.group(GroupId(number), 100 + u64::from(number)).unwrap()
}

fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes
        .map(|index| entry(log_id(term, index), format!("{term}-{index}")))
        .collect()
}

async fn ids(log: &mut GroupLog) -> Vec<LogId> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|e| e.log_id).collect()
}

fn range(term: u64, indexes: std::ops::Range<u64>) -> Vec<LogId> {
    indexes.map(|index| log_id(term, index)).collect()
}

/// Runs `change` on a log of entries 0..10, then checks ids before and after reopening.
async fn expect(dir: &Path, change: impl AsyncFnOnce(&mut GroupLog), expected: &[LogId]) -> GroupLog {
    let engine = LogEngine::open(dir, small_log()).unwrap();
    let mut log = group(&engine, 1);
    append(&mut log, entries(1, 0..10)).await.unwrap();
    change(&mut log).await;
    assert_eq!(ids(&mut log).await, expected);
    let state = log.get_log_state().await.unwrap();
    engine.close();
    drop((engine, log));
    let engine = LogEngine::open(dir, small_log()).unwrap();
    let mut log = group(&engine, 1);
    assert_eq!(ids(&mut log).await, expected, "after reopening");
    assert_eq!(log.get_log_state().await.unwrap(), state);
    log
}

#[tokio::test]
async fn entries_appended_behind_a_truncation_replace_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let change = async |log: &mut GroupLog| {
        log.truncate_after(Some(log_id(1, 4))).await.unwrap();
        assert_eq!(log.last_log_id(), Some(log_id(1, 4)));
        append(log, entries(2, 5..7)).await.unwrap();
    };
    let expected = [range(1, 0..5), range(2, 5..7)].concat();
    expect(dir.path(), change, &expected).await;
}

#[tokio::test]
async fn a_log_behind_an_installed_snapshot_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let change = async |log: &mut GroupLog| {
        log.purge(log_id(3, 50)).await.unwrap();
        assert_eq!(log.last_log_id(), Some(log_id(3, 50)));
        append(log, entries(3, 51..53)).await.unwrap();
    };
    let mut log = expect(dir.path(), change, &range(3, 51..53)).await;
    append(&mut log, entries(3, 53..54)).await.unwrap();
}

#[tokio::test]
async fn a_truncated_suffix_does_not_return_behind_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let change = async |log: &mut GroupLog| {
        // The engine still has 3..10 of term 1 on disk.
        log.truncate_after(Some(log_id(1, 2))).await.unwrap();
        log.purge(log_id(2, 6)).await.unwrap();
        // Any later sync writes it out.
        log.save_vote(&Vote::new(2, 101)).await.unwrap();
    };
    let mut log = expect(dir.path(), change, &[]).await;
    assert_eq!(log.last_log_id(), Some(log_id(2, 6)));
    append(&mut log, entries(2, 7..9)).await.unwrap();
    assert_eq!(ids(&mut log).await, range(2, 7..9));
}

#[tokio::test]
async fn a_purge_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let change = async |log: &mut GroupLog| {
        log.purge(log_id(1, 3)).await.unwrap();
        log.purge(log_id(1, 2)).await.unwrap();
        append(log, entries(1, 10..11)).await.unwrap();
    };
    expect(dir.path(), change, &range(1, 4..11)).await;
}

#[tokio::test]
async fn the_vote_survives() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote::new_committed(4, 101);
    let change = async |log: &mut GroupLog| log.save_vote(&vote).await.unwrap();
    let mut log = expect(dir.path(), change, &range(1, 0..10)).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
}

#[tokio::test]
async fn reads_join_disk_and_memory_under_a_small_cache() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        cache_bytes_max: 1_000,
        ..small_log()
    };
    let engine = LogEngine::open(dir.path(), options).unwrap();
    let mut logs = [group(&engine, 1), group(&engine, 2)];
    for index in 0..60 {
        for log in &mut logs {
            append(log, entries(1, index..index + 1)).await.unwrap();
        }
    }
    for log in &mut logs {
        // Some not flushed yet, some recent, most only on disk.
        let flushed = submit(log, entries(1, 60..70)).await.unwrap();
        for start in [0, 30, 58, 61, 69] {
            let read = log.try_get_log_entries(start..70).await.unwrap();
            assert_eq!(read, entries(1, start..70));
            let limited = log.limited_get_log_entries(start, 70).await.unwrap();
            assert!(!limited.is_empty() && entries(1, start..70).starts_with(&limited));
        }
        flushed.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn groups_that_hold_old_files_are_named_until_they_are_purged() {
    let dir = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(dir.path(), small_log()).unwrap();
    let (mut busy, mut idle) = (group(&engine, 1), group(&engine, 2));
    for index in 0..40 {
        append(&mut idle, vec![entry(log_id(1, index), vec![2; 1_000])])
            .await
            .unwrap();
    }
    let mut last = None;
    let mut named = Vec::new();
    for index in 0..200 {
        let id = log_id(1, index);
        append(&mut busy, vec![entry(id, vec![1; 20_000])]).await.unwrap();
        if index % 20 == 19 {
            busy.purge(id).await.unwrap();
            last = Some(id);
            named.extend(engine.purge_files().unwrap());
        }
    }
    assert_eq!(busy.purged(), last);
    assert!(named.contains(&102), "the idle group holds old files: {named:?}");
    assert_eq!(engine.replicas_holding_old_files(), engine.purge_files().unwrap());
    // Its entries are still there.
    assert_eq!(ids(&mut idle).await, range(1, 0..40));
    // Snapshotted and purged, it lets go of them.
    idle.purge(log_id(1, 39)).await.unwrap();
    append(&mut idle, vec![entry(log_id(1, 40), "new")])
        .await
        .unwrap();
    assert!(engine.purge_files().unwrap().is_empty());
    let size: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 2 << 20, "4 MB were written, {size} bytes are kept");
}

#[tokio::test]
async fn the_size_of_the_log_is_known_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(dir.path(), small_log()).unwrap();
    let mut log = group(&engine, 1);
    for index in 0..200 {
        let big = entry(log_id(1, index), "x".repeat(1_000));
        append(&mut log, vec![big]).await.unwrap();
    }
    let before = log.log_bytes();
    assert!(before >= 200_000);
    engine.close();
    drop((engine, log));
    let engine = LogEngine::open(dir.path(), small_log()).unwrap();
    let mut log = group(&engine, 1);
    let after = log.log_bytes();
    assert!(
        before.abs_diff(after) < before / 10,
        "{before} before, {after} after"
    );
    log.purge(log_id(1, 199)).await.unwrap();
    assert_eq!(log.log_bytes(), 0);
}
