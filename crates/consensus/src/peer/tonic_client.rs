//! Peers over HTTP/2.

use super::link::Link;
use super::tls::LoadedTls;
use super::{
    AppendInput, AppendOutput, CallBody, FrameStream, NodeAddress, PEER_MESSAGE_BYTES_MAX, PeerClient,
    PeerError, PeerService, PeerTls, ReplyBody, STREAM_FRAMES_MAX, Transport, tonic_server,
};
use async_trait::async_trait;
use baton_protocol::proto::internal as pb;
use baton_protocol::proto::internal::peer_client::PeerClient as Stub;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Metadata entry that carries the encoded [`pb::PeerHeader`].
pub(super) const HEADER_KEY: &str = "baton-peer-bin";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed connection, calls fail at once for this long instead of dialling again.
const REDIAL_PAUSE: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
pub(super) const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// HTTP/2 transport of production: one connection per peer, and one more for snapshots.
#[derive(Debug)]
pub struct TonicTransport {
    tls: Option<LoadedTls>,
}

impl TonicTransport {
    /// Reads the certificates. Without TLS only loopback addresses can be served.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn new(tls: Option<&PeerTls>) -> std::io::Result<Self> {
        Ok(Self {
            tls: tls.map(PeerTls::load).transpose()?,
        })
    }

    fn channel(&self, target: &NodeAddress) -> Result<Channel, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{target}"))
            .map_err(|e| e.to_string())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if let Some(tls) = &self.tls {
            let host = target.rsplit_once(':').map_or(target.as_str(), |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            endpoint = endpoint.tls_config(tls.client(host)).map_err(|e| e.to_string())?;
        }
        Ok(endpoint.connect_lazy())
    }
}

#[async_trait]
impl Transport for TonicTransport {
    fn connect(&self, target: &NodeAddress) -> Arc<dyn PeerClient> {
        let channels = self
            .channel(target)
            .and_then(|main| Ok((main, self.channel(target)?)));
        Arc::new(TonicPeer {
            address: target.clone(),
            channels,
            runtime: Handle::current(),
            link: Mutex::new(Dial {
                link: None,
                failed_at: None,
            }),
        })
    }

    async fn serve(
        &self,
        own: &NodeAddress,
        service: Arc<dyn PeerService>,
    ) -> std::io::Result<Box<dyn std::any::Any + Send>> {
        tonic_server::serve(own, self.tls.as_ref(), service).await
    }
}

struct TonicPeer {
    address: NodeAddress,
    /// For everything, and for snapshots.
    channels: Result<(Channel, Channel), String>,
    /// Tasks of this link live here, whoever calls.
    runtime: Handle,
    link: Mutex<Dial>,
}

struct Dial {
    link: Option<Arc<Link>>,
    failed_at: Option<(Instant, String)>,
}

impl TonicPeer {
    fn stub(&self, bulk: bool) -> Result<Stub<Channel>, PeerError> {
        let (main, second) = self
            .channels
            .as_ref()
            .map_err(|reason| self.unreachable(reason.clone()))?;
        let channel = if bulk { second } else { main };
        Ok(Stub::new(channel.clone())
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX))
    }

    fn unreachable(&self, reason: String) -> PeerError {
        PeerError::Unreachable {
            address: self.address.clone(),
            reason,
        }
    }

    fn error(&self, status: &Status) -> PeerError {
        match pb::PeerFailure::decode(status.details()) {
            Ok(failure) if !status.details().is_empty() => PeerError::Failed(Box::new(failure)),
            Ok(_) | Err(_) => self.unreachable(reason_of(status)),
        }
    }

    async fn link(&self, header: &pb::PeerHeader) -> Result<Arc<Link>, PeerError> {
        let mut dial = self.link.lock().await;
        if let Some(link) = dial.link.as_ref().filter(|link| link.is_open()) {
            return Ok(link.clone());
        }
        if let Some((at, reason)) = &dial.failed_at
            && at.elapsed() < REDIAL_PAUSE
        {
            return Err(self.unreachable(reason.clone()));
        }
        let (link, frames) = Link::new();
        let mut stub = self.stub(false)?;
        let shared = pb::PeerHeader {
            group: None,
            ..header.clone()
        };
        match stub.exchange(with_header(frames, &shared)).await {
            Ok(replies) => {
                self.runtime.spawn(link.clone().read(replies.into_inner()));
                dial.link = Some(link.clone());
                dial.failed_at = None;
                Ok(link)
            }
            Err(status) => {
                dial.link = None;
                let error = self.error(&status);
                dial.failed_at = Some((Instant::now(), error.to_string()));
                Err(error)
            }
        }
    }
}

#[async_trait]
impl PeerClient for TonicPeer {
    async fn call(
        &self,
        header: &pb::PeerHeader,
        body: CallBody,
        deadline: Duration,
    ) -> Result<ReplyBody, PeerError> {
        let started = Instant::now();
        let link = tokio::time::timeout(deadline, self.link(header))
            .await
            .map_err(|_| self.unreachable("connection not open within the deadline".into()))??;
        let left = deadline.saturating_sub(started.elapsed());
        link.call(header.group, body, left).await
    }

    async fn append_stream(
        &self,
        header: pb::PeerHeader,
        input: AppendInput,
    ) -> Result<AppendOutput, PeerError> {
        let replies = self
            .stub(false)?
            .append(with_header(Plain(input), &header))
            .await
            .map_err(|status| self.error(&status))?
            .into_inner();
        Ok(replies
            .map(|item| item.map_err(|status| PeerError::Lost(reason_of(&status))))
            .boxed())
    }

    async fn snapshot(
        &self,
        header: pb::PeerHeader,
        chunks: BoxStream<'static, pb::PeerSnapshotChunk>,
    ) -> Result<pb::PeerSnapshotReply, PeerError> {
        let reply = self
            .stub(true)?
            .snapshot(with_header(Plain(chunks), &header))
            .await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(&status))
    }

    async fn open_stream(&self, header: pb::PeerHeader) -> Result<FrameStream, PeerError> {
        let (out, out_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let (in_tx, inbound) = mpsc::channel(STREAM_FRAMES_MAX);
        let frames = ReceiverStream::new(out_rx).map(|data| pb::StreamFrame { data });
        let mut replies = self
            .stub(false)?
            .open(with_header(frames, &header))
            .await
            .map_err(|status| self.error(&status))?
            .into_inner();
        self.runtime.spawn(async move {
            while let Some(Ok(frame)) = replies.next().await {
                if in_tx.send(frame.data).await.is_err() {
                    break;
                }
            }
        });
        Ok((out, inbound))
    }

    async fn probe(&self, request: pb::ProbeRequest) -> Result<pb::ProbeReply, PeerError> {
        let reply = self.stub(false)?.probe(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(&status))
    }

    async fn adopt(&self, request: pb::AdoptRequest) -> Result<pb::AdoptReply, PeerError> {
        let reply = self.stub(false)?.adopt(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(&status))
    }
}

/// A boxed stream as a type of its own: the compiler cannot prove the bare trait object's lifetimes in the stub's
/// futures.
struct Plain<T>(BoxStream<'static, T>);

impl<T> Stream for Plain<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_next_unpin(cx)
    }
}

fn with_header<T>(message: T, header: &pb::PeerHeader) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert_bin(HEADER_KEY, MetadataValue::from_bytes(&header.encode_to_vec()));
    request
}

/// The innermost cause says most ("connection refused").
fn reason_of(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut reason = status.message().to_owned();
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    reason
}
