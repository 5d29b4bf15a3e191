//! Calls to the HTTP surface, for what gRPC does not offer.

use super::connect::ConnectArgs;
use crate::client::raw;
use crate::exit::{ExitCode, Failure};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The nodes' HTTP surface with one key.
pub(super) struct Http {
    bases: Vec<String>,
    key: String,
    tls: Option<Arc<rustls::ClientConfig>>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(connect: &ConnectArgs) -> Result<Self, Failure> {
        let target = connect.target()?;
        let tls = target.ca.as_deref().map(|ca| raw::tls(ca, None)).transpose();
        let tls =
            tls.map_err(|error| Failure::config(format!("--ca: {error:#}; name the authority's PEM file")))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let bases = target.endpoints.into_iter().map(|endpoint| {
            let endpoint = endpoint.trim_end_matches('/').to_owned();
            if endpoint.contains("://") {
                endpoint
            } else {
                format!("{scheme}://{endpoint}")
            }
        });
        Ok(Self {
            bases: bases.collect(),
            key: target.api_key.unwrap_or_default(),
            tls,
            timeout: connect.timeout,
        })
    }

    /// One call. Nodes that cannot be connected to are passed over; an answer of any node is final, because these calls
    /// may not be made twice.
    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut last = Failure::usage("no endpoint to talk to");
        for base in &self.bases {
            let url = format!("{base}{path}");
            let headers = [("x-api-key", self.key.as_str())];
            let exchange = raw::exchange(self.tls.clone(), method, &url, &headers, &body);
            match tokio::time::timeout(self.timeout, exchange).await {
                Ok(Ok((status, text))) => return answer(status, &text),
                Ok(Err(error)) if is_connect(&error) => {
                    last = Failure::new(
                        ExitCode::Unavailable,
                        format!("cannot reach {base}: {error:#}; check the endpoints"),
                    );
                }
                Ok(Err(error)) => {
                    let line = format!("{base}: {error:#}; whether it happened is unknown");
                    return Err(Failure::new(ExitCode::Unavailable, line));
                }
                Err(_) => {
                    let line = format!("{base} did not answer in time; whether it happened is unknown");
                    return Err(Failure::new(ExitCode::Unavailable, line));
                }
            }
        }
        Err(last)
    }
}

fn is_connect(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn answer(status: u16, text: &str) -> Result<Value, Failure> {
    let body: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    if status == 200 {
        return Ok(body);
    }
    let detail = body["detail"].as_str().unwrap_or("no detail");
    let (code, advice) = match status {
        400 | 413 | 422 => (ExitCode::Usage, "correct the request"),
        401 | 403 => (ExitCode::Unauthorized, "use a key that may do this"),
        404 => (ExitCode::NotFound, "check the name"),
        409 => (ExitCode::Conflict, "read the object's state and decide anew"),
        429 | 503 | 504 => (ExitCode::Unavailable, "try again later"),
        _ => (ExitCode::Failed, "look into the server's log"),
    };
    Err(Failure::new(code, format!("{detail} ({status}); {advice}")))
}

/// A value in a table.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A path with its query, escaped. Empty values are left out.
pub(super) fn path(segments: &[&str], query: &[(&str, String)]) -> Result<String, Failure> {
    let mut url = reqwest::Url::parse("http://node").map_err(|error| Failure::usage(error.to_string()))?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(segments);
    }
    for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        url.query_pairs_mut().append_pair(name, value);
    }
    Ok(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_the_same_codes_as_calls_over_grpc() {
        for (status, code) in [
            (422, ExitCode::Usage),
            (401, ExitCode::Unauthorized),
            (404, ExitCode::NotFound),
            (409, ExitCode::Conflict),
            (503, ExitCode::Unavailable),
            (500, ExitCode::Failed),
        ] {
            let failure = answer(status, "{\"detail\":\"why\"}").unwrap_err();
            assert_eq!(failure.code, code, "{status}");
            assert!(failure.line.starts_with("why ("), "{failure}");
        }
        assert_eq!(answer(200, "{\"ok\":true}").unwrap()["ok"], true);
    }

    #[test]
    fn what_a_user_types_stays_one_value() {
        let query = [("agent_address", "a&b c".to_owned()), ("cursor", String::new())];
        let path = path(&["v1", "deliveries", "x/../y"], &query).unwrap();
        assert_eq!(path, "/v1/deliveries/x%2F..%2Fy?agent_address=a%26b+c");
    }
}
