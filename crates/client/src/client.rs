//! The client itself: which node is asked, how long, and how often.

use crate::builder::ClientBuilder;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::leaders::Leaders;
use crate::retry::RetryPolicy;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status as GrpcStatus};

/// Largest message that is accepted; a full page of intents with payloads.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What the server sees of a traceparent and the key.
const KEY_HEADER: &str = "x-api-key";
const TRACE_HEADER: &str = "traceparent";
/// Where a server names the node (`host:port`) that decided about a call in its stead.
const LEADER_HEADER: &str = "baton-leader";

/// Gives the W3C traceparent of the current span.
pub(crate) type TraceSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A client of a Baton cluster. Cloning is cheap; clones share connections and what is known about nodes.
///
/// ```no_run
/// # async fn example() -> Result<(), baton_client::Error> {
/// use baton_client::{Client, Submit};
/// use std::time::Duration;
///
/// let client = Client::builder()
///     .endpoints(["http://10.0.0.1:8100", "http://10.0.0.2:8100", "http://10.0.0.3:8100"])
///     .api_key(std::env::var("BATON_API_KEY").unwrap_or_default())
///     .connect()
///     .await?;
/// let order = serde_json::json!({"order_id": "ORD-8842"});
/// let receipt = client.submit(Submit::new("payment", "intent.payment.process.v1").json(&order)?).await?;
/// let intent = client.wait_for(&receipt.intent_id, Duration::from_secs(60)).await?;
/// println!("{}", intent.status);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

pub(crate) struct Shared {
    pub(crate) endpoints: Endpoints,
    pub(crate) leaders: Leaders,
    pub(crate) key: Option<MetadataValue<Ascii>>,
    pub(crate) trace: Option<TraceSource>,
    pub(crate) retry: RetryPolicy,
    pub(crate) attempt_timeout: Duration,
    pub(crate) stream_patience: Duration,
}

/// Whether a request may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Reads, and writes that carry an idempotency key or have the same effect when repeated.
    Repeatable,
    /// Only when the answer proves that nothing happened.
    Once,
}

/// How one call is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) safety: Safety,
    /// How long one node may take; for a stream, until it is open.
    pub(crate) attempt: Duration,
    /// All tries together.
    pub(crate) total: Duration,
    /// Streams live on after they are open, so the server gets no deadline.
    pub(crate) tell_deadline: bool,
}

/// What goes with each request.
#[derive(Debug)]
pub(crate) struct Outgoing {
    key: Option<MetadataValue<Ascii>>,
    trace: Option<MetadataValue<Ascii>>,
    deadline: Option<Duration>,
}

impl Outgoing {
    pub(crate) fn carry<Q>(self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(key) = self.key {
            request.metadata_mut().insert(KEY_HEADER, key);
        }
        if let Some(trace) = self.trace {
            request.metadata_mut().insert(TRACE_HEADER, trace);
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }
}

/// A unary call: `unary!(client, Safety, ServiceClient.method(request))`; with an agent before the method, at the node
/// that leads it, if known.
macro_rules! unary {
    ($client:expr, $safety:expr, $service:ident.$method:ident($request:expr)) => {
        $crate::client::unary!($client, $safety, None::<&str>, $service.$method($request))
    };
    ($client:expr, $safety:expr, $agent:expr, $service:ident.$method:ident($request:expr)) => {{
        let request = $request;
        let client: &$crate::Client = $client;
        client
            .call_about($agent.into(), client.unary_call($safety), |channel, outgoing| {
                let request = outgoing.carry(request.clone());
                async move {
                    $service::new(channel)
                        .max_decoding_message_size($crate::client::MESSAGE_BYTES_MAX)
                        .$method(request)
                        .await
                }
            })
            .await
    }};
}
pub(crate) use unary;

/// What a call concerns, so that it goes where the way is shortest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Anything,
    /// This agent: the node that leads it.
    Agent(&'a str),
    /// Whatever this endpoint serves, by number.
    Endpoint(usize),
}

impl<'a> From<Option<&'a str>> for About<'a> {
    fn from(agent: Option<&'a str>) -> Self {
        agent.map_or(Self::Anything, Self::Agent)
    }
}

impl<'a> About<'a> {
    fn agent(self) -> Option<&'a str> {
        match self {
            Self::Agent(agent) => Some(agent),
            Self::Anything | Self::Endpoint(_) => None,
        }
    }
}

impl Client {
    /// Describes a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(shared: Shared, timeout: Duration) -> Self {
        Self {
            shared: Arc::new(shared),
            timeout,
        }
    }

    /// The same client with another total time for each call, retries included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// The endpoint that the next call goes to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        let endpoints = &self.shared.endpoints;
        &endpoints.get(endpoints.pick()).uri
    }

    /// All endpoints, in the order of the builder.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.shared.endpoints.iter().map(|endpoint| endpoint.uri.as_str())
    }

    /// The traceparent of the caller's span.
    pub(crate) fn current_trace(&self) -> Option<String> {
        self.shared.trace.as_ref().and_then(|source| source())
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn retry(&self) -> RetryPolicy {
        self.shared.retry
    }

    pub(crate) fn stream_patience(&self) -> Duration {
        self.shared.stream_patience
    }

    pub(crate) fn unary_call(&self, safety: Safety) -> Call {
        Call {
            safety,
            attempt: self.shared.attempt_timeout,
            total: self.timeout,
            tell_deadline: true,
        }
    }

    /// Opening a stream: one pass over the nodes; whoever holds the stream decides about further ones.
    pub(crate) fn stream_call(&self) -> Call {
        Call {
            safety: Safety::Repeatable,
            attempt: self.shared.attempt_timeout,
            total: self.timeout,
            tell_deadline: false,
        }
    }

    /// Sends to node after node until one gives a final answer or the time is over.
    pub(crate) async fn call<A, F, Fut>(&self, call: Call, send: F) -> Result<A, Error>
    where
        F: Fn(Channel, Outgoing) -> Fut,
        Fut: Future<Output = Result<Response<A>, GrpcStatus>>,
    {
        self.call_about(About::Anything, call, send).await
    }

    /// The same, first to the node that `about` suggests.
    pub(crate) async fn call_about<A, F, Fut>(
        &self,
        about: About<'_>,
        call: Call,
        send: F,
    ) -> Result<A, Error>
    where
        F: Fn(Channel, Outgoing) -> Fut,
        Fut: Future<Output = Result<Response<A>, GrpcStatus>>,
    {
        let shared = &*self.shared;
        let until = Instant::now() + call.total;
        let mut failures = 0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.attempt(about, call, left, &send).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            let repeatable = call.safety == Safety::Repeatable || error.proves_no_effect();
            if !error.retryable() || !repeatable || failures >= shared.retry.attempts_max {
                return Err(error);
            }
            let pause = if error.blames_endpoint() && shared.endpoints.any_works() {
                Duration::ZERO
            } else {
                shared.retry.pause(failures, error.retry_after())
            };
            if Instant::now() + pause >= until {
                return Err(over(error, call.total));
            }
            tracing::debug!(%error, failures, pause_ms = pause.as_millis(), "call is repeated");
            tokio::time::sleep(pause).await;
        }
    }

    /// The endpoint that is suggested while that works, else the one that all calls go to.
    pub(crate) fn endpoint_for(&self, about: About<'_>) -> usize {
        let endpoints = &self.shared.endpoints;
        let suggested = match about {
            About::Anything => None,
            About::Agent(agent) => self.shared.leaders.of(agent),
            About::Endpoint(n) => Some(n),
        };
        suggested
            .filter(|&n| endpoints.works(n))
            .unwrap_or_else(|| endpoints.pick())
    }

    /// Notes that the node with this address leads `agent`. An address that is no endpoint of this client's is not
    /// called, whoever names it. Says whether it can be called.
    pub(crate) fn learn_leader(&self, agent: &str, address: &str) -> bool {
        match self.shared.endpoints.find(address) {
            Some(n) => {
                self.shared.leaders.learn(agent, n);
                self.shared.endpoints.works(n)
            }
            None => {
                self.shared.leaders.forget(agent);
                false
            }
        }
    }

    /// Notes that the endpoint with this number does not do what it should.
    pub(crate) fn blame(&self, endpoint: usize) {
        self.shared.endpoints.failed(endpoint);
    }

    fn read_leader(&self, agent: Option<&str>, metadata: &MetadataMap) {
        let named = metadata.get(LEADER_HEADER).and_then(|value| value.to_str().ok());
        if let (Some(agent), Some(address)) = (agent, named) {
            self.learn_leader(agent, address);
        }
    }

    async fn attempt<A, F, Fut>(
        &self,
        about: About<'_>,
        call: Call,
        left: Duration,
        send: &F,
    ) -> Result<A, Error>
    where
        F: Fn(Channel, Outgoing) -> Fut,
        Fut: Future<Output = Result<Response<A>, GrpcStatus>>,
    {
        let endpoints = &self.shared.endpoints;
        let n = self.endpoint_for(about);
        let agent = about.agent();
        let endpoint = endpoints.get(n);
        let time = left.min(call.attempt);
        let outgoing = self.outgoing(call.tell_deadline.then_some(time));
        let result = match tokio::time::timeout(time, send(endpoint.channel.clone(), outgoing)).await {
            Ok(Ok(answer)) => {
                self.read_leader(agent, answer.metadata());
                Ok(answer.into_inner())
            }
            // The transport watches the deadline that it tells the server.
            Ok(Err(status)) if !is_timeout(&status) => {
                self.read_leader(agent, status.metadata());
                Err(Error::from_status(&status, &endpoint.uri))
            }
            Ok(Err(_)) | Err(_) => Err(Error::Timeout {
                after: time,
                last: format!("{} did not answer", endpoint.uri),
            }),
        };
        match &result {
            Err(error) if error.blames_endpoint() => {
                endpoints.failed(n);
                if let Some(agent) = agent
                    && self.shared.leaders.of(agent) == Some(n)
                {
                    self.shared.leaders.forget(agent);
                }
            }
            Ok(_) | Err(_) => endpoints.succeeded(n),
        }
        result
    }

    fn outgoing(&self, deadline: Option<Duration>) -> Outgoing {
        let shared = &*self.shared;
        Outgoing {
            key: shared.key.clone(),
            // A malformed traceparent is not worth a failed call.
            trace: self.current_trace().and_then(|text| text.parse().ok()),
            deadline,
        }
    }
}

fn is_timeout(status: &GrpcStatus) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The error of a call whose time is over.
fn over(mut error: Error, total: Duration) -> Error {
    if let Error::Timeout { after, .. } = &mut error {
        *after = total;
    }
    error
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.endpoints().collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
