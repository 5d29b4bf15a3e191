//! One node in memory: every group's state machine behind the gateway's ports, and the real server on loopback.
#![allow(unreachable_pub, reason = "shared by the test modules")]

mod fake;
mod fake_cluster;
mod work;

use std::time::Duration;

use baton_gateway::{GatewayConfig, Ports, serve};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use fake::{
    FakeNode, OPERATOR_TOKEN, ORG_ID, OTHER_ORG_ID, OTHER_TOKEN, OTHER_WORKSPACE_ID, WORKSPACE_ID,
};

/// The server under test.
pub struct Server {
    pub node: FakeNode,
    pub base: String,
    pub http: reqwest::Client,
    pub shutdown: CancellationToken,
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The body of a success.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        let body = self.json();
        assert_eq!(body["ok"], true, "{body}");
        body
    }

    /// The error code of a refusal, whose body must have the standard shape.
    pub fn refused(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let body = self.json();
        assert_eq!(body["ok"], false);
        assert_eq!(body["detail"], body["error"]["message"]);
        assert!(body["request_id"].as_str().unwrap().starts_with("req_"));
        assert_eq!(self.headers["x-request-id"].to_str().unwrap(), body["request_id"]);
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let node = FakeNode::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut config = GatewayConfig {
            requests_per_minute: 0,
            stream_linger_ms: 100,
            ..GatewayConfig::default()
        };
        change(&mut config);
        let shutdown = CancellationToken::new();
        let ports: Ports = node.ports();
        let task = tokio::spawn(serve(listener, config, ports, shutdown.clone()));
        Self {
            node,
            base,
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()
                .unwrap(),
            shutdown,
            task,
        }
    }

    pub fn request(&self, method: Method, path: &str, key: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header("x-api-key", key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_as(path, OPERATOR_TOKEN).await
    }

    pub async fn get_as(&self, path: &str, key: &str) -> Answer {
        read(self.request(Method::GET, path, key).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_as(path, body, OPERATOR_TOKEN).await
    }

    pub async fn post_as(&self, path: &str, body: Value, key: &str) -> Answer {
        read(
            self.request(Method::POST, path, key)
                .json(&body)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    /// Posts with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, body: &Value, idempotency_key: &str) -> Answer {
        let request = self.request(Method::POST, path, OPERATOR_TOKEN).json(body);
        let sent = request.header("Idempotency-Key", idempotency_key).send().await;
        read(sent.unwrap()).await
    }

    /// Creates an intent and returns its id.
    pub async fn create(&self, to_agent: &str) -> String {
        let body = self.post("/v1/intents", intent_to(to_agent)).await.ok();
        body["intent_id"].as_str().unwrap().to_owned()
    }

    /// A new account with an agent key: (account, token).
    pub async fn agent(&self, name: &str) -> (Value, String) {
        let body = json!({"org_id": ORG_ID, "workspace_id": WORKSPACE_ID, "name": name});
        let account = self.post("/v1/service-accounts", body).await.ok()["service_account"].clone();
        let id = account["service_account_id"].as_str().unwrap();
        let key = self
            .post(&format!("/v1/service-accounts/{id}/keys"), json!({}))
            .await
            .ok();
        (account, key["api_key"].as_str().unwrap().to_owned())
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub async fn read(response: Response) -> Answer {
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

pub fn intent_to(to_agent: &str) -> Value {
    json!({
        "intent_type": "notify.message.v1",
        "correlation_id": "6f1c1f0e-7a55-4c0e-9b5b-0d3f5a5d8f11",
        "from_agent": "agent://conformance/sender",
        "to_agent": to_agent,
        "payload": {"text": "hi"},
    })
}

/// The frames of a whole event stream: (id, event, data).
pub fn frames(text: &str) -> Vec<(Option<u64>, String, Value)> {
    assert!(text.ends_with("\n\n"), "{text:?}");
    text.split("\n\n")
        .filter(|frame| !frame.is_empty() && !frame.starts_with(':'))
        .map(|frame| {
            let field = |name: &str| frame.lines().find_map(|l| l.strip_prefix(name));
            (
                field("id: ").map(|id| id.parse().unwrap()),
                field("event: ").unwrap().to_owned(),
                serde_json::from_str(field("data: ").unwrap()).unwrap(),
            )
        })
        .collect()
}
