//! Replicas that may have lost the end of their log: they elect nobody who lacks it, and nothing waits for ever.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_consensus::Node;
use baton_consensus::peer::{CallBody, ReplyBody};
use baton_protocol::GroupId;
use baton_protocol::proto::internal as pb;
use common::{Cluster, PATIENCE, eventually, read_intent, submit_at};
use std::path::PathBuf;
use std::time::Duration;

const GROUP: GroupId = GroupId(1);
const ALL: [GroupId; 3] = [GroupId(0), GroupId(1), GroupId(2)];

fn log_dir(cluster: &Cluster, ordinal: usize) -> PathBuf {
    cluster.members[ordinal].dir.path().join("log")
}

/// What the engine leaves behind when it cuts a torn record.
fn cut_marker(cluster: &Cluster, ordinal: usize) -> PathBuf {
    log_dir(cluster, ordinal).join("CUT")
}

async fn kill(cluster: &mut Cluster, ordinal: usize) {
    cluster.members[ordinal].handle.take().unwrap().abort().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_that_tears_every_log_does_not_wedge_the_cluster() {
    let mut cluster = Cluster::start(3, 31).await;
    let mut written = Vec::new();
    for n in 0..9 {
        written.push(submit_at(cluster.node((n % 3) as usize), n).await);
    }
    for ordinal in 0..3 {
        kill(&mut cluster, ordinal).await;
        std::fs::write(cut_marker(&cluster, ordinal), b"").unwrap();
    }
    cluster.start_all().await;
    for (route, id, _) in written {
        assert!(read_intent(cluster.node(1), route, id).await.is_some());
    }
    eventually("every replica to be trusted again", || {
        (0..3).all(|n| !cut_marker(&cluster, n).exists()).then_some(())
    })
    .await;
    for group in ALL {
        cluster.assert_converged(group).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_its_log_votes_for_nobody_and_is_synced_again() {
    let mut cluster = Cluster::prepare(3, 32);
    for member in &mut cluster.members {
        member.config.snapshot_log_bytes_min = 1;
    }
    cluster.start_all().await;
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let lost = (leader + 1) % 3;
    let mut written = Vec::new();
    for n in 0..12 {
        written.push(submit_at(cluster.node(leader), n).await);
    }
    cluster.assert_converged(GROUP).await;
    eventually("the log to begin behind a snapshot", || {
        cluster
            .running()
            .all(|n| n.status().group(GROUP).unwrap().snapshot > 0)
            .then_some(())
    })
    .await;
    kill(&mut cluster, lost).await;
    std::fs::remove_dir_all(cluster.members[lost].dir.path().join("replicas")).unwrap();
    // The leader goes on believing that this replica has everything.
    std::fs::remove_dir_all(log_dir(&cluster, lost)).unwrap();
    let address = cluster.address(lost).to_owned();
    let start = tokio::spawn(Node::start(cluster.members[lost].config.clone()));
    let handle = tokio::time::timeout(PATIENCE, start).await.expect("synced again");
    cluster.members[lost].handle = Some(handle.unwrap().unwrap());
    for (route, id, _) in &written {
        assert!(read_intent(cluster.node(lost), *route, *id).await.is_some());
    }
    eventually("the replica to be trusted again", || {
        (!cut_marker(&cluster, lost).exists()).then_some(())
    })
    .await;
    for group in ALL {
        cluster.assert_converged(group).await;
    }
    // Once more, and this time nobody is there to sync it: a stranger with a long log gets no vote.
    for ordinal in 0..3 {
        kill(&mut cluster, ordinal).await;
    }
    std::fs::remove_dir_all(log_dir(&cluster, lost)).unwrap();
    let start = tokio::spawn(Node::start(cluster.members[lost].config.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = (lost + 1) % 3;
    let replica = |node: usize| (node as u64) * 3 + u64::from(GROUP.0) + 1;
    let header = pb::PeerHeader {
        cluster_id: cluster_id(&cluster, other),
        sender_node: other as u64 + 1,
        receiver_node: lost as u64 + 1,
        group: Some(pb::PeerGroup {
            group_id: GROUP.0,
            sender_replica: replica(other),
            receiver_replica: replica(lost),
        }),
        stream_header: bytes::Bytes::new(),
    };
    let vote = CallBody::Vote(pb::PeerVoteRequest {
        vote: Some(pb::Vote {
            term: 1_000,
            replica_id: replica(other),
            committed: false,
        }),
        last_log_id: Some(pb::LogId { term: 1, index: 1 }),
        leadership_transfer: false,
    });
    let client = cluster.network.transport("stranger:1").connect(&address);
    let answer = client.call(&header, vote, Duration::from_secs(2)).await;
    assert!(
        !matches!(&answer, Ok(ReplyBody::Vote(reply)) if reply.granted),
        "{answer:?}"
    );
    assert!(answer.is_err_and(|e| e.kind() == Some(pb::peer_failure::Kind::Unavailable)));
    // The two others are a majority with whole logs.
    let whole: Vec<usize> = (0..3).filter(|o| *o != lost).collect();
    let starts = whole
        .iter()
        .map(|o| Node::start(cluster.members[*o].config.clone()));
    let started = tokio::time::timeout(PATIENCE, futures::future::join_all(starts)).await;
    for (ordinal, handle) in whole.iter().zip(started.expect("a majority is whole")) {
        cluster.members[*ordinal].handle = Some(handle.unwrap());
    }
    let handle = tokio::time::timeout(PATIENCE, start).await.expect("synced again");
    cluster.members[lost].handle = Some(handle.unwrap().unwrap());
    for (route, id, _) in written {
        assert!(read_intent(cluster.node(lost), route, id).await.is_some());
    }
    cluster.stop().await;
}

fn cluster_id(cluster: &Cluster, ordinal: usize) -> bytes::Bytes {
    let dir = baton_raft_storage::DataDir::open(cluster.members[ordinal].dir.path()).unwrap();
    dir.stamp().unwrap().cluster_id.clone()
}

/// Recovery must not wait for a moment in which nothing is uncommitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_under_load_becomes_ready() {
    let mut cluster = Cluster::start(3, 33).await;
    cluster.network.delay_ms(5, 15);
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let other = (leader + 1) % 3;
    // An open loop: something is always under way.
    let load = {
        let node = cluster.node(leader).clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            for n in 0.. {
                ticks.tick().await;
                let (route, _, body) = common::submit(n);
                let node = node.clone();
                tokio::spawn(async move { node.propose(route, body).await });
            }
        })
    };
    kill(&mut cluster, other).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = tokio::time::timeout(
        Duration::from_secs(15),
        Node::start(cluster.members[other].config.clone()),
    )
    .await;
    load.abort();
    cluster.members[other].handle = Some(started.expect("ready under load").unwrap());
    cluster.assert_converged(GROUP).await;
    cluster.stop().await;
}
