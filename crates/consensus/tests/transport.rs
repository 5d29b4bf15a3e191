//! The HTTP/2 transport on loopback.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

mod common;

use baton_consensus::peer::{
    AppendInput, AppendOutput, CallBody, FrameStream, PeerError, PeerService, ReplyBody, SnapshotInput,
};
use baton_consensus::{Node, PeerTls, StreamHandler, TonicTransport, Transport};
use baton_protocol::proto::internal as pb;
use baton_protocol::{GroupId, ServiceError};
use bytes::Bytes;
use common::{Cluster, PATIENCE, TestClock, config, eventually, read_intent, submit, submit_at};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn free_addresses(count: usize) -> Vec<String> {
    let held: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    held.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

/// Sends every frame back.
struct Echo;

impl StreamHandler for Echo {
    fn accept(
        &self,
        _peer_node: u64,
        _group: GroupId,
        header: Bytes,
        (out, mut frames): FrameStream,
    ) -> Result<(), ServiceError> {
        tokio::spawn(async move {
            let _ = out.send(header).await;
            while let Some(frame) = frames.recv().await {
                if out.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_over_http2() {
    let mut cluster = Cluster::prepare(3, 31);
    let peers = free_addresses(3);
    for (ordinal, member) in cluster.members.iter_mut().enumerate() {
        let transport = Arc::new(TonicTransport::new(None).unwrap());
        member.config = config(
            member.dir.path(),
            &peers,
            ordinal,
            31,
            Arc::new(TestClock::default()),
            transport,
        );
    }
    cluster.start_all().await;
    for n in 0..9 {
        let (route, id, _) = submit_at(cluster.node((n % 3) as usize), n).await;
        for node in cluster.running() {
            assert!(read_intent(node, route, id).await.is_some());
        }
    }
    // A stream from every node to one group's leader, wherever that is.
    let group = submit(1).0.group(cluster.node(0).group_map());
    for node in cluster.running() {
        node.set_stream_handler(Arc::new(Echo));
    }
    for node in cluster.running() {
        let (out, mut answers) = node
            .open_stream(group, Bytes::from_static(b"hello"))
            .await
            .unwrap();
        out.send(Bytes::from_static(b"frame")).await.unwrap();
        for expected in ["hello", "frame"] {
            let frame = tokio::time::timeout(PATIENCE, answers.recv())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(frame, expected.as_bytes());
        }
    }
    // One node dies and comes back.
    cluster.members[1].handle.take().unwrap().abort().await;
    let (route, id, _) = submit_at(cluster.node(2), 50).await;
    cluster.restart(1).await;
    assert!(read_intent(cluster.node(1), route, id).await.is_some());
    cluster.assert_converged(group).await;
    cluster.stop().await;
}

/// Answers probes only.
struct Probed;

#[async_trait::async_trait]
impl PeerService for Probed {
    fn accept(&self, _: &pb::PeerHeader) -> Result<(), PeerError> {
        Err(PeerError::Lost("unused".into()))
    }
    async fn call(&self, _: &pb::PeerHeader, _: CallBody) -> Result<ReplyBody, PeerError> {
        Err(PeerError::Lost("unused".into()))
    }
    async fn append(&self, _: pb::PeerHeader, _: AppendInput) -> Result<AppendOutput, PeerError> {
        Err(PeerError::Lost("unused".into()))
    }
    async fn snapshot(
        &self,
        _: pb::PeerHeader,
        _: SnapshotInput,
    ) -> Result<pb::PeerSnapshotReply, PeerError> {
        Err(PeerError::Lost("unused".into()))
    }
    async fn open(&self, _: pb::PeerHeader, _: FrameStream) -> Result<(), PeerError> {
        Err(PeerError::Lost("unused".into()))
    }
    async fn probe(&self, _: pb::ProbeRequest) -> Result<pb::ProbeReply, PeerError> {
        Ok(pb::ProbeReply {
            name: "probed".into(),
            ..Default::default()
        })
    }
    async fn adopt(&self, _: pb::AdoptRequest) -> Result<pb::AdoptReply, PeerError> {
        Err(PeerError::Lost("unused".into()))
    }
}

/// A fresh authority and one certificate for 127.0.0.1, as files.
fn certificates(dir: &Path) -> PeerTls {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let node = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = node.signed_by(&key, &issuer).unwrap();
    let tls = PeerTls {
        cert: dir.join("cert"),
        key: dir.join("key"),
        ca: dir.join("ca"),
    };
    std::fs::write(&tls.cert, cert.pem()).unwrap();
    std::fs::write(&tls.key, key.serialize_pem()).unwrap();
    std::fs::write(&tls.ca, ca_cert.pem()).unwrap();
    tls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_port_demands_a_certificate_of_the_same_authority() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let tls = certificates(ours.path());
    let address = free_addresses(1).remove(0);
    let transport = TonicTransport::new(Some(&tls)).unwrap();
    let _listener = transport.serve(&address, Arc::new(Probed)).await.unwrap();
    let probe = pb::ProbeRequest::default();
    assert_eq!(
        transport
            .connect(&address)
            .probe(probe.clone())
            .await
            .unwrap()
            .name,
        "probed"
    );
    let foreign = TonicTransport::new(Some(&certificates(theirs.path()))).unwrap();
    assert!(foreign.connect(&address).probe(probe.clone()).await.is_err());
    let plain = TonicTransport::new(None).unwrap();
    assert!(plain.connect(&address).probe(probe).await.is_err());
}

#[tokio::test]
async fn without_tls_only_loopback_is_bound() {
    let transport = TonicTransport::new(None).unwrap();
    let refused = transport.serve(&"0.0.0.0:0".to_owned(), Arc::new(Probed)).await;
    assert_eq!(
        refused.err().map(|e| e.kind()),
        Some(std::io::ErrorKind::PermissionDenied)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_the_same_directory_is_refused() {
    let cluster = Cluster::start(1, 32).await;
    assert!(Node::start(cluster.members[0].config.clone()).await.is_err());
    eventually("the first to serve on", || {
        cluster.node(0).led_term(GroupId(1)).map(drop)
    })
    .await;
    cluster.stop().await;
}
