//! The operator port.

use super::{Values, path};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, Args)]
pub struct OperatorFlags {
    /// Address and port for /metrics, probes and /status; off loopback it needs the three --operator-tls files
    /// [key: operator.listen; default: 127.0.0.1:8102]
    #[arg(
        long,
        env = "BATON_OPERATOR_LISTEN",
        value_name = "IP:PORT",
        help_heading = "Operator port"
    )]
    pub operator_listen: Option<SocketAddr>,
    /// Certificate of the operator port (PEM) [key: operator.tls.cert]
    #[arg(
        long,
        env = "BATON_OPERATOR_TLS_CERT",
        value_name = "FILE",
        help_heading = "Operator port"
    )]
    pub operator_tls_cert: Option<PathBuf>,
    /// Private key of the operator port (PEM) [key: operator.tls.key]
    #[arg(
        long,
        env = "BATON_OPERATOR_TLS_KEY",
        value_name = "FILE",
        help_heading = "Operator port"
    )]
    pub operator_tls_key: Option<PathBuf>,
    /// Authority that must have signed every operator's certificate (PEM) [key: operator.tls.ca]
    #[arg(
        long,
        env = "BATON_OPERATOR_TLS_CA",
        value_name = "FILE",
        help_heading = "Operator port"
    )]
    pub operator_tls_ca: Option<PathBuf>,
}

impl OperatorFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("operator.listen", self.operator_listen.map(|at| at.to_string()));
        values.set("operator.tls.cert", path(self.operator_tls_cert.as_deref()));
        values.set("operator.tls.key", path(self.operator_tls_key.as_deref()));
        values.set("operator.tls.ca", path(self.operator_tls_ca.as_deref()));
    }
}
