//! The client port: accept, TLS, HTTP/1.1, slow clients, graceful shutdown.

mod deadline_io;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::GatewayConfig;
use crate::http;
use crate::metrics::{CONNECTIONS_OPEN, GaugeGuard};
use crate::ports::{Health, Ports};
use deadline_io::DeadlineIo;

/// Largest request head hyper buffers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
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
    let router = http::router(Arc::clone(&config), ports, shutdown.clone());
    let graceful = accept_until(&listener, tls, &router, &config, &shutdown).await;
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
    let graceful = accept_until(&listener, tls, &http::starting(health), &config, &until).await;
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
    router: &axum::Router,
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
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_peers_fault(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = Connection {
            router: router.clone(),
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
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Only slower without it.
    let _ = stream.set_nodelay(true);
    Ok((stream, permit))
}

/// A connection that was gone before it was accepted says nothing about this node.
fn is_peers_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

struct Connection {
    router: axum::Router,
    config: Arc<GatewayConfig>,
    watcher: hyper_util::server::graceful::Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<tls::ReloadingTls>>) {
        let stream = DeadlineIo::new(stream, Duration::from_millis(self.config.write_timeout_ms));
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
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(self.config.header_timeout_ms))
            .max_buf_size(HEAD_BYTES_MAX)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::trace!(%error, "connection ended");
        }
    }
}
