//! PostgreSQL as a queue: a table of jobs, workers that take rows with SKIP LOCKED, LISTEN and NOTIFY as the bell.

use crate::peer::{Peer, Waiting, payload};
use anyhow::Context as _;
use async_trait::async_trait;
use futures::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

/// Connections that the submitters share.
const SUBMIT_CONNECTIONS: usize = 32;
/// Workers, a connection each.
const WORKERS: usize = 4;
/// Rows a worker takes at once.
const ROWS: i64 = 64;
/// A worker looks again after this time, bell or no bell.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const TABLES: &str = "
    DROP TABLE IF EXISTS sink, jobs;
    CREATE TABLE sink (number bigint PRIMARY KEY, payload text NOT NULL);
    CREATE TABLE jobs (number bigint PRIMARY KEY, payload text NOT NULL, result text);
    CREATE INDEX jobs_open ON jobs (number) WHERE result IS NULL;";
const SUBMIT: &str = "INSERT INTO sink (number, payload) VALUES ($1, $2)";
const JOB: &str = "
    WITH job AS (INSERT INTO jobs (number, payload) VALUES ($1, $2))
    SELECT pg_notify('jobs', '')::text";
/// The result, the acknowledgement and the news of both are one commit.
const WORK: &str = "
    WITH open AS (
        SELECT number FROM jobs WHERE result IS NULL ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED
    ), done AS (
        UPDATE jobs SET result = '{\"number\":' || jobs.number || '}' FROM open WHERE jobs.number = open.number
        RETURNING jobs.number
    )
    SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify('results', string_agg(number::text, ','))::text END
    FROM done";

/// A connection with its prepared statements.
struct Submitter {
    client: Client,
    submit: Statement,
    job: Statement,
}

pub(crate) struct Postgresql {
    submitters: Vec<Submitter>,
    next: AtomicUsize,
    bytes: usize,
    waiting: Arc<Waiting>,
    _listener: Client,
}

impl Postgresql {
    /// `servers` holds one connection string, of the primary.
    pub(crate) async fn connect(servers: &[String], bytes: usize) -> anyhow::Result<Arc<dyn Peer>> {
        let server = servers.first().context("no server")?;
        let (waiting, bell) = (Arc::new(Waiting::default()), Arc::new(Notify::new()));
        let listener = listen(server, Arc::clone(&waiting), Arc::clone(&bell)).await?;
        listener.batch_execute(TABLES).await?;
        listener.batch_execute("LISTEN jobs; LISTEN results").await?;
        for _ in 0..WORKERS {
            let (client, bell) = (open(server).await?, Arc::clone(&bell));
            tokio::spawn(async move {
                if let Err(error) = work(&client, &bell).await {
                    eprintln!("a worker ended: {error}");
                }
            });
        }
        let mut submitters = Vec::new();
        for _ in 0..SUBMIT_CONNECTIONS {
            let client = open(server).await?;
            submitters.push(Submitter {
                submit: client.prepare(SUBMIT).await?,
                job: client.prepare(JOB).await?,
                client,
            });
        }
        Ok(Arc::new(Self {
            submitters,
            next: AtomicUsize::new(0),
            bytes,
            waiting,
            _listener: listener,
        }))
    }

    /// One of the connections; statements of several operations are pipelined on it.
    fn submitter(&self) -> &Submitter {
        &self.submitters[self.next.fetch_add(1, Ordering::Relaxed) % self.submitters.len()]
    }

    async fn run(&self, client: &Client, statement: &Statement, number: u64) -> anyhow::Result<()> {
        client
            .query(
                statement,
                &[&i64::try_from(number)?, &payload(number, self.bytes)],
            )
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Peer for Postgresql {
    async fn submit(&self, number: u64) -> anyhow::Result<()> {
        let submitter = self.submitter();
        self.run(&submitter.client, &submitter.submit, number).await
    }

    async fn cycle(&self, number: u64) -> anyhow::Result<()> {
        let end = self.waiting.expect(number);
        let submitter = self.submitter();
        self.run(&submitter.client, &submitter.job, number).await?;
        self.waiting.end(number, end).await
    }
}

async fn open(server: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(server, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("a connection ended: {error}");
        }
    });
    Ok(client)
}

/// A connection whose notifications end waits and wake workers.
async fn listen(server: &str, waiting: Arc<Waiting>, bell: Arc<Notify>) -> anyhow::Result<Client> {
    let (client, mut connection) = tokio_postgres::connect(server, NoTls).await?;
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(note)) if note.channel() == "jobs" => bell.notify_one(),
                Ok(AsyncMessage::Notification(note)) => {
                    note.payload()
                        .split(',')
                        .filter_map(|number| number.parse().ok())
                        .for_each(|number| waiting.seen(number));
                }
                Ok(_) => {}
                Err(error) => {
                    eprintln!("the listener ended: {error}");
                    return;
                }
            }
        }
    });
    Ok(client)
}

async fn work(client: &Client, bell: &Notify) -> anyhow::Result<()> {
    let take = client.prepare(WORK).await?;
    loop {
        let done: i64 = client.query_one(&take, &[&ROWS]).await?.get(0);
        if done == 0 {
            _ = tokio::time::timeout(LOOK_AGAIN, bell.notified()).await;
        }
    }
}
