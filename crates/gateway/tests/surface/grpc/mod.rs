//! The native gRPC API over the same server and port.
#![allow(unreachable_pub, reason = "shared by the test modules")]

mod agents;
mod audit;
mod bounds;
mod intents;
mod leaders;
mod lists;
mod operators;
mod settings;
mod streams;
mod tasks;
mod transport;
mod work;

use std::time::Duration;

use baton_protocol::proto::v1;
use baton_protocol::proto::v1::admin_service_client::AdminServiceClient;
use baton_protocol::proto::v1::agent_service_client::AgentServiceClient;
use baton_protocol::proto::v1::audit_service_client::AuditServiceClient;
use baton_protocol::proto::v1::inbox_service_client::InboxServiceClient;
use baton_protocol::proto::v1::intent_service_client::IntentServiceClient;
use baton_protocol::proto::v1::scenario_service_client::ScenarioServiceClient;
use baton_protocol::proto::v1::schema_service_client::SchemaServiceClient;
use baton_protocol::proto::v1::task_service_client::TaskServiceClient;
use baton_protocol::proto::v1::workspace_service_client::WorkspaceServiceClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::support::{OPERATOR_TOKEN, Server};

/// Longest wait for something that is bound to come.
pub const SOON: Duration = Duration::from_secs(20);

/// Adds a key to each call.
#[derive(Clone)]
pub struct Key(Option<AsciiMetadataValue>);

impl tonic::service::Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("x-api-key", key.clone());
        }
        Ok(request)
    }
}

pub type Keyed = InterceptedService<Channel, Key>;

/// A connection with one key.
pub struct Client {
    channel: Channel,
    key: Key,
}

impl Client {
    pub async fn new(server: &Server, key: &str) -> Self {
        let endpoint = Endpoint::from_shared(server.base.clone()).unwrap();
        Self {
            channel: endpoint.connect().await.unwrap(),
            key: Key((!key.is_empty()).then(|| key.parse().unwrap())),
        }
    }

    pub async fn operator(server: &Server) -> Self {
        Self::new(server, OPERATOR_TOKEN).await
    }

    fn keyed(&self) -> Keyed {
        InterceptedService::new(self.channel.clone(), self.key.clone())
    }

    pub fn intents(&self) -> IntentServiceClient<Keyed> {
        IntentServiceClient::new(self.keyed())
    }

    pub fn agents(&self) -> AgentServiceClient<Keyed> {
        AgentServiceClient::new(self.keyed())
    }

    pub fn inbox(&self) -> InboxServiceClient<Keyed> {
        InboxServiceClient::new(self.keyed())
    }

    pub fn scenarios(&self) -> ScenarioServiceClient<Keyed> {
        ScenarioServiceClient::new(self.keyed())
    }

    pub fn tasks(&self) -> TaskServiceClient<Keyed> {
        TaskServiceClient::new(self.keyed())
    }

    pub fn schemas(&self) -> SchemaServiceClient<Keyed> {
        SchemaServiceClient::new(self.keyed())
    }

    pub fn audit(&self) -> AuditServiceClient<Keyed> {
        AuditServiceClient::new(self.keyed())
    }

    pub fn workspaces(&self) -> WorkspaceServiceClient<Keyed> {
        WorkspaceServiceClient::new(self.keyed())
    }

    pub fn admin(&self) -> AdminServiceClient<Keyed> {
        AdminServiceClient::new(self.keyed())
    }

    /// Creates an intent and returns its id.
    pub async fn create(&self, to_agent: &str) -> String {
        let request = v1::SubmitRequest {
            intent: Some(spec(to_agent)),
        };
        let answer = self.intents().submit(request).await.unwrap().into_inner();
        answer.receipt.unwrap().intent_id
    }

    pub async fn complete(&self, intent_id: &str) {
        let request = v1::ResolveRequest {
            intent_id: intent_id.to_owned(),
            status: v1::Status::Completed.into(),
            result: Some(json(r#"{"done":true}"#)),
            ..v1::ResolveRequest::default()
        };
        self.intents().resolve(request).await.unwrap();
    }
}

pub fn json(text: &str) -> v1::Payload {
    v1::Payload {
        data: text.as_bytes().to_vec().into(),
        content_type: String::new(),
    }
}

pub fn spec(to_agent: &str) -> v1::IntentSpec {
    v1::IntentSpec {
        intent_type: "notify.message.v1".into(),
        to_agent: to_agent.into(),
        payload: Some(json(r#"{"n": 1.50}"#)),
        ..v1::IntentSpec::default()
    }
}

/// Asserts what a refusal says: its code, and its reason of the catalogue.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        (reason, "baton"),
        "{status:?}"
    );
    status
}
