//! Logs, traces and metrics of this process.

use crate::config::{Config, LogFormat};
use crate::exit::Failure;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Buckets of every `*.duration` histogram, in seconds.
const DURATION_BUCKETS_SECONDS: [f64; 14] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// Buckets of every `*.size` histogram, in bytes.
const SIZE_BUCKETS_BYTES: [f64; 8] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    8_388_608.0,
];
/// Buckets of every other histogram, which count things.
const COUNT_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1_024.0, 8_192.0];
/// What runs here.
const BUILD_INFO: &str = "baton.build.info";
/// Libraries that say what only their authors read (a clean stop is an error to the Raft library; its fatal errors are
/// ours to report). The configured filter comes after and may raise them.
const QUIET_LIBRARIES: &str = "openraft=off,raft_engine=warn,sled=warn,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,opentelemetry=warn";
/// How often histograms are folded, so that a process nobody scrapes does not grow.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Longest wait for one batch of spans to leave.
const OTLP_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps exporters alive; [`Telemetry::shutdown`] flushes them.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Installs the process-wide subscriber. Call inside a runtime when OTLP is configured: the exporter dials from it.
///
/// # Errors
/// A filter or endpoint that cannot be used (exit 78).
pub fn init(config: &Config) -> Result<Telemetry, Failure> {
    let filter: EnvFilter = format!("{QUIET_LIBRARIES},{}", config.log.filter)
        .parse()
        .map_err(|error| Failure::config(format!("log.filter: {error}; use for example info")))?;
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.log.format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .with_filter(filter)
            .boxed(),
    };
    let traces = tracer(config)?;
    let spans = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("baton"))
            .with_filter(span_filter())
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(|error| Failure::failed(format!("cannot install the log subscriber: {error}")))?;
    Ok(Telemetry { traces })
}

/// Only Baton's own spans leave the process: the exporter's transport has spans too, and exporting those would
/// never end.
fn span_filter() -> EnvFilter {
    EnvFilter::new(
        "off,baton_server=debug,baton_gateway=debug,baton_delivery=debug,baton_consensus=debug,\
         baton_raft_storage=debug",
    )
}

fn tracer(config: &Config) -> Result<Option<SdkTracerProvider>, Failure> {
    let Some(endpoint) = &config.otlp.endpoint else {
        return Ok(None);
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(OTLP_TIMEOUT)
        .build()
        .map_err(|error| {
            Failure::config(format!(
                "otlp.endpoint {endpoint}: {error}; use a gRPC endpoint such as http://127.0.0.1:4317"
            ))
        })?;
    let resource = Resource::builder()
        .with_service_name("baton")
        .with_attribute(opentelemetry::KeyValue::new(
            "service.instance.id",
            config.name.clone(),
        ))
        .build();
    Ok(Some(
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build(),
    ))
}

/// Installs the metrics recorder; the handle renders `/metrics`.
///
/// # Errors
/// When a recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, Failure> {
    let failed = |error: metrics_exporter_prometheus::BuildError| {
        Failure::failed(format!("cannot install the metrics recorder: {error}"))
    };
    let handle = builder().map_err(failed)?.install_recorder().map_err(failed)?;
    describe();
    Ok(handle)
}

/// Names get their unit and, when they count, `total`; every histogram has fixed buckets.
fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets_for_metric(Matcher::Suffix("duration".into()), &DURATION_BUCKETS_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("size".into()), &SIZE_BUCKETS_BYTES)?
        .set_buckets(&COUNT_BUCKETS)
}

fn describe() {
    baton_raft_storage::metrics::describe();
    baton_consensus::metrics::describe();
    baton_delivery::metrics::describe();
    metrics::describe_gauge!(BUILD_INFO, metrics::Unit::Count, "1, with the version as label");
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Folds histograms until the runtime ends.
pub async fn keep_metrics(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(METRICS_UPKEEP);
    loop {
        tick.tick().await;
        handle.run_upkeep();
    }
}

impl Telemetry {
    /// Sends what is buffered. Blocks up to the export timeout.
    pub fn shutdown(&self) {
        if let Some(provider) = &self.traces
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}
