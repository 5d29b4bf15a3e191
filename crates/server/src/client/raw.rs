//! One HTTP/1.1 exchange over a socket of its own, plain or TLS with a private authority: for probes, which must not
//! need more than the server itself does.

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Either kind of connection.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The client side of TLS with one authority and, for mutual TLS, a certificate and its key.
///
/// # Errors
/// Files that cannot be read or do not fit.
pub fn tls(ca: &Path, own: Option<(&Path, &Path)>) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))? {
        roots.add(root.with_context(|| format!("{} holds no certificate", ca.display()))?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
    };
    Ok(Arc::new(config))
}

/// Sends a request and returns the connection, its answer unread. `url` is `http://host:port/path` or, with `tls`,
/// `https://…`; the server closes the connection when it has answered.
///
/// # Errors
/// A URL of another form, a failed connection or handshake.
pub async fn send(
    tls: Option<Arc<rustls::ClientConfig>>,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<Box<dyn Connection>> {
    let (scheme, rest) = url
        .split_once("://")
        .context("the URL must begin with http:// or https://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().context("the URL's port is no number")?),
        None => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let mut connection: Box<dyn Connection> = match (scheme, tls) {
        ("http", _) => Box::new(stream),
        ("https", Some(tls)) => {
            let name = ServerName::try_from(host.to_owned())?;
            Box::new(TlsConnector::from(tls).connect(name, stream).await?)
        }
        ("https", None) => anyhow::bail!("https needs --ca with the authority of the node's certificate"),
        _ => anyhow::bail!("{scheme} is not spoken here; use http or https"),
    };
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str("content-type: application/json\r\n");
    }
    head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    connection.write_all(head.as_bytes()).await?;
    connection.flush().await?;
    Ok(connection)
}

/// One whole exchange: status and body.
///
/// # Errors
/// See [`send`]; an answer that is not HTTP or too large.
pub async fn exchange(
    tls: Option<Arc<rustls::ClientConfig>>,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let connection = send(tls, method, url, headers, body).await?;
    let mut answer = Vec::new();
    let read = connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    // A close without a TLS goodbye ends an answer like any other close.
    if answer.is_empty() {
        read?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no HTTP status")?;
    Ok((status, body.to_owned()))
}
