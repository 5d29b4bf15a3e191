//! Names of the gateway's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Requests answered, by `endpoint`, `method` and `status`.
pub const HTTP_REQUESTS: &str = "baton.gateway.http.requests";
/// gRPC calls answered, by `method` and `code`.
pub const GRPC_REQUESTS: &str = "baton.gateway.grpc.requests";
/// Time from the head of a gRPC call to its status, by `method`. Streams count for as long as they are open.
pub const GRPC_DURATION: &str = "baton.gateway.grpc.duration";
/// Time from a decoded submit to its committed answer.
pub const SUBMIT_DURATION: &str = "baton.gateway.submit.duration";
/// Event streams open now, by `kind`.
pub const STREAMS_OPEN: &str = "baton.gateway.streams.open";
/// Connections open now.
pub const CONNECTIONS_OPEN: &str = "baton.gateway.connections.open";
/// Requests refused, by error `code`.
pub const ERRORS: &str = "baton.gateway.errors";

/// Payloads that do not fit the schema of their type, by `mode` of the schema.
pub const SCHEMA_VIOLATIONS: &str = "baton.gateway.schema.violations";

/// Tells the installed recorder what the metrics mean.
pub(crate) fn describe() {
    describe_counter!(HTTP_REQUESTS, Unit::Count, "requests answered");
    describe_counter!(GRPC_REQUESTS, Unit::Count, "gRPC calls answered");
    describe_histogram!(
        GRPC_DURATION,
        Unit::Seconds,
        "time from the head of a gRPC call to its status"
    );
    describe_histogram!(
        SUBMIT_DURATION,
        Unit::Seconds,
        "time from a decoded submit to its committed answer"
    );
    describe_gauge!(STREAMS_OPEN, Unit::Count, "event streams open now");
    describe_gauge!(CONNECTIONS_OPEN, Unit::Count, "client connections open now");
    describe_counter!(
        SCHEMA_VIOLATIONS,
        Unit::Count,
        "payloads that do not fit the schema of their intent type"
    );
    describe_counter!(ERRORS, Unit::Count, "requests refused, by error code");
}

/// Counts one in a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct GaugeGuard {
    name: &'static str,
    kind: &'static str,
}

impl GaugeGuard {
    pub(crate) fn new(name: &'static str, kind: &'static str) -> Self {
        metrics::gauge!(name, "kind" => kind).increment(1.0);
        Self { name, kind }
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        metrics::gauge!(self.name, "kind" => self.kind).decrement(1.0);
    }
}
