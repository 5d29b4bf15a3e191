//! Disks that run full: writes go on where a majority has room, are refused where none has, and reads always go on.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_consensus::ConsensusHandle;
use baton_consensus::config::DISK_FREE_MIN_BYTES;
use baton_protocol::{ErrorCode, GroupId, ServiceError};
use common::{Cluster, eventually, read_intent, stats, submit, submit_at};
use std::sync::atomic::Ordering;
use std::time::Duration;

const GROUPS: [GroupId; 3] = [GroupId(0), GroupId(1), GroupId(2)];
const LOW: u64 = DISK_FREE_MIN_BYTES - 1;

fn set_free(cluster: &Cluster, ordinal: usize, bytes: u64) {
    cluster.members[ordinal].disk.0.store(bytes, Ordering::Relaxed);
}

async fn try_submit(node: &ConsensusHandle, n: u64) -> Result<(), ServiceError> {
    let (route, _, body) = submit(n);
    node.propose(route, body).await.map(drop)
}

/// Submits new intents at `node` until the answer is what `wanted` says.
async fn submit_until(
    node: &ConsensusHandle,
    from: u64,
    wanted: impl Fn(&Result<(), ServiceError>) -> bool,
) -> u64 {
    let tries = async {
        for n in from.. {
            if wanted(&try_submit(node, n).await) {
                return n + 1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("numbers do not end")
    };
    tokio::time::timeout(common::PATIENCE, tries)
        .await
        .expect("the other answer never came")
}

fn refused(answer: &Result<(), ServiceError>) -> bool {
    answer
        .as_ref()
        .is_err_and(|e| e.code == ErrorCode::DiskLow && e.code.retryable())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_gives_its_groups_away_and_writes_go_on() {
    let cluster = Cluster::start(3, 51).await;
    let full = cluster.leader_of(GROUPS[1], &[0, 1, 2]).await;
    set_free(&cluster, full, LOW);
    let gone = || {
        let status = cluster.node(full).status();
        let leads = status.groups.iter().any(|g| g.am_leader);
        (status.disk_low && !leads).then_some(())
    };
    eventually("the full node to lead nothing", gone).await;
    for n in 0..12 {
        submit_at(cluster.node((n % 3) as usize), n).await;
    }
    // It still takes entries from its reserve.
    for group in GROUPS {
        cluster.assert_converged(group).await;
    }
    gone().expect("a full node took a group back");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_on_a_majority_writes_are_refused_and_reads_go_on() {
    let cluster = Cluster::start(3, 52).await;
    let (route, id, _) = submit_at(cluster.node(0), 0).await;
    for ordinal in [0, 1] {
        set_free(&cluster, ordinal, LOW);
    }
    let mut n = 1;
    for ordinal in 0..3 {
        n = submit_until(cluster.node(ordinal), n, refused).await;
    }
    let intents = || GROUPS.map(|group| stats(cluster.node(2), group).intents);
    let before = intents();
    for ordinal in 0..3 {
        for _ in 0..8 {
            assert!(refused(&try_submit(cluster.node(ordinal), n).await));
            n += 1;
        }
        assert!(read_intent(cluster.node(ordinal), route, id).await.is_some());
    }
    assert_eq!(before, intents(), "a refused write took effect");
    set_free(&cluster, 1, u64::MAX);
    submit_until(cluster.node(0), n, Result::is_ok).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_used_its_reserve_takes_no_entries_and_catches_up_later() {
    let cluster = Cluster::start(3, 53).await;
    let full = 2;
    set_free(&cluster, full, 0);
    let status = || cluster.node(full).status();
    eventually("the full node to notice and to lead nothing", || {
        let status = status();
        let leads = status.groups.iter().any(|g| g.am_leader);
        (status.disk_low && !leads).then_some(())
    })
    .await;
    let intents = || GROUPS.map(|group| stats(cluster.node(full), group).intents);
    let mut written = Vec::new();
    for n in 0..40 {
        written.push(submit_at(cluster.node((n % 2) as usize), n).await);
    }
    assert_eq!(intents(), [0; GROUPS.len()], "a full disk took entries");
    set_free(&cluster, full, u64::MAX);
    for group in GROUPS {
        cluster.assert_converged(group).await;
    }
    for (route, id, _) in written {
        assert!(read_intent(cluster.node(full), route, id).await.is_some());
    }
    cluster.stop().await;
}
