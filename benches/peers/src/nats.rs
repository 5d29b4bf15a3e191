//! NATS JetStream: streams with three replicas on disk, a pull consumer with explicit acknowledgement.

use crate::peer::{Peer, Waiting, number_of, payload, result};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, Message};
use async_trait::async_trait;
use futures::StreamExt as _;
use std::sync::Arc;

/// Messages a consumer may hold.
const IN_FLIGHT: i64 = 1024;
const REPLICAS: usize = 3;

pub(crate) struct Nats {
    jetstream: Context,
    bytes: usize,
    waiting: Arc<Waiting>,
}

impl Nats {
    pub(crate) async fn connect(servers: &[String], bytes: usize) -> anyhow::Result<Arc<dyn Peer>> {
        let jetstream = async_nats::jetstream::new(async_nats::connect(servers).await?);
        for (name, retention) in [
            ("sink", RetentionPolicy::Limits),
            ("jobs", RetentionPolicy::WorkQueue),
            ("results", RetentionPolicy::WorkQueue),
        ] {
            let config = Config {
                name: name.to_owned(),
                subjects: vec![name.to_owned()],
                retention,
                storage: StorageType::File,
                num_replicas: REPLICAS,
                ..Config::default()
            };
            jetstream.create_stream(config).await?;
        }
        let waiting = Arc::new(Waiting::default());
        consume(&jetstream, "jobs", Consumer::Worker(jetstream.clone())).await?;
        consume(&jetstream, "results", Consumer::Submitter(Arc::clone(&waiting))).await?;
        Ok(Arc::new(Self {
            jetstream,
            bytes,
            waiting,
        }))
    }

    async fn publish(&self, subject: &'static str, number: u64) -> anyhow::Result<()> {
        let text = payload(number, self.bytes);
        self.jetstream.publish(subject, text.into()).await?.await?;
        Ok(())
    }
}

#[async_trait]
impl Peer for Nats {
    async fn submit(&self, number: u64) -> anyhow::Result<()> {
        self.publish("sink", number).await
    }

    async fn cycle(&self, number: u64) -> anyhow::Result<()> {
        let end = self.waiting.expect(number);
        self.publish("jobs", number).await?;
        self.waiting.end(number, end).await
    }
}

#[derive(Clone)]
enum Consumer {
    Worker(Context),
    Submitter(Arc<Waiting>),
}

impl Consumer {
    async fn take(self, message: Message) -> anyhow::Result<()> {
        let number = number_of(&message.payload)?;
        match self {
            // The job goes only after its result is safe.
            Self::Worker(jetstream) => _ = jetstream.publish("results", result(number).into()).await?.await?,
            Self::Submitter(waiting) => waiting.seen(number),
        }
        message.ack().await.map_err(|error| anyhow::anyhow!(error))
    }
}

async fn consume(jetstream: &Context, stream: &str, consumer: Consumer) -> anyhow::Result<()> {
    let config = pull::Config {
        durable_name: Some(format!("{stream}-consumer")),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: IN_FLIGHT,
        ..pull::Config::default()
    };
    let mut messages = jetstream
        .create_consumer_on_stream(config, stream)
        .await?
        .messages()
        .await?;
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            match message {
                Ok(message) => {
                    let consumer = consumer.clone();
                    tokio::spawn(async move {
                        if let Err(error) = consumer.take(message).await {
                            eprintln!("a message was not taken: {error:#}");
                        }
                    });
                }
                Err(error) => eprintln!("a consumer failed: {error}"),
            }
        }
    });
    Ok(())
}
