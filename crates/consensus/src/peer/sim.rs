//! In-process peers over a network that tests can cut, heal and slow down.

use super::{
    AppendInput, AppendOutput, CallBody, FrameStream, NodeAddress, PeerClient, PeerError, PeerService,
    ReplyBody, STREAM_FRAMES_MAX, Transport,
};
use async_trait::async_trait;
use baton_protocol::proto::internal as pb;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// A network of in-process nodes. Delays are drawn from one seeded generator.
#[derive(Clone)]
pub struct SimNetwork(Arc<Mutex<Inner>>);

struct Inner {
    nodes: HashMap<NodeAddress, Served>,
    blocked: HashSet<(NodeAddress, NodeAddress)>,
    delay_ms: (u64, u64),
    rng: StdRng,
}

#[derive(Clone)]
struct Served {
    service: Arc<dyn PeerService>,
    runtime: Handle,
    generation: u64,
}

impl std::fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNetwork")
            .field("blocked", &self.lock().blocked)
            .finish_non_exhaustive()
    }
}

impl SimNetwork {
    /// A network without faults or delay.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            nodes: HashMap::new(),
            blocked: HashSet::new(),
            delay_ms: (0, 0),
            rng: StdRng::seed_from_u64(seed),
        })))
    }

    /// The transport of the node at `own`.
    #[must_use]
    pub fn transport(&self, own: impl Into<NodeAddress>) -> Arc<dyn Transport> {
        Arc::new(SimTransport {
            network: self.clone(),
            own: own.into(),
        })
    }

    /// Drops what `from` sends to `to`: one direction only. Streams that want to send break.
    pub fn partition(&self, from: &str, to: &str) {
        self.lock().blocked.insert((from.to_owned(), to.to_owned()));
    }

    /// Cuts `node` off from every other, both ways.
    pub fn isolate(&self, node: &str) {
        let mut inner = self.lock();
        let others: Vec<_> = inner.nodes.keys().filter(|n| *n != node).cloned().collect();
        for other in others {
            inner.blocked.insert((node.to_owned(), other.clone()));
            inner.blocked.insert((other, node.to_owned()));
        }
    }

    /// Removes every partition.
    pub fn heal(&self) {
        self.lock().blocked.clear();
    }

    /// Every message takes between `min` and `max` milliseconds from now on.
    pub fn delay_ms(&self, min: u64, max: u64) {
        self.lock().delay_ms = (min, max.max(min));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SimTransport {
    network: SimNetwork,
    own: NodeAddress,
}

#[async_trait]
impl Transport for SimTransport {
    fn connect(&self, target: &NodeAddress) -> Arc<dyn PeerClient> {
        let wire = Wire {
            network: self.network.clone(),
            from: self.own.clone(),
            to: target.clone(),
        };
        Arc::new(SimPeer { wire })
    }

    async fn serve(
        &self,
        own: &NodeAddress,
        service: Arc<dyn PeerService>,
    ) -> std::io::Result<Box<dyn std::any::Any + Send>> {
        let mut inner = self.network.lock();
        let generation = inner.rng.random();
        let served = Served {
            service,
            runtime: Handle::current(),
            generation,
        };
        inner.nodes.insert(own.clone(), served);
        Ok(Box::new(Leave {
            network: self.network.clone(),
            own: own.clone(),
            generation,
        }))
    }
}

/// Takes the node off the network when it stops, unless it has been started anew.
struct Leave {
    network: SimNetwork,
    own: NodeAddress,
    generation: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut inner = self.network.lock();
        if inner
            .nodes
            .get(&self.own)
            .is_some_and(|s| s.generation == self.generation)
        {
            inner.nodes.remove(&self.own);
        }
    }
}

/// One directed way between two nodes.
#[derive(Clone)]
struct Wire {
    network: SimNetwork,
    from: NodeAddress,
    to: NodeAddress,
}

impl Wire {
    fn back(&self) -> Self {
        Self {
            network: self.network.clone(),
            from: self.to.clone(),
            to: self.from.clone(),
        }
    }

    /// Waits the message's delay; false when it is lost.
    async fn pass(&self) -> bool {
        let delay = {
            let mut inner = self.network.lock();
            let (min, max) = inner.delay_ms;
            if max == 0 {
                0
            } else {
                inner.rng.random_range(min..=max)
            }
        };
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        !self.cut()
    }

    fn cut(&self) -> bool {
        self.network
            .lock()
            .blocked
            .contains(&(self.from.clone(), self.to.clone()))
    }

    fn target(&self) -> Result<Served, PeerError> {
        let served = self.network.lock().nodes.get(&self.to).cloned();
        served.ok_or_else(|| PeerError::Unreachable {
            address: self.to.clone(),
            reason: "nothing listens there".into(),
        })
    }

    /// What arrives of `input` at the other end: the stream breaks at the first lost item.
    fn carry<T: Send + 'static>(&self, input: BoxStream<'static, T>) -> BoxStream<'static, T> {
        let wire = self.clone();
        futures::stream::unfold((wire, input), |(wire, mut input)| async move {
            let item = input.next().await?;
            wire.pass().await.then_some((item, (wire, input)))
        })
        .boxed()
    }
}

struct SimPeer {
    wire: Wire,
}

impl SimPeer {
    /// Runs `work` at the other node, on its own runtime, as if a request went there and an answer came back.
    async fn at_peer<T, F>(&self, work: impl FnOnce(Arc<dyn PeerService>) -> F) -> Result<T, PeerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PeerError>> + Send + 'static,
    {
        let served = self.wire.target()?;
        if !self.wire.pass().await {
            return Err(lost());
        }
        let answer = served
            .runtime
            .spawn(work(served.service.clone()))
            .await
            .map_err(|_| lost())?;
        if !self.wire.back().pass().await {
            return Err(lost());
        }
        answer
    }
}

fn lost() -> PeerError {
    PeerError::Lost("simulated network dropped it".into())
}

#[async_trait]
impl PeerClient for SimPeer {
    async fn call(
        &self,
        header: &pb::PeerHeader,
        body: CallBody,
        deadline: Duration,
    ) -> Result<ReplyBody, PeerError> {
        let header = header.clone();
        let exchange = async {
            let answer = self
                .at_peer(move |service| async move {
                    service.accept(&header)?;
                    service.call(&header, body).await
                })
                .await;
            if self.wire.cut() || self.wire.back().cut() {
                // Nothing tells the caller but its deadline.
                std::future::pending::<()>().await;
            }
            answer
        };
        tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| PeerError::Lost(format!("no answer within {} ms", deadline.as_millis())))?
    }

    async fn append_stream(
        &self,
        header: pb::PeerHeader,
        input: AppendInput,
    ) -> Result<AppendOutput, PeerError> {
        let input = self.wire.carry(input);
        let output = self
            .at_peer(move |service| async move { service.append(header, input).await })
            .await?;
        let back = self.wire.back();
        let arrives = futures::stream::unfold(Some((back, output)), |state| async move {
            let (wire, mut output) = state?;
            let item = output.next().await?;
            if wire.pass().await {
                Some((item, Some((wire, output))))
            } else {
                Some((Err(lost()), None))
            }
        });
        Ok(arrives.boxed())
    }

    async fn snapshot(
        &self,
        header: pb::PeerHeader,
        chunks: BoxStream<'static, pb::PeerSnapshotChunk>,
    ) -> Result<pb::PeerSnapshotReply, PeerError> {
        let chunks = self.wire.carry(chunks).map(Ok).boxed();
        self.at_peer(move |service| async move { service.snapshot(header, chunks).await })
            .await
    }

    async fn open_stream(&self, header: pb::PeerHeader) -> Result<FrameStream, PeerError> {
        let (near_tx, far_rx) = self.pump(self.wire.clone());
        let (far_tx, near_rx) = self.pump(self.wire.back());
        self.at_peer(move |service| async move { service.open(header, (far_tx, far_rx)).await })
            .await?;
        Ok((near_tx, near_rx))
    }

    async fn probe(&self, request: pb::ProbeRequest) -> Result<pb::ProbeReply, PeerError> {
        self.at_peer(move |service| async move { service.probe(request).await })
            .await
    }

    async fn adopt(&self, request: pb::AdoptRequest) -> Result<pb::AdoptReply, PeerError> {
        self.at_peer(move |service| async move { service.adopt(request).await })
            .await
    }
}

impl SimPeer {
    fn pump(&self, wire: Wire) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
        let (tx, mut rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let (out, arrived) = mpsc::channel(STREAM_FRAMES_MAX);
        tokio::spawn(async move {
            while let Some(frame) = rx.recv().await {
                if !wire.pass().await || out.send(frame).await.is_err() {
                    break;
                }
            }
        });
        (tx, arrived)
    }
}
