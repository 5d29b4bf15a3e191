//! etcd: a job is a key; a worker watches, writes the result and removes the job in one transaction; the submitter
//! watches results. etcd is no broker: this is what people build on it.

use crate::peer::{Peer, Waiting, number_of, payload, result};
use anyhow::Context as _;
use async_trait::async_trait;
use etcd_client::{Client, EventType, Txn, TxnOp, WatchOptions};
use std::sync::Arc;

const SINK: &str = "sink/";
const JOBS: &str = "jobs/";
const RESULTS: &str = "results/";

pub(crate) struct Etcd {
    client: Client,
    bytes: usize,
    waiting: Arc<Waiting>,
}

impl Etcd {
    pub(crate) async fn connect(servers: &[String], bytes: usize) -> anyhow::Result<Arc<dyn Peer>> {
        let client = Client::connect(servers, None).await?;
        let waiting = Arc::new(Waiting::default());
        watch(&client, JOBS, Watcher::Worker(client.clone())).await?;
        watch(
            &client,
            RESULTS,
            Watcher::Submitter(client.clone(), Arc::clone(&waiting)),
        )
        .await?;
        Ok(Arc::new(Self {
            client,
            bytes,
            waiting,
        }))
    }

    async fn put(&self, prefix: &str, number: u64) -> anyhow::Result<()> {
        let key = format!("{prefix}{number}");
        self.client
            .clone()
            .put(key, payload(number, self.bytes), None)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Peer for Etcd {
    async fn submit(&self, number: u64) -> anyhow::Result<()> {
        self.put(SINK, number).await
    }

    async fn cycle(&self, number: u64) -> anyhow::Result<()> {
        let end = self.waiting.expect(number);
        self.put(JOBS, number).await?;
        self.waiting.end(number, end).await
    }
}

#[derive(Clone)]
enum Watcher {
    Worker(Client),
    Submitter(Client, Arc<Waiting>),
}

impl Watcher {
    async fn take(self, number: u64) -> anyhow::Result<()> {
        match self {
            Self::Worker(mut client) => {
                let done = Txn::new().and_then(vec![
                    TxnOp::put(format!("{RESULTS}{number}"), result(number), None),
                    TxnOp::delete(format!("{JOBS}{number}"), None),
                ]);
                client.txn(done).await?;
            }
            Self::Submitter(mut client, waiting) => {
                waiting.seen(number);
                client.delete(format!("{RESULTS}{number}"), None).await?;
            }
        }
        Ok(())
    }
}

async fn watch(client: &Client, prefix: &'static str, watcher: Watcher) -> anyhow::Result<()> {
    let mut changes = client
        .clone()
        .watch(prefix, Some(WatchOptions::new().with_prefix()))
        .await?;
    let created = changes.message().await?.context("no answer to the watch")?;
    anyhow::ensure!(created.created(), "the watch was refused");
    tokio::spawn(async move {
        loop {
            let change = match changes.message().await {
                Ok(Some(change)) => change,
                Ok(None) => return,
                Err(error) => {
                    eprintln!("a watch failed: {error}");
                    return;
                }
            };
            let puts = change
                .events()
                .iter()
                .filter(|event| event.event_type() == EventType::Put);
            for number in puts.filter_map(|event| number_of(event.kv()?.value()).ok()) {
                let watcher = watcher.clone();
                tokio::spawn(async move {
                    if let Err(error) = watcher.take(number).await {
                        eprintln!("a key was not taken: {error}");
                    }
                });
            }
        }
    });
    Ok(())
}
