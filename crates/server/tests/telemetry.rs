//! What a node tells about itself: logs, spans, metrics.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; steps are shown when it fails"
)]

mod support;

use baton_server::client::Api;
use baton_server::cluster::{Cluster, LaunchOptions};
use baton_server::config::LogFormat;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;

/// Longest time any test here may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(55);
const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that hands every span on.
struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let resources = request.into_inner().resource_spans;
        for span in resources
            .into_iter()
            .flat_map(|r| r.scope_spans)
            .flat_map(|s| s.spans)
        {
            _ = self.0.send(span);
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Starts a collector; returns its endpoint.
async fn collector() -> (String, mpsc::UnboundedReceiver<Span>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (spans, received) = mpsc::unbounded_channel();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Collector(spans)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (endpoint, received)
}

async fn start(dir: &Path, change: impl FnOnce(&mut LaunchOptions)) -> Cluster {
    let mut options = support::options(dir, 1);
    options.base.cluster.shard_groups = 2;
    change(&mut options);
    support::start(options).await
}

fn job() -> Value {
    json!({"intent_type": "test.job.v1", "to_agent": "traced-agent", "payload": {"n": 1}})
}

/// Submits with the caller's trace context and returns the intent's id.
async fn submit_traced(cluster: &Cluster) -> String {
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/intents", cluster.base_url(1)))
        .header("x-api-key", &cluster.credentials().operator_token)
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .json(&job())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    body["intent_id"].as_str().unwrap().to_owned()
}

/// Polls for a delivery above `since` without taking it up; returns its cursor.
async fn deliveries(cluster: &Cluster, since: u64) -> u64 {
    let answer = reqwest::Client::new()
        .get(format!(
            "{}/v1/agents/traced-agent/intents?since={since}&wait_seconds=20",
            cluster.base_url(1)
        ))
        .header("x-api-key", &cluster.credentials().operator_token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    let cursor = body["next_cursor"].as_u64().unwrap();
    assert!(cursor > since, "{body}");
    cursor
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn field(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key == name)?;
    Some(format!("{:?}", found.value))
}

#[tokio::test]
async fn spans_reach_the_collector_below_the_callers_span() {
    let test = async {
        let (endpoint, mut received) = collector().await;
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(dir.path(), |o| {
            o.base.otlp.endpoint = Some(endpoint);
            o.base.delivery.visibility_timeout_ms = 200;
        })
        .await;
        let intent_id = submit_traced(&cluster).await;
        // Sent once, not picked up, sent again.
        let first = deliveries(&cluster, 0).await;
        deliveries(&cluster, first).await;
        // Ending flushes what the exporter still holds.
        assert!(cluster.stop().await.is_empty());
        let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        while let Ok(span) = received.try_recv() {
            spans.entry(span.name.clone()).or_default().push(span);
        }
        let names: Vec<&String> = spans.keys().collect();
        let submit = spans
            .get("intent.submit")
            .unwrap_or_else(|| panic!("only {names:?}"));
        let submit = submit
            .iter()
            .find(|s| hex(&s.trace_id) == TRACE)
            .expect("intent.submit in the caller's trace");
        assert!(field(submit, "intent_id").unwrap().contains(&intent_id));
        assert!(field(submit, "agent").unwrap().contains("traced-agent"));
        let request = spans["http.request"]
            .iter()
            .find(|s| s.span_id == submit.parent_span_id);
        assert_eq!(hex(&request.expect("its request").parent_span_id), PARENT);
        for name in ["group.apply", "attempt.stream", "attempt.expire"] {
            let found = spans
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in {names:?}"));
            let caused = found.iter().find(|s| s.parent_span_id == submit.span_id);
            let caused = caused.unwrap_or_else(|| panic!("no {name} below the submit: {found:?}"));
            assert_eq!(hex(&caused.trace_id), TRACE);
        }
        for (name, fields) in [
            ("group.apply", ["group_id", "term", "log_index"].as_slice()),
            ("raft.append", &["items"]),
        ] {
            let span = spans
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in {names:?}"));
            for wanted in fields {
                assert!(field(&span[0], wanted).is_some(), "{name} has no {wanted}");
            }
        }
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

#[tokio::test]
async fn json_logs_are_objects_and_metrics_are_well_formed() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(dir.path(), |o| o.base.log.format = LogFormat::Json).await;
        let api = Api::new(&cluster.base_urls(), &cluster.credentials().operator_token).unwrap();
        for n in 0..3 {
            let key = format!("k{n}");
            let answer = api
                .call(Method::POST, "/v1/intents", Some(&job()), Some(&key), PATIENCE)
                .await;
            assert!(answer.unwrap().ok());
        }
        check_metrics(&cluster.metrics(1).await.unwrap());
        assert!(cluster.stop().await.is_empty());
        let log = std::fs::read_to_string(cluster.layout().log(1)).unwrap();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            for field in ["timestamp", "level", "message", "target"] {
                assert!(line[field].is_string(), "{field} in {line}");
            }
        }
        // Quiet: a start, a stop and what is in between, however many groups there are.
        assert!((2..20).contains(&log.lines().count()), "{log}");
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

/// What `promtool check metrics` would look at, and the series that alerts stand on.
fn check_metrics(page: &str) {
    let (mut types, mut helps, mut series) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} has two types");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(!text.is_empty() && helps.insert(name), "{name}: one help text");
        } else {
            let (id, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(series.insert(id), "{id} twice");
            let name = id.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|f| types.contains_key(f)))
                .unwrap_or(name);
            assert!(types.contains_key(family), "{name} has no type");
        }
    }
    for (name, kind) in &types {
        assert!(helps.contains(name), "{name} has no help text");
        assert!(name.starts_with("baton_"), "{name}");
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        assert_ne!(*kind, "summary", "{name} cannot be aggregated over nodes");
    }
    for (name, kind) in [
        ("baton_consensus_commits_total", "counter"),
        ("baton_apply_lag", "gauge"),
        ("baton_raft_append_duration_seconds", "histogram"),
        ("baton_wal_fsync_duration_seconds", "histogram"),
        ("baton_apply_duration_seconds", "histogram"),
        ("baton_gateway_submit_duration_seconds", "histogram"),
        ("baton_delivery_attempts_total", "counter"),
        ("baton_raft_leader_changes_total", "counter"),
        ("baton_raft_term", "gauge"),
        ("baton_raft_leader", "gauge"),
        ("baton_raft_has_leader", "gauge"),
        ("baton_build_info", "gauge"),
    ] {
        assert_eq!(types.get(name), Some(&kind), "{name}");
    }
}
