//! Mutual TLS of the peer port.

use std::io;
use std::path::PathBuf;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// PEM files of the peer link: both sides present `cert` and demand one signed by `ca`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTls {
    /// Certificate chain of this node.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signs every node's certificate.
    pub ca: PathBuf,
}

/// The files' contents.
#[derive(Clone)]
pub(super) struct LoadedTls {
    identity: Identity,
    ca: Certificate,
}

impl std::fmt::Debug for LoadedTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoadedTls")
    }
}

impl PeerTls {
    pub(super) fn load(&self) -> io::Result<LoadedTls> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("cannot read peer tls file {}: {e}", path.display()),
                )
            })
        };
        Ok(LoadedTls {
            identity: Identity::from_pem(read(&self.cert)?, read(&self.key)?),
            ca: Certificate::from_pem(read(&self.ca)?),
        })
    }
}

impl LoadedTls {
    pub(super) fn client(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.identity.clone())
            .ca_certificate(self.ca.clone())
            .domain_name(host)
    }

    pub(super) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.ca.clone())
    }
}
