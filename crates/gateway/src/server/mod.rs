//! The client port: accept, TLS, HTTP/1.1 and HTTP/2, slow clients, graceful shutdown.

mod cors;
mod deadline_io;
mod surface;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::http::task_page::PeerAddress;
use crate::metrics::{CONNECTIONS_OPEN, GaugeGuard};
use crate::ports::{Health, Ports};
use crate::{grpc, http};
use deadline_io::DeadlineIo;
use surface::Surface;

/// Largest request head hyper buffers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one call that a client may send before the server has read them.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for all calls of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of one answer that wait for a client to read them.
const SEND_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Calls that a client resets before they were looked at; above it the connection is closed.
const PENDING_RESETS_MAX: usize = 64;
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that probes in flight get when the node begins to serve.
const PROBE_GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed `accept` (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the client surface on `listener` until `shutdown` is cancelled; then stops accepting, ends streams with
/// `stream.timeout`, lets requests in flight finish within `shutdown_grace_ms`, and returns.
///
/// # Errors
/// When the TLS files cannot be read at start.
pub async fn serve(
    listener: TcpListener,
    config: GatewayConfig,
    ports: Ports,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    crate::metrics::describe();
    let tls = match &config.tls {
        Some(files) => Some(tls::ReloadingTls::load(files.clone())?),
        None => None,
    };
    let check = Duration::from_millis(config.tls_check_ms);
    let reload = tls
        .clone()
        .map(|t| tokio::spawn(t.watch(check, shutdown.clone())));
    let config = Arc::new(config);
    let app = App::new(Arc::clone(&config), ports, shutdown.clone());
    let cors = cors::layer(&config.cors_origins)?;
    let surface = Surface::new(http::router(Arc::clone(&app)), Some(grpc::router(&app)?), cors);
    let graceful = accept_until(&listener, tls, &surface, &config, &shutdown).await;
    drop(listener);
    let grace = Duration::from_millis(config.shutdown_grace_ms);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still in flight after the shutdown grace period");
    }
    if let Some(task) = reload {
        let _ = task.await;
    }
    Ok(())
}

/// Serves probes alone on `listener` while the node is starting, and answers everything else with 503. Returns the
/// listener once `until` is cancelled.
///
/// # Errors
/// When the TLS files cannot be read.
pub async fn serve_probes(
    listener: TcpListener,
    config: GatewayConfig,
    health: Arc<dyn Health>,
    until: CancellationToken,
) -> std::io::Result<TcpListener> {
    let tls = match &config.tls {
        Some(files) => Some(tls::ReloadingTls::load(files.clone())?),
        None => None,
    };
    let config = Arc::new(config);
    let surface = Surface::new(http::starting(health), None, None);
    let graceful = accept_until(&listener, tls, &surface, &config, &until).await;
    // What is still open is a probe in flight.
    if tokio::time::timeout(PROBE_GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::debug!("a probe was still open when the node began to serve");
    }
    Ok(listener)
}

/// Accepts connections until `stop`; what is returned waits for those still open.
async fn accept_until(
    listener: &TcpListener,
    tls: Option<Arc<tls::ReloadingTls>>,
    surface: &Surface,
    config: &Arc<GatewayConfig>,
    stop: &CancellationToken,
) -> GracefulShutdown {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(config.connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return graceful,
            accepted = accept(listener, &connections) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_peers_fault(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = Connection {
            surface: surface.clone(),
            peer,
            config: Arc::clone(config),
            watcher: graceful.watcher(),
        };
        let tls = tls.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let _open = GaugeGuard::new(CONNECTIONS_OPEN, "http");
            connection.run(stream, tls).await;
        });
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Only slower without it.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer.ip().to_canonical(), permit))
}

/// A connection that was gone before it was accepted says nothing about this node.
fn is_peers_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

struct Connection {
    surface: Surface,
    peer: IpAddr,
    config: Arc<GatewayConfig>,
    watcher: hyper_util::server::graceful::Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<tls::ReloadingTls>>) {
        let Some(tls) = tls else {
            return self.http(stream).await;
        };
        match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
            Err(_) => tracing::debug!("tls handshake timed out"),
        }
    }

    async fn http<S>(self, stream: S)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let opening = Duration::from_millis(self.config.header_timeout_ms);
        let writing = Duration::from_millis(self.config.write_timeout_ms);
        let stream = DeadlineIo::new(stream, writing, opening);
        let builder = protocols(&self.config);
        let peer = PeerAddress(self.peer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            self.surface.clone().answer(request)
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::trace!(%error, "connection ended");
        }
    }
}

/// HTTP/1.1 and HTTP/2, told apart by the first bytes, each within its bounds.
fn protocols(config: &GatewayConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(config.connection_streams_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_millis(config.keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(config.keepalive_timeout_ms));
    builder
}
