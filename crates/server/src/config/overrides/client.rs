//! The client port, and what one client may ask.

use super::{Values, path};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Args)]
pub struct ClientFlags {
    /// Address and port for applications (HTTP and event streams) [key: client.listen; default: 127.0.0.1:8100]
    #[arg(
        long,
        env = "BATON_CLIENT_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Client port"
    )]
    pub client_listen: Option<SocketAddr>,
    /// host:port under which clients reach this node, for answers that name a better node; fixed when the cluster is
    /// created [key: client.advertise; default: client.listen]
    #[arg(
        long,
        env = "BATON_CLIENT_ADVERTISE",
        value_name = "HOST:PORT",
        help_heading = "Client port"
    )]
    pub client_advertise: Option<String>,
    /// Certificate chain of the client port (PEM); without it the port speaks plain HTTP [key: client.tls.cert]
    #[arg(
        long,
        env = "BATON_CLIENT_TLS_CERT",
        value_name = "FILE",
        help_heading = "Client port"
    )]
    pub client_tls_cert: Option<PathBuf>,
    /// Private key of the client port (PEM) [key: client.tls.key]
    #[arg(
        long,
        env = "BATON_CLIENT_TLS_KEY",
        value_name = "FILE",
        help_heading = "Client port"
    )]
    pub client_tls_key: Option<PathBuf>,
    /// Origins whose web pages may call this port, comma separated, as in https://console.example.com; * = all
    /// [key: client.cors_origins; default: none]
    #[arg(
        long,
        env = "BATON_CLIENT_CORS_ORIGINS",
        value_name = "ORIGIN,…",
        value_delimiter = ',',
        help_heading = "Client port"
    )]
    pub client_cors_origins: Option<Vec<String>>,
    /// Requests per minute, key and endpoint, shared by the running nodes; 0 = no limit
    /// [key: limits.requests_per_minute; default: 120]
    #[arg(
        long,
        env = "BATON_LIMITS_REQUESTS_PER_MINUTE",
        value_name = "N",
        help_heading = "Client port"
    )]
    pub requests_per_minute: Option<u32>,
}

impl ClientFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("client.listen", self.client_listen.map(|at| at.to_string()));
        values.set("client.advertise", self.client_advertise.clone());
        values.set("client.tls.cert", path(self.client_tls_cert.as_deref()));
        values.set("client.tls.key", path(self.client_tls_key.as_deref()));
        values.set("client.cors_origins", self.client_cors_origins.clone());
        values.set("limits.requests_per_minute", self.requests_per_minute);
    }
}
