//! How `https` endpoints are checked, and how a client shows who it is.

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// TLS settings. The default trusts the system's authorities.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    authority_pem: Option<Vec<u8>>,
    identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts the system's authorities.
    pub fn system() -> Self {
        Self::default()
    }

    /// Trusts this authority and no other (PEM).
    pub fn authority(pem: impl Into<Vec<u8>>) -> Self {
        Self {
            authority_pem: Some(pem.into()),
            ..Self::default()
        }
    }

    /// Shows this certificate (PEM chain and key).
    pub fn identity(mut self, cert_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.identity_pem = Some((cert_pem.into(), key_pem.into()));
        self
    }

    /// The name that the servers' certificates must carry, when it is not the endpoint's.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn into_config(self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        config = match self.authority_pem {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        if let Some((cert, key)) = self.identity_pem {
            config = config.identity(Identity::from_pem(cert, key));
        }
        if let Some(name) = self.server_name {
            config = config.domain_name(name);
        }
        config
    }
}

/// Without keys.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("own_authority", &self.authority_pem.is_some())
            .field("identity", &self.identity_pem.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}
