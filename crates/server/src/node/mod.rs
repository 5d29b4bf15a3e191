//! One running node: consensus, delivery and gateway wired together, from the first listener to the last flush.

mod bootstrap;
mod leaders;

use crate::adapters::{
    ConsensusCluster, ConsensusNetwork, ConsensusPorts, DispatchStreams, HubFeed, HubWork, NodeHealth,
};
use crate::config::{Config, Tls};
use crate::exit::{ExitCode, Failure};
use crate::operator::{self, Operator};
use crate::telemetry::{self, Telemetry};
use baton_consensus::{ConsensusConfig, ConsensusHandle, Node, PeerTls, Settings, StartError};
use baton_delivery::{AgentHub, DeliverySettings, Dispatcher, WorkHub};
use baton_gateway::ports::Ports;
use baton_gateway::{GatewayConfig, TlsFiles};
use baton_raft_storage::DataDir;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time the runtime's last tasks get after everything that matters has ended.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(2);
/// Time deliveries get to close their streams.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(5);
/// Time consensus gets to hand over and flush.
const CONSENSUS_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a node until SIGTERM, Ctrl-C, or, with `exit_on_stdin_eof`, the end of standard input.
///
/// # Errors
/// What kept the node from starting (exit 1 or 78), or what stopped it (exit 70).
pub fn run(config: Config, exit_on_stdin_eof: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("baton")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start a runtime: {error}")))?;
    let result = runtime.block_on(async {
        let telemetry = telemetry::init(&config)?;
        let result = Box::pin(live(config, exit_on_stdin_eof)).await;
        // Everything else was refused before the node did anything; the command line prints that one line.
        if let Err(failure) = &result
            && failure.code == ExitCode::Fatal
        {
            tracing::error!(code = failure.code as u8, "{failure}");
        }
        flush(telemetry).await;
        result
    });
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    result
}

/// Exporters block while they send.
async fn flush(telemetry: Telemetry) {
    if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
        tracing::warn!(%error, "the last spans could not be exported");
    }
}

async fn live(config: Config, exit_on_stdin_eof: bool) -> Result<(), Failure> {
    tracing::debug!(config = %config.to_toml().replace('\n', "; "), "effective configuration");
    let metrics = telemetry::install_metrics()?;
    baton_raft_storage::metrics::describe();
    tokio::spawn(telemetry::keep_metrics(metrics.clone()));

    let client = bind("client.listen", config.client.listen).await?;
    let operator_listener = bind("operator.listen", config.operator.listen).await?;
    if config.cluster.peers.len() > 1 {
        // Let go of at once: consensus opens it behind the data directory, which a taken port must not touch.
        drop(bind("peer.listen", config.peer.listen).await?);
    }
    let operator_tls = operator::tls::server_config(&config.operator.tls, "operator")?;
    let (fatal, mut failed) = mpsc::channel(1);
    let consensus = consensus_config(&config, fatal)?;
    // Locked and checked before the first line of the log, so that a refusal is the only line.
    let directory = DataDir::open(&config.data_dir).map_err(|reason| Failure::config(reason.to_string()))?;
    if let Some(stamp) = directory.stamp() {
        consensus.check_stamp(stamp).map_err(Failure::config)?;
    }
    drop(directory);
    tracing::info!(
        name = config.name,
        version = env!("CARGO_PKG_VERSION"),
        client = %config.client.listen,
        peer = %config.peer.listen,
        operator = %config.operator.listen,
        data_dir = %config.data_dir.display(),
        "starting"
    );
    let health = Arc::new(NodeHealth::new(config.name.clone()));
    let beating = Arc::clone(&health);
    tokio::spawn(async move { beating.beat().await });
    let end = CancellationToken::new();
    let pages = Operator {
        metrics,
        health: health.clone(),
        status: health.clone(),
    };
    tokio::spawn(operator::serve(
        operator_listener,
        operator_tls,
        pages,
        end.clone(),
    ));
    let _end = end.drop_guard();

    let starting = StartingGateway::start(client, &config, health.clone());
    let mut stop = Box::pin(asked_to_stop(exit_on_stdin_eof));
    let handle = tokio::select! {
        started = start_consensus(&config, consensus) => started?,
        reason = &mut stop => {
            tracing::info!(reason, "stopped before the node was up");
            return Ok(());
        }
        Some(failure) = failed.recv() => return Err(failure),
    };
    health.started(handle.clone());
    let services = Services::start(&config, &handle, &health, starting.end().await?)?;
    tracing::info!(node_id = handle.node_id(), "serving");
    tokio::select! {
        reason = &mut stop => tracing::info!(reason, "shutting down"),
        // Nothing may be promised any more: no hand-over, no flush of what can no longer be trusted.
        Some(failure) = failed.recv() => return Err(failure),
        gateway = services.gateway_ended() => return Err(gateway),
    }
    health.drain();
    // While the ports still answer: whoever asks here meanwhile is forwarded to the new leaders, and nobody finds a
    // leader that no longer listens.
    handle.hand_over().await;
    services.stop().await;
    if tokio::time::timeout(CONSENSUS_PATIENCE, handle.shutdown())
        .await
        .is_err()
    {
        return Err(Failure::failed(
            "consensus did not stop in time; the next start replays the log, nothing is lost",
        ));
    }
    tracing::info!("stopped");
    Ok(())
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!(
            "cannot listen on {address}: {error}; stop what uses this port or set {key} to another one"
        ))
    })
}

fn consensus_config(config: &Config, fatal: mpsc::Sender<Failure>) -> Result<ConsensusConfig, Failure> {
    let tls = peer_tls(&config.peer.tls);
    let on_fatal = Arc::new(move |reason: &str| {
        // The first one decides; the node is on its way out when the channel is full.
        _ = fatal.try_send(Failure::fatal(format!(
            "{reason}; the node stops. Restart it; if this repeats, remove the directories log and replicas from \
             its data directory, but keep node.pb: it is then synced from its peers"
        )));
    });
    let consensus = ConsensusConfig::new(
        config.data_dir.clone(),
        config.peer_addresses(),
        config.cluster.ordinal,
        tls.as_ref(),
        bootstrap::command(config)?,
        on_fatal,
    )
    .map_err(|error| Failure::config(format!("peer.tls: {error}; correct the files")))?;
    Ok(ConsensusConfig {
        peer_listen: Some(config.peer.listen.to_string()),
        client_address: config.client_address(),
        name: config.name.clone(),
        shard_groups: config.cluster.shard_groups,
        settings: Settings {
            audit_retention_ms: config.cluster.audit_retention_ms,
            ..Settings::default()
        },
        table_memory_bytes: config.storage.table_memory_bytes,
        trust_cut_log: config.storage.trust_cut_log,
        disk_free_min_bytes: config.storage.disk_free_min_bytes,
        ..consensus
    })
}

async fn start_consensus(config: &Config, consensus: ConsensusConfig) -> Result<ConsensusHandle, Failure> {
    Box::pin(Node::start(consensus))
        .await
        .map_err(|error| match error {
            StartError::Config(reason) => Failure::config(reason),
            StartError::DataDir(reason) => Failure::config(reason.to_string()),
            StartError::Listen(reason) => Failure::failed(format!(
                "cannot listen on {}: {reason}; stop what uses this port or set peer.listen to another one",
                config.peer.listen
            )),
            StartError::Bootstrap(reason) => Failure::failed(format!(
                "the cluster was not created: {reason}; correct that and start this node again"
            )),
            StartError::Failed(reason) => Failure::fatal(reason),
        })
}

fn peer_tls(tls: &Tls) -> Option<PeerTls> {
    match (&tls.cert, &tls.key, &tls.ca) {
        (Some(cert), Some(key), Some(ca)) => Some(PeerTls {
            cert: cert.clone(),
            key: key.clone(),
            ca: ca.clone(),
        }),
        _ => None,
    }
}

/// Answers probes on the client port until the node serves on it.
struct StartingGateway {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<TcpListener>>,
}

impl StartingGateway {
    fn start(listener: TcpListener, config: &Config, health: Arc<NodeHealth>) -> Self {
        let stop = CancellationToken::new();
        let config = gateway_config(config, Settings::default());
        let serving = baton_gateway::serve_probes(listener, config, health, stop.clone());
        Self {
            task: tokio::spawn(serving),
            stop,
        }
    }

    async fn end(self) -> Result<TcpListener, Failure> {
        self.stop.cancel();
        match self.task.await {
            Ok(Ok(listener)) => Ok(listener),
            Ok(Err(error)) => Err(Failure::config(format!("client.tls: {error}; correct the files"))),
            Err(error) => Err(Failure::fatal(format!("the client port ended: {error}"))),
        }
    }
}

/// Delivery and gateway.
struct Services {
    tasks: TaskTracker,
    gateway_stop: CancellationToken,
    delivery_stop: CancellationToken,
    gateway: tokio::task::JoinHandle<std::io::Result<()>>,
    gateway_failed: tokio::sync::watch::Receiver<bool>,
}

impl Services {
    fn start(
        config: &Config,
        handle: &ConsensusHandle,
        health: &Arc<NodeHealth>,
        listener: TcpListener,
    ) -> Result<Self, Failure> {
        let tasks = TaskTracker::new();
        let delivery_stop = CancellationToken::new();
        let settings = DeliverySettings {
            visibility_timeout_ms: config.delivery.visibility_timeout_ms,
            pickup_timeout_ms: config.delivery.pickup_timeout_ms,
            ..DeliverySettings::default()
        };
        let dispatcher = Dispatcher::new();
        handle.set_stream_handler(Arc::new(DispatchStreams(Arc::clone(&dispatcher))));
        let network = Arc::new(ConsensusNetwork::new(handle.clone()));
        let hub = AgentHub::new(
            network.clone(),
            handle.group_map(),
            settings,
            delivery_stop.clone(),
        );
        let work = WorkHub::new(
            network.clone(),
            handle.group_map(),
            settings,
            delivery_stop.clone(),
        );
        let push =
            crate::adapters::push(&config.push, handle, &tasks, &delivery_stop).map_err(Failure::config)?;
        let notifier =
            crate::adapters::notifier(&config.notifier, push.client(), handle).map_err(Failure::config)?;
        for group in handle.groups() {
            let Some(leadership) = handle.leadership(group) else {
                continue;
            };
            let leader = leaders::Leader {
                handle: handle.clone(),
                network: network.clone(),
                dispatcher: Arc::clone(&dispatcher),
                settings,
                push: Arc::clone(&push),
                notifier: notifier.clone(),
                health: Arc::clone(health),
            };
            tasks.spawn(leader.follow(leadership, delivery_stop.clone()));
        }
        tasks.close();
        let consensus = Arc::new(ConsensusPorts::new(handle.clone()));
        let ports = Ports {
            proposer: consensus.clone(),
            reader: consensus.clone(),
            events: consensus.clone(),
            agents: Arc::new(HubFeed::new(hub)),
            work: Arc::new(HubWork::new(work)),
            environment: consensus,
            health: health.clone(),
            cluster: Arc::new(ConsensusCluster::new(handle.clone())),
            group_map: handle.group_map(),
        };
        let gateway_stop = CancellationToken::new();
        let (failed, gateway_failed) = tokio::sync::watch::channel(false);
        let gateway = gateway_config(config, handle.settings());
        let serving = baton_gateway::serve(listener, gateway, ports, gateway_stop.clone());
        let gateway = tokio::spawn(async move {
            let served = serving.await;
            failed.send_replace(true);
            served
        });
        Ok(Self {
            tasks,
            gateway_stop,
            delivery_stop,
            gateway,
            gateway_failed,
        })
    }

    /// Resolves when the gateway ends without having been told to.
    async fn gateway_ended(&self) -> Failure {
        let mut failed = self.gateway_failed.clone();
        // A closed channel means a panic, which ends the gateway as well.
        _ = failed.wait_for(|&failed| failed).await;
        Failure::config("the client port could not be served; check client.tls.cert and client.tls.key")
    }

    /// Stops accepting and finishes requests, then ends deliveries.
    async fn stop(self) {
        self.gateway_stop.cancel();
        match self.gateway.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the client port ended with an error"),
            Err(error) => tracing::warn!(%error, "the client port ended with an error"),
        }
        self.delivery_stop.cancel();
        if tokio::time::timeout(DELIVERY_PATIENCE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("deliveries did not end in time; the next leader repeats what is open");
        }
    }
}

fn gateway_config(config: &Config, settings: Settings) -> GatewayConfig {
    let tls = match (&config.client.tls.cert, &config.client.tls.key) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        _ => None,
    };
    GatewayConfig {
        tls,
        cors_origins: config.client.cors_origins.clone(),
        push_allow_http: config.push.allow_http,
        requests_per_minute: config.limits.requests_per_minute,
        connections_max: config.limits.connections,
        streams_max: config.limits.streams,
        connection_streams_max: config.limits.streams_per_connection,
        idempotency_retention_ms: settings.idempotency_retention_ms,
        terminal_retention_ms: settings.terminal_retention_ms,
        ..GatewayConfig::default()
    }
}

/// Resolves with the reason to stop.
async fn asked_to_stop(exit_on_stdin_eof: bool) -> &'static str {
    let parent_gone = async {
        if !exit_on_stdin_eof {
            return std::future::pending().await;
        }
        let (gone, wait) = tokio::sync::oneshot::channel();
        // A thread of its own: a blocking read must not hold the runtime open at the end.
        std::thread::spawn(move || {
            _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            _ = gone.send(());
        });
        _ = wait.await;
    };
    tokio::select! {
        () = crate::cli::interrupted() => "signal",
        () = parent_gone => "the parent closed standard input",
    }
}
