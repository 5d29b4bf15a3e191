//! The operator port: metrics, probes, status. With TLS it asks for a client certificate; without, it is bound to
//! loopback (the configuration sees to that).

pub mod tls;

use crate::cluster::status::NodeStatus;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use baton_gateway::ports::{Check, Health};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections open at one time; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 256;
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection ends after this time; scrapers open a new one.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// Pause after a failed `accept` (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the operator port shows.
pub trait StatusSource: Send + Sync {
    /// The node's groups right now.
    fn status(&self) -> NodeStatus;
}

/// The pages' sources.
#[derive(Clone)]
pub struct Operator {
    pub metrics: PrometheusHandle,
    pub health: Arc<dyn Health>,
    pub status: Arc<dyn StatusSource>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").finish_non_exhaustive()
    }
}

/// Serves the operator port until `shutdown`; open connections are then cut.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    operator: Operator,
    shutdown: CancellationToken,
) {
    let router = router(operator);
    let tls = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection = connection(stream, tls.clone(), router.clone());
                let ended = shutdown.clone().cancelled_owned();
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = ended => {}
                        _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed on the operator port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let Some(tls) = tls else {
        return http(stream, router).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => http(stream, router).await,
        Ok(Err(error)) => tracing::debug!(%error, "operator connection refused"),
        Err(_) => tracing::debug!("operator handshake timed out"),
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let served = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "operator connection ended");
    }
}

fn router(operator: Operator) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route(
            "/livez",
            get(|State(o): State<Operator>, query: RawQuery| probe(o.health.live(), query)),
        )
        .route(
            "/readyz",
            get(|State(o): State<Operator>, query: RawQuery| probe(o.health.ready(), query)),
        )
        .route(
            "/startupz",
            get(|State(o): State<Operator>, query: RawQuery| probe(o.health.started(), query)),
        )
        .with_state(operator)
}

async fn metrics(State(operator): State<Operator>) -> Response {
    let kind = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
    (kind, operator.metrics.render()).into_response()
}

async fn status(State(operator): State<Operator>) -> Json<NodeStatus> {
    Json(operator.status.status())
}

/// 200 when every check holds, else 503; the failing checks are always listed, all of them with `?verbose`.
async fn probe(checks: Vec<Check>, RawQuery(query): RawQuery) -> Response {
    let ok = checks.iter().all(|check| check.ok);
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
    let lines: Vec<_> = checks
        .iter()
        .filter(|check| verbose || !check.ok)
        .map(|check| serde_json::json!({"name": check.name, "ok": check.ok, "detail": check.detail}))
        .collect();
    let code = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(serde_json::json!({"ok": ok, "checks": lines}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{CertificateRequest, generate};
    use crate::config::Tls;

    struct Fixed(bool);

    impl Health for Fixed {
        fn live(&self) -> Vec<Check> {
            vec![Check {
                name: "threads",
                ok: true,
                detail: "all".into(),
            }]
        }
        fn ready(&self) -> Vec<Check> {
            vec![Check {
                name: "leaders",
                ok: self.0,
                detail: "group 3 has none".into(),
            }]
        }
        fn started(&self) -> Vec<Check> {
            Vec::new()
        }
    }

    impl StatusSource for Fixed {
        fn status(&self) -> NodeStatus {
            NodeStatus {
                name: "n".into(),
                node_id: 1,
                cluster_id: "c".into(),
                version: "v".into(),
                shard_groups: 1,
                groups: Vec::new(),
            }
        }
    }

    async fn start(ready: bool, tls: &Tls) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new()
            .build_recorder()
            .handle();
        let source = Arc::new(Fixed(ready));
        let operator = Operator {
            metrics,
            health: source.clone(),
            status: source,
        };
        let shutdown = CancellationToken::new();
        let tls = tls::server_config(tls, "operator").unwrap();
        tokio::spawn(serve(listener, tls, operator, shutdown.clone()));
        (address, shutdown)
    }

    #[tokio::test]
    async fn probes_answer_for_this_node_and_name_what_fails() {
        let (address, _shutdown) = start(false, &Tls::default()).await;
        let page = |path: &str| {
            let url = format!("http://{address}/{path}");
            async move {
                let response = reqwest::get(url).await.unwrap();
                (response.status().as_u16(), response.text().await.unwrap())
            }
        };
        assert_eq!(page("livez").await.0, 200);
        let (code, text) = page("readyz").await;
        assert_eq!(code, 503);
        assert!(text.contains("group 3 has none"));
        assert!(page("livez?verbose").await.1.contains("threads"));
        assert_eq!(page("metrics").await.0, 200);
        assert!(page("status").await.1.contains("\"node_id\":1"));
    }

    #[tokio::test]
    async fn with_tls_a_client_without_certificate_gets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let request = CertificateRequest {
            out: dir.path().to_path_buf(),
            names: vec!["node-1".into()],
            hosts: Vec::new(),
        };
        let files = generate(&request).unwrap().remove(0);
        let tls = Tls {
            cert: Some(files.cert),
            key: Some(files.key),
            ca: Some(dir.path().join("ca.pem")),
        };
        let (address, _shutdown) = start(true, &tls).await;
        assert!(talk(address, &tls, false).await.is_err());
        let text = talk(address, &tls, true).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }

    /// One request over TLS, with or without a certificate of our own.
    async fn talk(
        address: std::net::SocketAddr,
        tls: &Tls,
        with_certificate: bool,
    ) -> std::io::Result<String> {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(tls.ca.as_ref().unwrap()).unwrap())
            .unwrap();
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let config = if with_certificate {
            let cert = CertificateDer::from_pem_file(tls.cert.as_ref().unwrap()).unwrap();
            let key = PrivateKeyDer::from_pem_file(tls.key.as_ref().unwrap()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let stream = TcpStream::connect(address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}
