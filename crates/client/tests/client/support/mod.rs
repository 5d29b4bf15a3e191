//! A world of intents behind any number of nodes that can be cut off.

mod agents;
mod intents;
mod world;

pub(crate) use world::{World, refusal, until};

use baton_client::{Client, ClientBuilder};
use baton_protocol::proto::v1::agent_service_server::AgentServiceServer;
use baton_protocol::proto::v1::intent_service_server::IntentServiceServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

/// One server over a world. It has a runtime of its own, so that it can vanish with all its connections.
pub(crate) struct Node {
    pub(crate) uri: String,
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) async fn start(world: &Arc<World>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let world = Arc::clone(world);
        let started = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tonic::transport::Server::builder()
                .add_service(IntentServiceServer::new(intents::Intents {
                    world: Arc::clone(&world),
                    address: address.to_string(),
                }))
                .add_service(AgentServiceServer::new(agents::Agents {
                    world,
                    address: address.to_string(),
                }))
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::spawn(server);
            address
        });
        Self {
            uri: format!("http://{}", started.await.unwrap()),
            runtime: Some(runtime),
        }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.uri.trim_start_matches("http://")
    }

    /// Gone with all its connections; nothing of it runs any more when this returns.
    pub(crate) fn vanish(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for on a thread that drives another one.
            let gone = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10)));
            gone.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// A client that begins with the first of these nodes.
pub(crate) fn builder(nodes: &[&Node]) -> ClientBuilder {
    Client::builder()
        .endpoints(nodes.iter().map(|node| node.uri.clone()))
        .first_endpoint(0)
        .api_key("axme_test")
        .timeout(Duration::from_secs(20))
}

pub(crate) fn client(nodes: &[&Node]) -> Client {
    builder(nodes).connect_lazy().unwrap()
}
