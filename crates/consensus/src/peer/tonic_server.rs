//! The peer listener.

use super::link::is_bulk;
use super::tls::LoadedTls;
use super::tonic_client::{CONNECTION_WINDOW_BYTES, HEADER_KEY, STREAM_WINDOW_BYTES};
use super::{NodeAddress, PEER_MESSAGE_BYTES_MAX, PeerError, PeerService, ReplyBody, STREAM_FRAMES_MAX};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal as pb;
use baton_protocol::proto::internal::peer_server::{Peer, PeerServer};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use prost::Message;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

/// Forwarded commands and queries of one peer that are being worked on.
const BULK_CALLS_MAX: usize = 8_192;
const REPLIES_MAX: usize = 1_024;
/// Longer than the client's own: that one notices first.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn serve(
    own: &NodeAddress,
    tls: Option<&LoadedTls>,
    service: Arc<dyn PeerService>,
) -> io::Result<Box<dyn std::any::Any + Send>> {
    let addresses: Vec<_> = tokio::net::lookup_host(own).await?.collect();
    if tls.is_none() && addresses.iter().any(|a| !a.ip().is_loopback()) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("peer address {own} is not loopback; configure peer tls (cert, key, ca) to bind it"),
        ));
    }
    let listener = TcpListener::bind(addresses.as_slice())
        .await
        .map_err(|e| io::Error::new(e.kind(), format!("cannot bind peer address {own}: {e}")))?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut builder = Server::builder()
        // A peer that lost power says no goodbye; its streams must not stay for ever.
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    if let Some(tls) = tls {
        builder = builder.tls_config(tls.server()).map_err(io::Error::other)?;
    }
    let server = PeerServer::new(Handler(service))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(
        builder
            .add_service(server)
            .serve_with_incoming_shutdown(incoming, async {
                let _ = stopped.await;
            }),
    );
    Ok(Box::new(Guard { _stop: stop, task }))
}

struct Guard {
    _stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Peers' streams never end by themselves, so a graceful end would wait for ever.
        self.task.abort();
    }
}

struct Handler(Arc<dyn PeerService>);

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Peer for Handler {
    type ExchangeStream = Answers<pb::ReplyFrame>;
    type AppendStream = Answers<pb::PeerAppendReply>;
    type OpenStream = Answers<pb::StreamFrame>;

    async fn exchange(
        &self,
        request: Request<Streaming<pb::CallFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let header = header_of(&request)?;
        self.0.accept(&header).map_err(status_of)?;
        let (tx, rx) = mpsc::channel(REPLIES_MAX);
        tokio::spawn(answer_calls(self.0.clone(), header, request.into_inner(), tx));
        Ok(Response::new(ReceiverStream::new(rx).map(Ok).boxed()))
    }

    async fn append(
        &self,
        request: Request<Streaming<pb::PeerAppend>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let header = header_of(&request)?;
        let input = until_error(request.into_inner()).boxed();
        let output = self.0.append(header, input).await.map_err(status_of)?;
        Ok(Response::new(output.map(|item| item.map_err(status_of)).boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::PeerSnapshotChunk>>,
    ) -> Result<Response<pb::PeerSnapshotReply>, Status> {
        let header = header_of(&request)?;
        let chunks = request
            .into_inner()
            .map(|item| item.map_err(|status| PeerError::Lost(status.message().to_owned())))
            .boxed();
        self.0
            .snapshot(header, chunks)
            .await
            .map(Response::new)
            .map_err(status_of)
    }

    async fn open(
        &self,
        request: Request<Streaming<pb::StreamFrame>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let header = header_of(&request)?;
        let (in_tx, inbound) = mpsc::channel(STREAM_FRAMES_MAX);
        let (out, out_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let mut frames = request.into_inner();
        self.0.open(header, (out, inbound)).await.map_err(status_of)?;
        tokio::spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                if in_tx.send(frame.data).await.is_err() {
                    break;
                }
            }
        });
        let answers = ReceiverStream::new(out_rx).map(|data| Ok(pb::StreamFrame { data }));
        Ok(Response::new(answers.boxed()))
    }

    async fn probe(&self, request: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeReply>, Status> {
        self.0
            .probe(request.into_inner())
            .await
            .map(Response::new)
            .map_err(status_of)
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Result<Response<pb::AdoptReply>, Status> {
        self.0
            .adopt(request.into_inner())
            .await
            .map(Response::new)
            .map_err(status_of)
    }
}

async fn answer_calls(
    service: Arc<dyn PeerService>,
    header: pb::PeerHeader,
    mut calls: Streaming<pb::CallFrame>,
    replies: mpsc::Sender<pb::ReplyFrame>,
) {
    let bulk = Arc::new(Semaphore::new(BULK_CALLS_MAX));
    while let Some(Ok(frame)) = calls.next().await {
        let Some(body) = frame.body else { continue };
        let request_id = frame.request_id;
        let permit = if is_bulk(&body) {
            let Ok(permit) = bulk.clone().try_acquire_owned() else {
                let body = Some(ReplyBody::Failure(overloaded()));
                if replies.send(pb::ReplyFrame { request_id, body }).await.is_err() {
                    return;
                }
                continue;
            };
            Some(permit)
        } else {
            None
        };
        let header = pb::PeerHeader {
            group: frame.group,
            ..header.clone()
        };
        let (service, replies) = (service.clone(), replies.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let body = service
                .call(&header, body)
                .await
                .unwrap_or_else(|error| ReplyBody::Failure(error.into_failure()));
            // A closed stream means the caller is gone.
            let _ = replies
                .send(pb::ReplyFrame {
                    request_id,
                    body: Some(body),
                })
                .await;
        });
    }
}

fn overloaded() -> pb::PeerFailure {
    pb::PeerFailure {
        kind: pb::peer_failure::Kind::Refused.into(),
        message: "too many forwarded calls in progress; retry later".into(),
        code: ErrorCode::QueueFull.number(),
        leader_node: 0,
    }
}

fn until_error<T: Send + 'static>(stream: Streaming<T>) -> impl Stream<Item = T> + Send + 'static {
    futures::stream::unfold(stream, |mut stream| async move {
        match stream.next().await {
            Some(Ok(item)) => Some((item, stream)),
            Some(Err(_)) | None => None,
        }
    })
}

fn header_of<T>(request: &Request<T>) -> Result<pb::PeerHeader, Status> {
    let refuse = |reason: &str| Status::invalid_argument(format!("peer header {reason}"));
    let value = request
        .metadata()
        .get_bin(HEADER_KEY)
        .ok_or_else(|| refuse("is missing"))?;
    let bytes = value.to_bytes().map_err(|_| refuse("is not base64"))?;
    pb::PeerHeader::decode(bytes).map_err(|_| refuse("cannot be decoded"))
}

fn status_of(error: PeerError) -> Status {
    let failure = error.into_failure();
    let details = failure.encode_to_vec();
    Status::with_details(Code::Unavailable, failure.message, details.into())
}
