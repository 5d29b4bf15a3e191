//! Three whole nodes over a network that breaks.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_consensus::RaftTiming;
use baton_protocol::{ErrorCode, GroupId};
use common::{Cluster, PATIENCE, eventually, read_intent, stats, submit, submit_at, submitted};
use std::collections::HashSet;
use std::time::Duration;

const GROUP: GroupId = GroupId(1);

/// A number whose intent lives in `GROUP`.
fn number_in_group(cluster: &Cluster, from: u64) -> u64 {
    let map = cluster.node(0).group_map();
    (from..from + 1_000)
        .find(|n| submit(*n).0.group(map) == GROUP)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_can_be_asked_anything() {
    let cluster = Cluster::start(3, 1).await;
    for n in 0..12 {
        let (route, id, _) = submit_at(cluster.node((n % 3) as usize), n).await;
        // ReadIndex: every node sees what any node has acknowledged.
        for reader in 0..3 {
            assert!(
                read_intent(cluster.node(reader), route, id).await.is_some(),
                "intent {n} at {reader}"
            );
        }
    }
    cluster.assert_converged(GROUP).await;
    cluster.assert_converged(GroupId(0)).await;
    eventually("meta to be fresh everywhere", || {
        cluster.running().all(|n| n.meta_fresh()).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_moves_a_leader_to_any_node() {
    let cluster = Cluster::start(3, 12).await;
    for asked in 0..3 {
        let node = cluster.node(asked);
        let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
        for target in [(leader + 1) % 3, (leader + 2) % 3] {
            let to = cluster.node(target).node_id();
            let term = || node.leadership(GROUP).unwrap().borrow().term;
            let before = term();
            // The nodes spread their leaders by themselves meanwhile, and one of two transfers at a time wins.
            let moved = async {
                while let Err(error) = node.transfer_leader(GROUP, to).await {
                    assert_eq!(error.code, ErrorCode::Timeout, "{error}");
                }
            };
            tokio::time::timeout(PATIENCE, moved).await.unwrap();
            assert!(term() > before, "node {asked} knows of the new leader");
        }
        let unknown = node.transfer_leader(GROUP, 99).await.unwrap_err();
        assert_eq!(unknown.code, ErrorCode::NotFound);
    }
    // A target that hears nothing does not take over, and the one that asked is told.
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let (asked, deaf) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.network.isolate(cluster.address(deaf));
    let to = cluster.node(deaf).node_id();
    let refused = cluster.node(asked).transfer_leader(GROUP, to).await.unwrap_err();
    assert!(
        matches!(refused.code, ErrorCode::Timeout | ErrorCode::Unavailable),
        "{refused:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_leaders_are_cut_off() {
    let cluster = Cluster::start(3, 2).await;
    cluster.network.delay_ms(0, 5);
    let mut acknowledged = Vec::new();
    for round in 0..3u64 {
        let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
        let writes = (0..40u64).map(|i| {
            let n = round * 1_000 + i;
            let node = cluster.node((i % 3) as usize).clone();
            tokio::spawn(async move {
                let (route, id, body) = submit(n);
                tokio::time::sleep(Duration::from_millis(i * 5)).await;
                node.propose(route, body).await.ok().map(|_| (route, id))
            })
        });
        let writes: Vec<_> = writes.collect();
        tokio::time::sleep(Duration::from_millis(60)).await;
        cluster.network.isolate(cluster.address(leader));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        cluster.network.heal();
        for write in writes {
            acknowledged.extend(write.await.unwrap());
        }
    }
    assert!(
        acknowledged.len() >= 100,
        "only {} of 120 writes succeeded",
        acknowledged.len()
    );
    for group in [GroupId(1), GroupId(2)] {
        cluster.assert_converged(group).await;
    }
    for (route, id) in acknowledged {
        for node in cluster.running() {
            assert!(read_intent(node, route, id).await.is_some(), "{id} is lost");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_commit_takes_effect_once() {
    let cluster = Cluster::start(3, 3).await;
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let n = number_in_group(&cluster, 0);
    let before = stats(cluster.node(leader), GROUP).intents;
    // Appends reach the followers, their answers do not come back: the entry is everywhere and not committed.
    for other in (0..3).filter(|o| *o != leader) {
        cluster
            .network
            .partition(cluster.address(other), cluster.address(leader));
    }
    let (route, id, body) = submit(n);
    let patient = {
        let (node, body) = (cluster.node(leader).clone(), body.clone());
        tokio::spawn(async move { node.propose(route, body).await })
    };
    let gave_up = tokio::time::timeout(
        Duration::from_millis(300),
        cluster.node(leader).propose(route, body.clone()),
    )
    .await;
    assert!(
        gave_up.is_err(),
        "no majority answered, yet the command was acknowledged"
    );
    cluster.network.heal();
    let first = submitted(patient.await.unwrap().unwrap());
    // The client that gave up asks again, as another command for the same intent.
    let again = submitted(cluster.node((leader + 1) % 3).propose(route, body).await.unwrap());
    assert_eq!(
        (first.intent_id, first.created_at_ms),
        (again.intent_id, again.created_at_ms)
    );
    cluster.assert_converged(GROUP).await;
    assert_eq!(stats(cluster.node(leader), GROUP).intents, before + 1);
    assert_eq!(
        read_intent(cluster.node(leader), route, id)
            .await
            .unwrap()
            .last_seq,
        3
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_serves_no_reads_and_may_not_act() {
    let cluster = Cluster::start(3, 4).await;
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let (route, id, _) = submit_at(cluster.node(leader), number_in_group(&cluster, 0)).await;
    cluster.network.isolate(cluster.address(leader));
    let others: Vec<usize> = (0..3).filter(|o| *o != leader).collect();
    let node = cluster.node(leader);
    eventually("the old leader to lose its right to act", || {
        node.led_term(GROUP).is_none().then_some(())
    })
    .await;
    assert!(
        node.confirm_read(route).await.is_err(),
        "a leader without majority confirmed a read"
    );
    eventually("meta to go stale", || (!node.meta_fresh()).then_some(())).await;
    let next = cluster.leader_of(GROUP, &others).await;
    assert!(read_intent(cluster.node(next), route, id).await.is_some());
    cluster.network.heal();
    cluster.assert_converged(GROUP).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_moves_no_deadline_and_does_not_lead() {
    for (seed, ordinal, offset_ms) in [(5, 0, 3_600_000), (6, 2, -3_600_000)] {
        let mut cluster = Cluster::prepare(3, seed);
        let clock = &cluster.members[ordinal].clock;
        clock
            .wall_offset_ms
            .store(offset_ms, std::sync::atomic::Ordering::Relaxed);
        cluster.start_all().await;
        let good = (0..3).find(|o| *o != ordinal).unwrap();
        let all_moved = || {
            let status = cluster.node(ordinal).status();
            let leads = status
                .groups
                .iter()
                .any(|g| g.am_leader || g.leader_node.is_none());
            (!status.may_lead && !leads).then_some(())
        };
        eventually("the wrong clock to lead nothing", all_moved).await;
        for n in 0..6 {
            let (_, _, reply) = submit_at(cluster.node((n % 3) as usize), n).await;
            let wall = baton_consensus::Clock::wall_ms(cluster.members[good].clock.as_ref());
            let off = reply.created_at_ms.abs_diff(wall);
            assert!(off < 2_000, "log time is {off} ms from the good clocks");
        }
        assert_eq!(cluster.node(ordinal).led_term(GROUP), None);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_hands_leadership_over() {
    let mut cluster = Cluster::prepare(3, 7);
    // Without hand-over, the next leader would need more than twelve seconds.
    cluster.timing(RaftTiming {
        election_min_ms: 6_000,
        election_max_ms: 8_000,
        ..RaftTiming::default()
    });
    cluster.start_all().await;
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let others: Vec<usize> = (0..3).filter(|o| *o != leader).collect();
    eventually("peers that may take over", || {
        let caught_up = others.iter().all(|o| {
            let status = cluster.node(*o).status();
            status.may_lead && status.groups.iter().all(|g| g.applied > 0)
        });
        caught_up.then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let n = number_in_group(&cluster, 0);
    cluster.members[leader].handle.take().unwrap().shutdown().await;
    let next = tokio::time::timeout(Duration::from_secs(5), cluster.leader_of(GROUP, &others)).await;
    assert!(next.is_ok(), "nobody took over before an election timeout");
    submit_at(cluster.node(others[0]), n).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_spread_over_the_nodes() {
    let cluster = Cluster::start(3, 8).await;
    // Three groups, three nodes: each leads one.
    eventually("each node to lead one group", || {
        let leaders: HashSet<_> = cluster
            .running()
            .flat_map(|n| {
                n.status()
                    .groups
                    .into_iter()
                    .filter(|g| g.am_leader)
                    .map(move |_| n.node_id())
            })
            .collect();
        (leaders.len() == 3).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_proposes_as_leader() {
    let cluster = Cluster::start(3, 9).await;
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let (_, _, body) = submit(number_in_group(&cluster, 0));
    let error = cluster
        .node((leader + 1) % 3)
        .propose_as_leader(GROUP, body.clone())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotLeader);
    let mut entries = cluster.node((leader + 2) % 3).subscribe_applied(GROUP).unwrap();
    cluster.node(leader).propose_as_leader(GROUP, body).await.unwrap();
    let entry = tokio::time::timeout(PATIENCE, entries.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((entry.group, entry.applied.effects.len()), (GROUP, 1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_survives_a_restart_of_all_nodes() {
    let mut cluster = Cluster::start(3, 10).await;
    let mut written = Vec::new();
    for n in 0..10 {
        written.push(submit_at(cluster.node((n % 3) as usize), n).await);
    }
    cluster.members[0].handle.take().unwrap().shutdown().await;
    for ordinal in [1, 2] {
        cluster.members[ordinal].handle.take().unwrap().abort().await;
    }
    cluster.start_all().await;
    for (route, id, _) in written {
        assert!(read_intent(cluster.node(1), route, id).await.is_some());
    }
    for group in [GroupId(0), GroupId(1), GroupId(2)] {
        cluster.assert_converged(group).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_cluster_too() {
    let mut cluster = Cluster::start(1, 11).await;
    let (route, id, _) = submit_at(cluster.node(0), 1).await;
    assert!(read_intent(cluster.node(0), route, id).await.is_some());
    let group = route.group(cluster.node(0).group_map());
    assert!(cluster.node(0).led_term(group).is_some());
    cluster.members[0].handle.take().unwrap().shutdown().await;
    cluster.restart(0).await;
    assert!(read_intent(cluster.node(0), route, id).await.is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_gives_way() {
    let cluster = Cluster::start(3, 12).await;
    let leader = cluster.leader_of(GROUP, &[0, 1, 2]).await;
    let others: Vec<usize> = (0..3).filter(|o| *o != leader).collect();
    let n = number_in_group(&cluster, 0);
    // Its heartbeats arrive, answers do not come back.
    for other in &others {
        cluster
            .network
            .partition(cluster.address(*other), cluster.address(leader));
    }
    cluster.leader_of(GROUP, &others).await;
    submit_at(cluster.node(others[0]), n).await;
    cluster.network.heal();
    cluster.assert_converged(GROUP).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::prepare(3, 13);
    for member in &mut cluster.members {
        member.config.snapshot_log_bytes_min = 32 * 1024;
    }
    cluster.start_all().await;
    submit_at(cluster.node(0), 1).await;
    cluster.members[2].handle.take().unwrap().abort().await;
    let mut ids = Vec::new();
    let mut n = 10;
    let snapshots = |cluster: &Cluster| {
        let covered = |o: usize| {
            cluster
                .node(o)
                .status()
                .group(GROUP)
                .is_some_and(|g| g.snapshot > 50)
        };
        covered(0) && covered(1)
    };
    while !snapshots(&cluster) {
        let batch = (n..n + 50).map(|n| submit_at(cluster.node((n % 2) as usize), n));
        ids.extend(futures::future::join_all(batch).await);
        n += 50;
        assert!(n < 100_000, "no snapshot was taken");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.restart(2).await;
    cluster.assert_converged(GROUP).await;
    assert!(
        cluster.node(2).status().group(GROUP).unwrap().snapshot > 50,
        "caught up without a snapshot"
    );
    for (route, id, _) in ids {
        assert!(read_intent(cluster.node(2), route, id).await.is_some());
    }
    cluster.stop().await;
}
