//! Nothing is acknowledged before a sync that covers it, many writes share one sync, and after a failure nothing is
//! acknowledged at all.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;
#[path = "common/faults.rs"]
mod faults;

use baton_protocol::GroupId;
use baton_raft_storage::{FatalHandler, GroupLog, LogEngine, Vote, log_id};
use common::{append, entry, small_log, submit};
use faults::{Faults, FaultyFileSystem};
use futures::FutureExt as _;
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

struct Log {
    _dir: TempDir,
    engine: LogEngine,
    faults: Arc<Faults>,
    fatal: Arc<Mutex<Vec<String>>>,
}

fn open() -> Log {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let seen = fatal.clone();
    let handler: FatalHandler = Arc::new(move |problem: &str| seen.lock().unwrap().push(problem.into()));
    let file_system = Arc::new(FaultyFileSystem(faults.clone()));
    let engine = LogEngine::open_with(&dir.path().join("log"), small_log(), file_system, handler).unwrap();
    Log {
        _dir: dir,
        engine,
        faults,
        fatal,
    }
}

impl Log {
    fn group(&self, number: u32) -> GroupLog {
        self.engine
            .group(GroupId(number), u64::from(number) + 100)
            .unwrap()
    }
}

#[tokio::test]
async fn writes_of_all_groups_share_syncs_and_none_is_acknowledged_before_one() {
    let log = open();
    let mut groups: Vec<_> = (0..8).map(|n| log.group(n)).collect();
    log.faults.hold();
    let first = submit(&mut groups[0], vec![entry(log_id(1, 0), "first")])
        .await
        .unwrap();
    log.faults.wait_until_held();
    let mut waiting = vec![first];
    for (n, group) in groups.iter_mut().enumerate() {
        for index in u64::from(n == 0)..9 {
            waiting.push(
                submit(group, vec![entry(log_id(1, index), "later")])
                    .await
                    .unwrap(),
            );
        }
        // Readable at once, though nothing is synced.
        assert_eq!(group.try_get_log_entries(0..9).await.unwrap().len(), 9);
        assert_eq!(group.last_log_id(), Some(log_id(1, 8)));
    }
    for flushed in &mut waiting {
        assert!(flushed.now_or_never().is_none(), "acknowledged before its sync");
    }
    let before = log.faults.syncs.load(Ordering::SeqCst);
    log.faults.release();
    let acknowledged = waiting.len();
    for flushed in waiting {
        flushed.await.unwrap().unwrap();
    }
    let syncs = log.faults.syncs.load(Ordering::SeqCst) - before;
    assert_eq!(acknowledged, 72);
    assert_eq!(syncs, 2, "one for the first write, one for all that waited");
    assert_eq!(groups[3].synced_index(), 8);
}

#[tokio::test]
async fn a_vote_is_readable_only_after_its_sync() {
    let log = open();
    let mut group = log.group(1);
    let mut reader = group.clone();
    log.faults.hold();
    let vote = Vote::new(3, 101);
    let saving = tokio::spawn(async move { group.save_vote(&vote).await });
    // Let the task send its write, then see it waiting for the disk.
    while log.faults.try_held().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(reader.read_vote().await.unwrap(), None);
    log.faults.release();
    saving.await.unwrap().unwrap();
    assert_eq!(reader.read_vote().await.unwrap(), Some(vote));
}

#[tokio::test]
async fn a_failed_sync_is_fatal_and_acknowledges_nothing_ever_again() {
    let log = open();
    let mut group = log.group(1);
    append(&mut group, vec![entry(log_id(1, 0), "kept")])
        .await
        .unwrap();
    log.faults.fail_syncs.store(true, Ordering::SeqCst);
    assert!(
        append(&mut group, vec![entry(log_id(1, 1), "lost")])
            .await
            .is_err()
    );
    // The disk recovers; the pages of the failed sync may be gone all the same.
    log.faults.fail_syncs.store(false, Ordering::SeqCst);
    assert!(
        append(&mut group, vec![entry(log_id(1, 2), "late")])
            .await
            .is_err()
    );
    assert!(group.save_vote(&Vote::new(9, 101)).await.is_err());
    assert_eq!(group.synced_index(), 0);
    log.engine.close();
    let fatal = log.fatal.lock().unwrap();
    assert_eq!(fatal.len(), 1);
    assert!(fatal[0].contains("sync"), "{fatal:?}");
}

#[tokio::test]
async fn a_failed_write_is_fatal_and_acknowledges_nothing() {
    let log = open();
    let mut group = log.group(1);
    append(&mut group, vec![entry(log_id(1, 0), "kept")])
        .await
        .unwrap();
    log.faults.fail_writes.store(true, Ordering::SeqCst);
    assert!(
        append(&mut group, vec![entry(log_id(1, 1), "lost")])
            .await
            .is_err()
    );
    assert_eq!(group.synced_index(), 0);
    log.engine.close();
    assert_eq!(log.fatal.lock().unwrap().len(), 1);
}
