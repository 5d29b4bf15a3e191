//! A small client of the AXP surface for demo, bench and probes: any node, retries, event streams.
//! It knows nothing that another HTTP client could not know.

pub mod raw;
pub mod sse;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use sse::{Frame, FrameParser};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// One request's patience; a node that holds a request longer is asked no more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// Pause before the next node is asked.
const RETRY_PAUSE: Duration = Duration::from_millis(40);
/// `wait_seconds` of event streams.
const STREAM_WAIT_SECONDS: u64 = 20;
/// Frames between a stream and its reader.
const STREAM_QUEUE_ITEMS_MAX: usize = 256;

/// What came back for one request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// Whether the call did what was asked.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status == 200
    }

    /// The answer as an error text.
    #[must_use]
    pub fn problem(&self) -> String {
        let detail = self
            .body
            .get("detail")
            .and_then(Value::as_str)
            .unwrap_or("no detail");
        format!("{} {detail}", self.status)
    }
}

/// A client with one key and every node's address.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    bases: Arc<[String]>,
    key: Arc<str>,
    /// The node that answered last; all clones move on together when it stops answering.
    current: Arc<AtomicUsize>,
}

impl Api {
    /// A client over `bases` (`http://host:port`, at least one).
    ///
    /// # Errors
    /// When the HTTP stack cannot start.
    pub fn new(bases: &[String], key: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(!bases.is_empty(), "no base URL to talk to");
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .pool_max_idle_per_host(512)
            .build()?;
        Ok(Self {
            http,
            bases: bases.into(),
            key: key.into(),
            current: Arc::new(AtomicUsize::new(0)),
        })
    }

    /// The same client, but starting at another node than its siblings and moving on by itself.
    #[must_use]
    pub fn starting_at(&self, node: usize) -> Self {
        Self {
            current: Arc::new(AtomicUsize::new(node)),
            ..self.clone()
        }
    }

    /// One try at the current node.
    ///
    /// # Errors
    /// Transport failures only; any HTTP status is an `Ok` answer.
    pub async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let node = self.current.load(Ordering::Relaxed);
        let result = self.send(node, method, path, body, idempotency_key).await;
        if result.as_ref().map_or(true, |answer| answer.status >= 500) {
            self.leave(node);
        }
        result
    }

    /// Tries node after node until one gives a final answer: everything but 429 and 5xx. Safe for reads, for writes
    /// with an idempotency key, and for writes whose repetition is refused.
    ///
    /// # Errors
    /// The last failure when `patience` is over.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let until = Instant::now() + patience;
        loop {
            let problem = match self.once(method.clone(), path, body, idempotency_key).await {
                Ok(answer) if answer.status != 429 && answer.status < 500 => return Ok(answer),
                Ok(answer) => answer.problem(),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() + RETRY_PAUSE >= until {
                anyhow::bail!("{method} {path}: no node gave an answer within {patience:?}; last: {problem}");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// `call` for a GET.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn get(&self, path: &str, patience: Duration) -> anyhow::Result<Answer> {
        self.call(Method::GET, path, None, None, patience).await
    }

    /// Follows an event stream across segments and nodes. `path` has no query; the cursor starts at `since`.
    /// Ends when the receiver is dropped.
    #[must_use]
    pub fn follow(&self, path: String, since: u64) -> mpsc::Receiver<Frame> {
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE_ITEMS_MAX);
        let api = self.clone();
        tokio::spawn(async move {
            let mut cursor = since;
            while !sender.is_closed() {
                let before = Instant::now();
                let node = api.current.load(Ordering::Relaxed);
                if api.segment(node, &path, &mut cursor, &sender).await.is_err() {
                    api.leave(node);
                    tokio::time::sleep(RETRY_PAUSE).await;
                } else if before.elapsed() < RETRY_PAUSE {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        });
        receiver
    }

    /// One stream response. `Ok` when it ended as streams do.
    async fn segment(
        &self,
        node: usize,
        path: &str,
        cursor: &mut u64,
        frames: &mpsc::Sender<Frame>,
    ) -> anyhow::Result<()> {
        let url = format!(
            "{}{path}?since={cursor}&wait_seconds={STREAM_WAIT_SECONDS}",
            self.base(node)
        );
        let response = self.http.get(url).header("x-api-key", &*self.key).send().await?;
        anyhow::ensure!(
            response.status().is_success(),
            "stream answered {}",
            response.status()
        );
        let mut body = response.bytes_stream();
        let mut parser = FrameParser::default();
        let silence = Duration::from_secs(STREAM_WAIT_SECONDS + 5);
        loop {
            let chunk = tokio::select! {
                chunk = tokio::time::timeout(silence, body.next()) => chunk?,
                () = frames.closed() => return Ok(()),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            for frame in parser.push(&chunk?) {
                if !frame.event.starts_with("intent.") {
                    continue;
                }
                *cursor = (*cursor).max(frame.id.unwrap_or(0));
                if frames.send(frame).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    async fn send(
        &self,
        node: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base(node)))
            .header("x-api-key", &*self.key)
            .timeout(REQUEST_TIMEOUT);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status, body })
    }

    fn base(&self, node: usize) -> &str {
        &self.bases[node % self.bases.len()]
    }

    /// Moves on from `node`, unless a sibling has done so already.
    fn leave(&self, node: usize) {
        let next = (node + 1) % self.bases.len();
        _ = self
            .current
            .compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
