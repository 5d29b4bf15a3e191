//! RabbitMQ: quorum queues, publisher confirms, consumers with acknowledgement.

use crate::peer::{Peer, Waiting, number_of, payload, result};
use anyhow::Context as _;
use async_trait::async_trait;
use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use std::sync::Arc;

/// Messages a consumer may hold.
const PREFETCH: u16 = 1024;
/// Messages that survive a restart.
const PERSISTENT: u8 = 2;

pub(crate) struct Rabbitmq {
    channel: Channel,
    bytes: usize,
    waiting: Arc<Waiting>,
    _connections: Vec<Connection>,
}

impl Rabbitmq {
    pub(crate) async fn connect(servers: &[String], bytes: usize) -> anyhow::Result<Arc<dyn Peer>> {
        let mut connections = Vec::new();
        for server in servers {
            connections.push(Connection::connect(server, ConnectionProperties::default()).await?);
        }
        let of = |n: usize| &connections[n % connections.len()];
        let channel = confirmed(of(0)).await?;
        for queue in ["sink", "jobs", "results"] {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            channel
                .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
                .await?;
        }
        let waiting = Arc::new(Waiting::default());
        consume(of(1), "jobs", Consumer::Worker(confirmed(of(1)).await?)).await?;
        consume(of(2), "results", Consumer::Submitter(Arc::clone(&waiting))).await?;
        Ok(Arc::new(Self {
            channel,
            bytes,
            waiting,
            _connections: connections,
        }))
    }
}

#[async_trait]
impl Peer for Rabbitmq {
    async fn submit(&self, number: u64) -> anyhow::Result<()> {
        publish(&self.channel, "sink", &payload(number, self.bytes)).await
    }

    async fn cycle(&self, number: u64) -> anyhow::Result<()> {
        let end = self.waiting.expect(number);
        publish(&self.channel, "jobs", &payload(number, self.bytes)).await?;
        self.waiting.end(number, end).await
    }
}

async fn confirmed(connection: &Connection) -> anyhow::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn publish(channel: &Channel, queue: &str, text: &str) -> anyhow::Result<()> {
    let confirmation = channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            text.as_bytes(),
            BasicProperties::default().with_delivery_mode(PERSISTENT),
        )
        .await?
        .await?;
    anyhow::ensure!(confirmation.is_ack(), "not confirmed");
    Ok(())
}

#[derive(Clone)]
enum Consumer {
    Worker(Channel),
    Submitter(Arc<Waiting>),
}

impl Consumer {
    async fn take(self, delivery: Delivery) -> anyhow::Result<()> {
        let number = number_of(&delivery.data)?;
        match self {
            // The job goes only after its result is safe.
            Self::Worker(channel) => publish(&channel, "results", &result(number)).await?,
            Self::Submitter(waiting) => waiting.seen(number),
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}

async fn consume(connection: &Connection, queue: &str, consumer: Consumer) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(
            queue.into(),
            format!("{queue}-consumer").into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .context("cannot consume")?;
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            match delivery {
                Ok(delivery) => {
                    let consumer = consumer.clone();
                    tokio::spawn(async move {
                        if let Err(error) = consumer.take(delivery).await {
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
