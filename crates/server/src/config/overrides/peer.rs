//! The peer port.

use super::{Values, path};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Args)]
pub struct PeerFlags {
    /// Address and port for the other nodes; off loopback it needs the three --peer-tls files
    /// [key: peer.listen; default: 127.0.0.1:8101]
    #[arg(
        long,
        env = "BATON_PEER_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Peer port"
    )]
    pub peer_listen: Option<SocketAddr>,
    /// host:port under which the other nodes reach this one [key: peer.advertise; default: peer.listen]
    #[arg(
        long,
        env = "BATON_PEER_ADVERTISE",
        value_name = "HOST:PORT",
        help_heading = "Peer port"
    )]
    pub peer_advertise: Option<String>,
    /// Certificate of this node for peers, used as server and as client (PEM) [key: peer.tls.cert]
    #[arg(
        long,
        env = "BATON_PEER_TLS_CERT",
        value_name = "FILE",
        help_heading = "Peer port"
    )]
    pub peer_tls_cert: Option<PathBuf>,
    /// Private key of this node for peers (PEM) [key: peer.tls.key]
    #[arg(
        long,
        env = "BATON_PEER_TLS_KEY",
        value_name = "FILE",
        help_heading = "Peer port"
    )]
    pub peer_tls_key: Option<PathBuf>,
    /// Authority that must have signed every peer (PEM) [key: peer.tls.ca]
    #[arg(
        long,
        env = "BATON_PEER_TLS_CA",
        value_name = "FILE",
        help_heading = "Peer port"
    )]
    pub peer_tls_ca: Option<PathBuf>,
}

impl PeerFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("peer.listen", self.peer_listen.map(|at| at.to_string()));
        values.set("peer.advertise", self.peer_advertise.clone());
        values.set("peer.tls.cert", path(self.peer_tls_cert.as_deref()));
        values.set("peer.tls.key", path(self.peer_tls_key.as_deref()));
        values.set("peer.tls.ca", path(self.peer_tls_ca.as_deref()));
    }
}
