//! What push asks of its node.

use baton_consensus::ConsensusHandle;
use baton_delivery::push::{MetaTables, SystemResolver};
use baton_delivery::{AppliedFeed, Push, PushBody, PushClient, PushDirectory};
use baton_protocol::proto::internal::{Query, QueryReply};
use baton_protocol::{FeedItem, META_GROUP, Route, ServiceError};
use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::delivery::Applied;
use crate::config;

/// This node's replica of the meta group.
struct LocalMeta(ConsensusHandle);

impl MetaTables for LocalMeta {
    fn query(&self, query: &Query) -> Result<QueryReply, ServiceError> {
        self.0.read_local(Route::Meta, query)
    }

    fn applied(&self) -> Box<dyn AppliedFeed> {
        Box::new(Applied(self.0.subscribe_applied(META_GROUP)))
    }

    fn is_fresh(&self) -> bool {
        self.0.meta_fresh()
    }
}

/// Bodies as the client surface renders deliveries.
struct SurfaceBody;

impl PushBody for SurfaceBody {
    fn render(&self, item: &FeedItem, delivery_id: &str, replay: bool) -> Bytes {
        baton_gateway::push_body(item, delivery_id, replay).into()
    }
}

/// Push of a running node; follows the meta group as one of `tasks` until `stop`.
///
/// # Errors
/// When `push.ca` cannot be used.
pub fn push(
    config: &config::Push,
    handle: &ConsensusHandle,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<Push>, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        tracing::warn!(
            "this system has no certificate authorities: only endpoints of push.ca and http can be pushed to"
        );
    }
    roots.add_parsable_certificates(authorities(config.ca.as_deref())?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let settings = config.settings();
    let client = PushClient::new(&settings, tls, Arc::new(SystemResolver));
    let meta = Arc::new(LocalMeta(handle.clone()));
    let directory = PushDirectory::new(meta, handle.group_map());
    tasks.spawn(Arc::clone(&directory).run(stop.clone()));
    Ok(Push::new(directory, client, settings, Arc::new(SurfaceBody)))
}

/// The certificates of `push.ca`; none when it is absent.
///
/// # Errors
/// What is wrong with the file, and the fix.
pub fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(path) = ca else {
        return Ok(Vec::new());
    };
    certificates("push.ca", path)
}

/// The certificates in the file of a key.
pub(super) fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| {
            format!(
                "{key}: cannot read {} ({error}); correct the path",
                path.display()
            )
        })?;
    if found.is_empty() {
        return Err(format!(
            "{key}: {} holds no certificate; name a PEM file with an authority",
            path.display()
        ));
    }
    Ok(found)
}
