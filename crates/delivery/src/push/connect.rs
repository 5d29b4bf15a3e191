//! Connections to endpoints: the address that was judged is the address that is dialled.

use super::guard::{Blocked, Guard};
use super::settings::{ADDRESS_TIMEOUT_MAX, CONNECT_TIMEOUT};
use async_trait::async_trait;
use futures::future::BoxFuture;
use hyper::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

/// Turns names into addresses.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// Addresses of `host`, in the order in which they are tried.
    ///
    /// # Errors
    /// When there are none.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// What the operating system says.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    #[error(transparent)]
    Blocked(#[from] Blocked),
    #[error("no connection")]
    Dial(#[source] io::Error),
    #[error("no connection in time")]
    Timeout,
}

/// TCP to addresses that the guard lets pass.
#[derive(Clone)]
pub(crate) struct GuardedTcp {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) guard: Arc<Guard>,
}

impl GuardedTcp {
    async fn dial(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let resolved = self.resolver.resolve(host, port).await;
                resolved.map_err(ConnectError::Resolve)?
            }
        };
        let mut failure = ConnectError::Resolve(io::Error::new(io::ErrorKind::NotFound, "no address"));
        let patience = patience(addresses.len());
        for address in addresses {
            if let Err(blocked) = self.guard.check(address.ip()) {
                failure = blocked.into();
                continue;
            }
            match timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Requests are written whole; waiting for more would only delay them.
                    stream.set_nodelay(true).map_err(ConnectError::Dial)?;
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => failure = ConnectError::Dial(error),
                Err(_) => failure = ConnectError::Timeout,
            }
        }
        Err(failure)
    }
}

/// For each of so many addresses: one that swallows everything must leave time for the others.
fn patience(addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses.max(1)).unwrap_or(u32::MAX);
    (CONNECT_TIMEOUT / addresses).min(ADDRESS_TIMEOUT_MAX)
}

impl Service<Uri> for GuardedTcp {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

type Secured = HttpsConnector<GuardedTcp>;

/// TCP and TLS within [`CONNECT_TIMEOUT`], also where nobody waits for the connection any more.
#[derive(Clone)]
pub(crate) struct Dialer(pub(crate) Secured);

impl Service<Uri> for Dialer {
    type Response = <Secured as Service<Uri>>::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectError::Timeout.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_gets_its_share_of_the_time() {
        for addresses in 0..100 {
            let share = patience(addresses);
            assert!(!share.is_zero() && share <= ADDRESS_TIMEOUT_MAX);
            assert!(share * u32::try_from(addresses).unwrap() <= CONNECT_TIMEOUT);
        }
    }
}
