//! The client port behind TLS, with a certificate that changes while it serves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use baton_gateway::TlsFiles;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::Server;

/// Writes a fresh self-signed pair and returns its certificate.
fn write_pair(dir: &Path) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), pair.cert.pem()).unwrap();
    pair.cert.der().clone()
}

/// A connection of a client that trusts only `certificate` and offers these protocols.
async fn connect(
    address: &str,
    certificate: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = tokio::net::TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await
}

/// `GET /health` as a client that trusts only `certificate`.
async fn health(address: &str, certificate: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut stream = connect(address, certificate, &[]).await?;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn the_protocol_is_agreed_on_in_the_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = write_pair(dir.path());
    let server = Server::with(|config| {
        config.tls = Some(TlsFiles {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        });
    })
    .await;
    let address = server.base.strip_prefix("http://").unwrap();
    for (offered, agreed) in [
        (vec![&b"h2"[..], b"http/1.1"], Some(&b"h2"[..])),
        (vec![b"http/1.1"], Some(b"http/1.1")),
        (vec![], None),
    ] {
        let stream = connect(address, &certificate, &offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
    }
}

#[tokio::test]
async fn a_replaced_certificate_is_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = write_pair(dir.path());
    let server = Server::with(|config| {
        config.tls = Some(TlsFiles {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        });
        config.tls_check_ms = 20;
    })
    .await;
    let address = server.base.strip_prefix("http://").unwrap();
    assert!(health(address, &first).await.unwrap().starts_with("HTTP/1.1 200"));
    // A broken pair keeps the old one in place.
    std::fs::write(dir.path().join("cert.pem"), "broken").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(health(address, &first).await.is_ok());
    let second = write_pair(dir.path());
    let served = async {
        while health(address, &second).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), served)
        .await
        .unwrap();
    assert!(health(address, &first).await.is_err());
}
