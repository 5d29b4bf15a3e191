//! Who may talk to whom, and what an empty directory is.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_consensus::peer::{CallBody, PeerClient, PeerError, ReplyBody};
use baton_consensus::{ConsensusHandle, Node, StartError};
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, Route};
use common::{Cluster, PATIENCE, submit_at};
use pb::peer_failure::Kind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;

const CALL: Duration = Duration::from_secs(2);
const GROUP: GroupId = GroupId(1);

fn replica(node: &ConsensusHandle, of_node: u64) -> u64 {
    let members = node.members();
    let member = members.iter().find(|m| m.node_id == of_node).unwrap();
    member
        .replicas
        .iter()
        .find(|r| r.group_id == GROUP.0)
        .unwrap()
        .replica_id
}

/// A correct header from node 2 to node 1, and the way there.
fn from_two_to_one(cluster: &Cluster) -> (pb::PeerHeader, Arc<dyn PeerClient>) {
    let node = cluster.node(0);
    let header = pb::PeerHeader {
        cluster_id: node.cluster_id(),
        sender_node: 2,
        receiver_node: 1,
        group: Some(pb::PeerGroup {
            group_id: GROUP.0,
            sender_replica: replica(node, 2),
            receiver_replica: replica(node, 1),
        }),
        stream_header: bytes::Bytes::new(),
    };
    let client = cluster
        .network
        .transport("intruder:1")
        .connect(&cluster.address(0).to_owned());
    (header, client)
}

fn vote_request(term: u64, replica_id: u64, leadership_transfer: bool) -> CallBody {
    CallBody::Vote(pb::PeerVoteRequest {
        vote: Some(pb::Vote {
            term,
            replica_id,
            committed: false,
        }),
        last_log_id: Some(pb::LogId {
            term: term - 1,
            index: 1_000_000,
        }),
        leadership_transfer,
    })
}

fn kind(result: Result<ReplyBody, PeerError>) -> Option<Kind> {
    result.err().and_then(|e| e.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_header_is_refused_before_raft_sees_it() {
    let cluster = Cluster::start(3, 21).await;
    let (right, client) = from_two_to_one(&cluster);
    let wrong = |change: &dyn Fn(&mut pb::PeerHeader)| {
        let mut header = right.clone();
        change(&mut header);
        header
    };
    let headers = [
        wrong(&|h| h.cluster_id = bytes::Bytes::from_static(b"another cluster!")),
        wrong(&|h| h.receiver_node = 3),
        wrong(&|h| h.sender_node = 1),
        wrong(&|h| h.sender_node = 9),
        wrong(&|h| h.group.as_mut().unwrap().receiver_replica += 1),
        wrong(&|h| h.group.as_mut().unwrap().sender_replica += 1),
        wrong(&|h| h.group.as_mut().unwrap().group_id = 77),
    ];
    let term = || cluster.node(0).status().group(GROUP).unwrap().term;
    let before = term();
    for header in headers {
        let called = client.call(&header, vote_request(1_000, 2, true), CALL).await;
        assert_eq!(kind(called), Some(Kind::Identity), "{header:?}");
        let streamed = client
            .append_stream(header.clone(), Box::pin(futures::stream::empty()))
            .await;
        assert_eq!(
            streamed.err().and_then(|e| e.kind()),
            Some(Kind::Identity),
            "{header:?}"
        );
    }
    assert_eq!(term(), before, "a refused vote changed the term");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_has_just_started_grants_only_transfers() {
    let mut cluster = Cluster::start(3, 22).await;
    cluster.leader_of(GROUP, &[0, 1, 2]).await;
    cluster.members[0].handle.take().unwrap().abort().await;
    // Its own time stands still: it stays just started.
    cluster.members[0].clock.frozen.store(true, Ordering::Relaxed);
    cluster.restart(0).await;
    let (header, client) = from_two_to_one(&cluster);
    let sender = header.group.unwrap().sender_replica;
    let refused = client
        .call(&header, vote_request(1_000, sender, false), CALL)
        .await;
    assert_eq!(kind(refused), Some(Kind::Unavailable));
    let CallBody::Vote(request) = vote_request(1_000, sender, false) else {
        unreachable!()
    };
    let pre_vote = CallBody::PreVote(request);
    assert_eq!(
        kind(client.call(&header, pre_vote, CALL).await),
        Some(Kind::Unavailable)
    );
    let transfer = client
        .call(&header, vote_request(1_000, sender, true), CALL)
        .await;
    assert!(matches!(transfer, Ok(ReplyBody::Vote(reply)) if reply.granted));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cluster_without_its_first_command_and_the_next_start_makes_it() {
    let mut cluster = Cluster::prepare(1, 24);
    let good = cluster.members[0].config.bootstrap.clone();
    cluster.members[0].config.bootstrap = Arc::new(|_, _| Err("cannot write the key".into()));
    let start = Node::start(cluster.members[0].config.clone());
    let refused = tokio::time::timeout(PATIENCE, start).await.unwrap().unwrap_err();
    assert!(
        matches!(&refused, StartError::Bootstrap(reason) if reason == "cannot write the key"),
        "{refused}"
    );
    cluster.members[0].config.bootstrap = good;
    cluster.restart(0).await;
    let get = |body| pb::Query {
        actor: None,
        body: Some(body),
    };
    let node = cluster.node(0);
    let secret = get(pb::query::Body::GetTokenSecret(pb::GetTokenSecret {}));
    let secret = node.read(Route::Meta, secret).await.unwrap().outcome;
    let Some(pb::query_reply::Outcome::TokenSecret(secret)) = secret else {
        panic!("{secret:?}")
    };
    assert_eq!(secret.len(), 32);
    assert_ne!(secret, bytes::Bytes::from_static(&[0; 32]));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_answer_are_counted() {
    let mut cluster = Cluster::start(3, 25).await;
    let counted = |cluster: &Cluster, nodes| (cluster.node(0).live_nodes() == nodes).then_some(());
    common::eventually("three live nodes", || counted(&cluster, 3)).await;
    cluster.members[2].handle.take().unwrap().shutdown().await;
    common::eventually("two live nodes", || counted(&cluster, 2)).await;
    cluster.restart(2).await;
    common::eventually("three live nodes again", || counted(&cluster, 3)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_directory_is_not_its_former_self() {
    let mut cluster = Cluster::start(3, 23).await;
    submit_at(cluster.node(0), 1).await;
    for ordinal in [2, 0] {
        cluster.members[ordinal].handle.take().unwrap().shutdown().await;
        let empty = TempDir::new().unwrap();
        let mut config = cluster.members[ordinal].config.clone();
        config.data_dir = empty.path().to_path_buf();
        let address = cluster.address(ordinal).to_owned();
        let start = tokio::spawn(Node::start(config));
        // It listens, has no identity, and refuses to act as its former self.
        let client = cluster.network.transport("observer:1").connect(&address);
        let probe = async {
            loop {
                if let Ok(reply) = client.probe(pb::ProbeRequest::default()).await {
                    return reply;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reply = tokio::time::timeout(PATIENCE, probe).await.unwrap();
        assert!(reply.cluster_id.is_empty());
        let header = pb::PeerHeader {
            cluster_id: cluster.node(1).cluster_id(),
            sender_node: 2,
            receiver_node: ordinal as u64 + 1,
            group: None,
            stream_header: bytes::Bytes::new(),
        };
        let called = client
            .call(&header, CallBody::Time(pb::TimeExchange::default()), CALL)
            .await;
        assert!(called.is_err());
        // The others go on without it, and it neither joins nor founds a second cluster.
        submit_at(cluster.node(1), 100 + ordinal as u64).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!start.is_finished());
        start.abort();
        let _ = start.await;
        // Its thread notices and leaves the network before the address is used again.
        common::eventually("the wiped node to leave", || empty.path().exists().then_some(())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.restart(ordinal).await;
    }
    cluster.assert_converged(GROUP).await;
    cluster.stop().await;
}
