//! The calls over `baton.v1`: a pipelined submit stream and a connection per node, work streams on connections of
//! their own.

use super::submit_stream::{Answer, Order, SubmitPipe, Until};
use super::{Numbered, PATIENCE, REOPEN_PAUSE, SEEN_QUEUE_ITEMS_MAX};
use crate::bench::load::{INTENT_TYPE, Job};
use crate::bench::mode::Idempotency;
use anyhow::Context as _;
use baton_protocol::proto::v1::agent_service_client::AgentServiceClient;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use baton_protocol::proto::v1::{
    GetIntentRequest, IdempotencyScope, IntentSpec, Outcome, Payload, ResolveRequest, Status,
    SubscribeRequest, WatchRequest,
};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Carries the key of a call.
const KEY_HEADER: &str = "x-api-key";
/// One connection attempt's patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Patience of a call with one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// Long streams that share a connection; servers bound the streams of one.
const STREAMS_PER_CONNECTION_MAX: usize = 64;

/// A node to talk to.
#[derive(Debug, Clone)]
pub(super) struct Node {
    endpoint: Endpoint,
    channel: Channel,
    key: MetadataValue<Ascii>,
}

impl Node {
    fn new(url: &str, key: &MetadataValue<Ascii>) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| format!("{url} is no address"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_adaptive_window(true);
        Ok(Self {
            channel: endpoint.connect_lazy(),
            endpoint,
            key: key.clone(),
        })
    }

    /// Whether this is the node at `host:port`.
    fn is_at(&self, address: &str) -> bool {
        let authority = self.endpoint.uri().authority();
        authority.is_some_and(|authority| authority.as_str() == address)
    }

    /// The same node over another connection.
    fn apart(&self) -> Self {
        Self {
            channel: self.endpoint.connect_lazy(),
            ..self.clone()
        }
    }

    pub(super) fn intents(&self) -> IntentServiceClient<Channel> {
        IntentServiceClient::new(self.channel.clone())
    }

    pub(super) fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone())
    }

    /// A request with the key.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert(KEY_HEADER, self.key.clone());
        request
    }

    /// The same with a deadline.
    fn call<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = self.request(message);
        request.set_timeout(CALL_TIMEOUT);
        request
    }
}

/// A client of the gRPC surface.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Grpc {
    nodes: Arc<[Node]>,
    pipes: Arc<[SubmitPipe]>,
    /// Further connections, for long streams; stream `n` uses the one at `n / STREAMS_PER_CONNECTION_MAX`.
    apart: Arc<[Node]>,
    leaders: Arc<Leaders>,
    current: usize,
}

/// The node that decides about an agent, by number, as far as the nodes have said.
#[derive(Debug, Default)]
struct Leaders(RwLock<HashMap<String, usize>>);

impl Leaders {
    fn of(&self, agent: &str) -> Option<usize> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(agent)
            .copied()
    }

    fn learn(&self, agent: &str, node: usize) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(agent.to_owned(), node);
    }
}

impl Grpc {
    /// A client over `bases` (`http://host:port`), ready for this many long streams.
    pub(in crate::bench) fn new(bases: &[String], key: &str, streams: usize) -> anyhow::Result<Self> {
        let key = key.parse().context("a key has printable characters only")?;
        let nodes: Vec<Node> = bases
            .iter()
            .map(|url| Node::new(url, &key))
            .collect::<Result<_, _>>()?;
        anyhow::ensure!(!nodes.is_empty(), "no base URL to talk to");
        let nodes: Arc<[Node]> = nodes.into();
        let connections = streams.div_ceil(STREAMS_PER_CONNECTION_MAX).max(nodes.len());
        Ok(Self {
            pipes: (0..nodes.len())
                .map(|n| SubmitPipe::open(Arc::clone(&nodes), n))
                .collect(),
            apart: (0..connections).map(|n| nodes[n % nodes.len()].apart()).collect(),
            nodes,
            leaders: Arc::default(),
            current: 0,
        })
    }

    pub(super) fn starting_at(&self, n: usize) -> Self {
        Self {
            current: n,
            ..self.clone()
        }
    }

    fn node(&self) -> &Node {
        &self.nodes[self.current % self.nodes.len()]
    }

    /// Notes which node decides about `agent`; whether that is news.
    pub(super) fn learn_leader(&self, agent: &str, address: &str) -> bool {
        let node = self.nodes.iter().position(|node| node.is_at(address));
        let news = node.filter(|n| self.leaders.of(agent) != Some(*n));
        if let Some(n) = news {
            self.leaders.learn(agent, n);
        }
        news.is_some()
    }

    /// The connection of an agent's long stream: at the node that decides about it, once that is known.
    pub(super) fn work_node(&self, agent: &str, failures: usize) -> &Node {
        match self.leaders.of(agent) {
            Some(leader) if failures.is_multiple_of(2) => {
                let nodes = self.nodes.len();
                &self.apart[(self.current * nodes + leader) % (self.apart.len() / nodes * nodes)]
            }
            Some(_) | None => self.stream_node(failures),
        }
    }

    /// The node of a long stream.
    pub(super) fn stream_node(&self, attempt: usize) -> &Node {
        &self.apart[(self.current + attempt) % self.apart.len()]
    }

    pub(super) async fn submit(&self, job: &Job) -> anyhow::Result<String> {
        Ok(self.order(job, Until::Committed).await?.intent_id)
    }

    pub(super) async fn cycle(&self, job: &Job) -> anyhow::Result<u64> {
        let answer = self.order(job, Until::Ended).await?;
        let (status, outcome) = answer.end.context("no end came with the answer")?;
        number_of_end(status, outcome.as_ref())
    }

    async fn order(&self, job: &Job, until: Until) -> anyhow::Result<Answer> {
        let (answer, answered) = oneshot::channel();
        let order = Order {
            intent: intent(job),
            until,
            answer,
        };
        let pipe = self
            .leaders
            .of(&job.to)
            .unwrap_or(self.current % self.pipes.len());
        self.pipes[pipe].send(order).await?;
        let answer = tokio::time::timeout(PATIENCE, answered)
            .await
            .context("no answer in time")?
            .context("the submit stream broke")??;
        if !answer.leader.is_empty() {
            self.learn_leader(&job.to, &answer.leader);
        }
        Ok(answer)
    }

    pub(super) async fn get(&self, id: &str) -> anyhow::Result<u64> {
        let node = self.node();
        let request = GetIntentRequest {
            intent_id: id.to_owned(),
            without_payload: false,
        };
        let answer = node
            .intents()
            .get_intent(node.call(request))
            .await
            .map_err(problem)?;
        let intent = answer
            .into_inner()
            .intent
            .context("get: no intent in the answer")?;
        anyhow::ensure!(intent.intent_id == id, "get: another intent came back");
        Numbered::read(&intent.payload.unwrap_or_default().data)
    }

    pub(super) async fn resolve(&self, id: &str, number: u64) -> anyhow::Result<()> {
        let node = self.node();
        let request = ResolveRequest {
            intent_id: id.to_owned(),
            status: Status::Completed.into(),
            result: Some(numbered(number)),
            ..ResolveRequest::default()
        };
        node.intents()
            .resolve(node.call(request))
            .await
            .map_err(problem)?;
        Ok(())
    }

    pub(super) async fn watch(&self, id: &str) -> anyhow::Result<u64> {
        let node = self.stream_node(0);
        let request = WatchRequest {
            intent_id: id.to_owned(),
            since_seq: 0,
        };
        let follow = async {
            let mut events = node
                .intents()
                .watch(node.request(request))
                .await
                .map_err(problem)?
                .into_inner();
            while let Some(message) = events.message().await.map_err(problem)? {
                let event = message.event.unwrap_or_default();
                if is_terminal(event.status()) {
                    return number_of_end(event.status(), event.outcome.as_ref());
                }
            }
            anyhow::bail!("the event stream closed")
        };
        tokio::time::timeout(PATIENCE, follow)
            .await
            .context("no end was seen in time")?
    }

    pub(super) fn subscribe(&self, agent: &str) -> mpsc::Receiver<u64> {
        let (sender, receiver) = mpsc::channel(SEEN_QUEUE_ITEMS_MAX);
        let (grpc, agent) = (self.clone(), agent.to_owned());
        tokio::spawn(async move {
            let mut cursor = 0;
            for attempt in 0.. {
                let follow = grpc.deliveries(attempt, &agent, &mut cursor, &sender);
                tokio::select! {
                    ended = follow => tracing::debug!(?ended, "a subscription is opened again"),
                    () = sender.closed() => return,
                }
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
        });
        receiver
    }

    async fn deliveries(
        &self,
        attempt: usize,
        agent: &str,
        cursor: &mut u64,
        seen: &mpsc::Sender<u64>,
    ) -> anyhow::Result<()> {
        let node = self.stream_node(attempt);
        let request = SubscribeRequest {
            agent: agent.to_owned(),
            since_cursor: *cursor,
        };
        let mut deliveries = node
            .agents()
            .subscribe(node.request(request))
            .await
            .map_err(problem)?
            .into_inner();
        while let Some(delivery) = deliveries.message().await.map_err(problem)? {
            *cursor = delivery.cursor;
            let payload = delivery.intent.unwrap_or_default().payload.unwrap_or_default();
            seen.send(Numbered::read(&payload.data)?).await?;
        }
        Ok(())
    }
}

fn intent(job: &Job) -> IntentSpec {
    let scope = match job.idempotency {
        Idempotency::None => IdempotencyScope::Unspecified,
        Idempotency::Caller => IdempotencyScope::Caller,
        Idempotency::Recipient => IdempotencyScope::Recipient,
    };
    IntentSpec {
        intent_type: INTENT_TYPE.to_owned(),
        to_agent: job.to.clone(),
        payload: Some(Payload {
            data: job.payload_text().into(),
            content_type: String::new(),
        }),
        idempotency_key: job.key().unwrap_or_default(),
        idempotency_scope: scope.into(),
        ..IntentSpec::default()
    }
}

/// A result that carries a number.
pub(super) fn numbered(number: u64) -> Payload {
    Payload {
        data: format!("{{\"number\":{number}}}").into(),
        content_type: String::new(),
    }
}

fn is_terminal(status: Status) -> bool {
    matches!(
        status,
        Status::Completed | Status::Failed | Status::Canceled | Status::TimedOut
    )
}

fn number_of_end(status: Status, outcome: Option<&Outcome>) -> anyhow::Result<u64> {
    anyhow::ensure!(status == Status::Completed, "ended as {}", status.as_str_name());
    let result = outcome.and_then(|outcome| outcome.result.as_ref());
    Numbered::read(&result.context("ended without a result")?.data)
}

/// A status in one line.
pub(super) fn problem(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::{Load, Role};

    #[test]
    fn an_intent_carries_number_key_and_scope() {
        let load = Load::new("run", 1, 64, Idempotency::Recipient);
        let spec = intent(&load.job(Role::Agent));
        assert_eq!(spec.idempotency_scope(), IdempotencyScope::Recipient);
        assert_eq!(spec.idempotency_key, "run-0");
        let payload = spec.payload.unwrap();
        assert_eq!(
            (payload.data.len(), Numbered::read(&payload.data).unwrap()),
            (64, 0)
        );
    }

    #[test]
    fn only_a_completed_intent_with_its_number_is_an_end() {
        let outcome = Outcome {
            result: Some(numbered(5)),
            ..Outcome::default()
        };
        assert_eq!(number_of_end(Status::Completed, Some(&outcome)).unwrap(), 5);
        assert!(number_of_end(Status::Completed, None).is_err());
        assert!(number_of_end(Status::Failed, Some(&outcome)).is_err());
    }
}
