//! Starts a node on a thread of its own, and stops it.

use crate::apply_hub::ApplyHub;
use crate::bootstrap;
use crate::cluster_time::ClusterTime;
use crate::config::ConsensusConfig;
use crate::core::{Core, Stop};
use crate::directory::Directory;
use crate::duties;
use crate::endpoint::Endpoint;
use crate::group::{Group, Shared};
use crate::handle::ConsensusHandle;
use crate::network::Links;
use baton_raft_storage::{DataDir, LogEngine, NodeStamp, StorageWorkers, TableMemory};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const THREAD: &str = "consensus";
/// A group's tasks that have not ended by then are left behind.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("configuration: {0}")]
    Config(String),
    #[error("data directory: {0}")]
    DataDir(#[from] baton_raft_storage::DataDirError),
    #[error("peer listener: {0}")]
    Listen(std::io::Error),
    /// The first command could not be made. Nothing was committed; the next start tries again.
    #[error("cluster not created: {0}")]
    Bootstrap(String),
    #[error("{0}")]
    Failed(String),
}

/// Entry point of this crate.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node and returns once its groups run: after a restart when recovery is done, in a new cluster when
    /// it has been created. Dropping the future stops a node that is still waiting for that.
    ///
    /// # Errors
    /// When configuration, data directory or listener are unusable.
    pub async fn start(config: ConsensusConfig) -> Result<ConsensusHandle, StartError> {
        config.validate().map_err(StartError::Config)?;
        let (ready, started) = oneshot::channel();
        std::thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || run(config, ready))
            .map_err(|e| StartError::Failed(format!("cannot start the consensus thread: {e}")))?;
        started.await.unwrap_or_else(|_| {
            Err(StartError::Failed(
                "the consensus thread ended while starting".into(),
            ))
        })
    }
}

type Ready = oneshot::Sender<Result<ConsensusHandle, StartError>>;

fn run(config: ConsensusConfig, ready: Ready) {
    // Every group, link and proposer of this node lives on this one thread: a hop between threads per message costs
    // more than the work itself.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(StartError::Failed(format!(
                "cannot start the runtime: {error}"
            ))));
            return;
        }
    };
    let stopped = runtime.block_on(Box::pin(live(config, ready)));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    if let Some(stopped) = stopped {
        stopped.finish();
    }
}

/// What is left to do when every task has ended.
struct Stopped {
    /// Tells whoever waits for the end.
    done: Box<dyn FnOnce()>,
    /// Kept locked until here.
    dir: DataDir,
    engine: LogEngine,
}

impl Stopped {
    fn finish(self) {
        let Self { done, dir, engine } = self;
        engine.close();
        drop(engine);
        drop(dir);
        done();
    }
}

async fn live(config: ConsensusConfig, mut ready: Ready) -> Option<Stopped> {
    let started = tokio::select! {
        started = Box::pin(start(config)) => started,
        () = ready.closed() => return None,
    };
    let (node, mut stop) = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return None;
        }
    };
    let Started {
        core,
        dir,
        engine,
        stamp,
        listener,
    } = node;
    tokio::select! {
        result = Box::pin(settle(&core, &stamp)) => {
            if let Err(error) = result {
                stop_groups(&core).await;
                drop(listener);
                // Only a directory that is free again can be started on again.
                let done = Box::new(move || {
                    let _ = ready.send(Err(error));
                });
                return Some(Stopped { done, dir, engine });
            }
        }
        () = ready.closed() => return None,
    }
    let _ = ready.send(Ok(ConsensusHandle::new(core.clone())));
    let how = stop.recv().await?;
    let done = match how {
        Stop::Graceful(done) => {
            core.set_stopping();
            duties::hand_over(&core).await;
            stop_groups(&core).await;
            done
        }
        Stop::Abrupt(done) => {
            core.set_stopping();
            done
        }
    };
    drop(listener);
    // The caller may not wait.
    let done = Box::new(move || {
        let _ = done.send(());
    });
    Some(Stopped { done, dir, engine })
}

/// Finishes creating the cluster where that is this node's part, and waits until every group has applied what
/// was committed before. Peers are answered meanwhile: it takes a majority of the nodes.
async fn settle(core: &Core, stamp: &NodeStamp) -> Result<(), StartError> {
    if bootstrap::is_creator(&core.directory) {
        bootstrap::finish_creation(core, stamp).await?;
    }
    for group in core.groups.values() {
        group.recovered().await.map_err(StartError::Failed)?;
    }
    Ok(())
}

/// Ends every group, then marks its tables clean.
async fn stop_groups(core: &Core) {
    for group in core.groups.values() {
        if tokio::time::timeout(STOP_TIMEOUT, group.raft.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(group_id = %group.id, "group did not stop in time; its tables are rebuilt at the next start");
            continue;
        }
        let tables = group.tables.clone();
        let closed = tokio::task::spawn_blocking(move || tables.close_clean()).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(group_id = %group.id, %error, "tables not closed cleanly; they are rebuilt at the next start");
        }
    }
}

struct Started {
    core: Arc<Core>,
    dir: DataDir,
    engine: LogEngine,
    stamp: NodeStamp,
    /// Dropping it closes the peer listener.
    listener: Option<Box<dyn std::any::Any + Send>>,
}

async fn start(config: ConsensusConfig) -> Result<(Started, mpsc::Receiver<Stop>), StartError> {
    let config = Arc::new(config);
    let mut dir = DataDir::open(&config.data_dir)?;
    if let Some(stamp) = dir.stamp() {
        config.check_stamp(stamp).map_err(StartError::Config)?;
    }
    let (endpoint, mut adoptions) = Endpoint::new(&config, dir.stamp().cloned());
    let listener = if config.peers.len() > 1 {
        let listen = config.peer_listen.as_ref().unwrap_or(config.own_address());
        Some(
            config
                .transport
                .serve(listen, endpoint.clone())
                .await
                .map_err(StartError::Listen)?,
        )
    } else {
        None
    };
    let new_member = dir.stamp().is_none();
    let stamp = bootstrap::identity(&config, &mut dir, &endpoint, &mut adoptions)
        .await
        .map_err(StartError::Failed)?;
    let (stop, stopping) = mpsc::channel(1);
    let (core, engine) = open(config, &dir, &stamp, new_member, stop)
        .await
        .map_err(StartError::Failed)?;
    endpoint.set_core(core.clone());
    duties::start(&core);
    Ok((
        Started {
            core,
            dir,
            engine,
            stamp,
            listener,
        },
        stopping,
    ))
}

async fn open(
    config: Arc<ConsensusConfig>,
    dir: &DataDir,
    stamp: &NodeStamp,
    new_member: bool,
    stop: mpsc::Sender<Stop>,
) -> Result<(Arc<Core>, LogEngine), String> {
    let directory = Arc::new(Directory::new(stamp).map_err(|e| e.to_string())?);
    let clients = directory
        .peers()
        .map(|node| {
            (
                node,
                config.transport.connect(&directory.members[&node].peer_address),
            )
        })
        .collect();
    let links = Arc::new(Links::new(directory.clone(), clients));
    let time = Arc::new(ClusterTime::new(
        config.clock.clone(),
        directory.node_id,
        directory.members.len(),
        config.clock_skew_max_ms,
    ));
    let hub = Arc::new(ApplyHub::new(directory.map, time.clone()));
    let engine = LogEngine::open(&dir.log_dir(), config.log.clone()).map_err(|e| e.to_string())?;
    let raft_config = config.timing.raft_config("baton").map_err(|e| e.to_string())?;
    let shared = Shared {
        config: config.clone(),
        raft_config: Arc::new(raft_config),
        links: links.clone(),
        time: time.clone(),
        hub: hub.clone(),
        engine: engine.clone(),
        new_member,
        workers: StorageWorkers::start().map_err(|e| e.to_string())?,
        table_memory: TableMemory::new(
            config.table_memory_bytes,
            u64::from(directory.map.shard_groups()) + 1,
        ),
    };
    let mut groups = BTreeMap::new();
    for id in directory
        .map
        .all()
        .filter(|id| directory.replica_on(*id, directory.node_id).is_some())
    {
        let group = Box::pin(Group::open(id, dir, &shared)).await?;
        groups.insert(id, Arc::new(group));
    }
    for group in groups.values() {
        let log_time = group
            .tables
            .read(baton_state_machine::log_time_ms)
            .map_err(|e| e.to_string())?;
        time.observe_log_time(log_time);
    }
    let core = Core::new(config, links, time, hub, groups, engine.clone(), stop);
    Ok((Arc::new(core), engine))
}
