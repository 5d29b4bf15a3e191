//! Server side of TLS from PEM files.

use crate::config::Tls;
use crate::exit::Failure;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::Path;
use std::sync::Arc;

/// The TLS setup of a port, `None` when it speaks plain text. With `tls.ca`, clients must show a certificate.
///
/// # Errors
/// Files that do not hold what they should, with section, file and fix (exit 78).
pub fn server_config(tls: &Tls, section: &str) -> Result<Option<Arc<rustls::ServerConfig>>, Failure> {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(None);
    };
    let bad = |what: String| {
        Failure::config(format!(
            "{section}.tls: {what}; correct the file (`baton certs generate` makes a set)"
        ))
    };
    let chain = certificates(cert).map_err(bad)?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| bad(format!("{} holds no private key ({error})", key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?;
    let builder = match &tls.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(ca).map_err(bad)? {
                roots
                    .add(root)
                    .map_err(|error| bad(format!("{} is no authority ({error})", ca.display())))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| bad(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key_der).map_err(|error| {
        bad(format!(
            "{} and {} do not fit ({error})",
            cert.display(),
            key.display()
        ))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{} holds no certificate ({error})", path.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(chain)
}
