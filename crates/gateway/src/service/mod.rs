//! The operations of the client surface, typed. HTTP renders them as JSON, gRPC as messages.
//!
//! Replies come back as the protobuf rows that were committed, so that a replay renders the same answer.

pub(crate) mod accounts;
mod addresses;
mod agents;
mod approvals;
pub(crate) mod audit;
mod callbacks;
mod cluster;
mod completion;
pub(crate) mod deliveries;
mod end_notice;
mod every_group;
mod idempotency;
mod inbox;
mod intents;
mod listing;
pub(crate) mod scenario;
pub(crate) mod schemas;
mod submit;
mod task_links;
mod tasks;
mod tokens;
pub(crate) mod workspaces;

use std::sync::Arc;

use baton_protocol::address::Scope;
use baton_protocol::proto::internal::{
    Actor, AgentRef, ApiKey, CallContext, KeyKind, Query, QueryReply, Rejection, ServiceAccount, query,
    query_reply,
};
use baton_protocol::{ErrorCode, Route, ServiceError};

use crate::config::GatewayConfig;
use crate::ports::Ports;

pub(crate) use approvals::Approval;
pub(crate) use callbacks::{CALLBACK_URL_CHARS_MAX, SecretChange};
pub(crate) use completion::CompletionDelivery;
pub(crate) use end_notice::EndNotice;
pub(crate) use intents::{Change, Envelope, Resolve, Resume, ResumeKind, Transition};
pub(crate) use listing::{BulkCancel, BulkOutcome, IntentFilter};
pub(crate) use submit::{Submit, SubmitReply, is_intent_type};
pub(crate) use task_links::{LinkState, LinkedTask};
pub(crate) use tasks::{TaskFilter, Tasks as OpenTasks};

/// Who calls, as found under the presented key.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub key: ApiKey,
    pub account: ServiceAccount,
    pub scope: Scope,
    /// The call this is about, for audit.
    pub call: CallContext,
}

impl Caller {
    pub(crate) fn kind(&self) -> KeyKind {
        self.key.kind()
    }

    /// The address of the key's service account.
    pub(crate) fn own_address(&self) -> AgentRef {
        AgentRef {
            address: self.account.address.clone(),
            key: self.account.address.clone(),
            workspace_id: self.scope.workspace_id.clone(),
            org_id: self.scope.org_id.clone(),
        }
    }

    /// The caller as commands and queries carry it.
    pub(crate) fn actor(&self, acting_for: Option<AgentRef>, label: Option<String>) -> Actor {
        Actor {
            kind: self.key.kind,
            org_id: self.scope.org_id.clone(),
            workspace_id: self.scope.workspace_id.clone(),
            address: self.account.address.clone(),
            acting_for,
            label: label.unwrap_or_default(),
            call: None,
        }
    }

    /// [`Self::actor`] of a command that is audited: with the call it came by.
    fn audited_actor(&self, acting_for: Option<AgentRef>, label: Option<String>) -> Actor {
        Actor {
            call: Some(self.call.clone()),
            ..self.actor(acting_for, label)
        }
    }

    fn is_operator(&self) -> bool {
        self.kind() == KeyKind::Operator
    }

    /// Whether this key may read and listen as `owner`.
    fn check_owner(&self, owner: &AgentRef) -> Result<(), ServiceError> {
        let allowed = match self.kind() {
            KeyKind::Operator => true,
            KeyKind::Workspace => owner.workspace_id == self.scope.workspace_id,
            KeyKind::Agent | KeyKind::Unspecified => owner.key == self.account.address,
        };
        if allowed {
            Ok(())
        } else {
            Err(ServiceError::new(
                ErrorCode::InvalidActorScope,
                format!(
                    "this key may not act for {}; use a key of that agent or workspace",
                    owner.address
                ),
            ))
        }
    }
}

/// Deduplication asked for by the client.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyRequest {
    /// The client's key.
    pub key: String,
    /// What the key is scoped to besides the caller: method and path.
    pub endpoint: String,
    /// SHA-256 of the canonical request body.
    pub request_hash: [u8; 32],
}

/// Why an operation did not happen.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub error: ServiceError,
    /// The account that already has the requested name.
    pub existing: Option<Box<ServiceAccount>>,
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self {
            error,
            existing: None,
        }
    }
}

impl From<Rejection> for Failure {
    fn from(mut rejection: Rejection) -> Self {
        let existing = rejection.existing_service_account.take().map(Box::new);
        Self {
            error: rejection.into(),
            existing,
        }
    }
}

/// The operations, over the ports of a node.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) ports: Ports,
    pub(crate) config: Arc<GatewayConfig>,
    compiled: Arc<schemas::Compiled>,
}

impl Service {
    pub(crate) fn new(ports: Ports, config: Arc<GatewayConfig>) -> Self {
        Self {
            ports,
            config,
            compiled: Arc::default(),
        }
    }

    /// A linearizable read; a rejection becomes the error.
    async fn read(
        &self,
        route: Route,
        actor: Option<Actor>,
        body: query::Body,
    ) -> Result<query_reply::Outcome, ServiceError> {
        let query = Query {
            actor,
            body: Some(body),
        };
        outcome(self.ports.reader.read(route, query).await?)
    }

    /// A read of this node's replica, or of the leader when this node has none of that group.
    async fn read_nearby(
        &self,
        route: Route,
        actor: Option<Actor>,
        body: query::Body,
    ) -> Result<query_reply::Outcome, ServiceError> {
        let query = Query {
            actor,
            body: Some(body),
        };
        match self.ports.reader.read_local(route, &query) {
            Ok(reply) => outcome(reply),
            Err(error) if error.code.retryable() => outcome(self.ports.reader.read(route, query).await?),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.ports.environment.fill_random(&mut bytes);
        bytes
    }

    pub(crate) fn random_uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.random()).into_uuid()
    }
}

fn outcome(reply: QueryReply) -> Result<query_reply::Outcome, ServiceError> {
    match reply.outcome {
        Some(query_reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
        Some(other) => Ok(other),
        None => Err(unexpected("an empty query reply")),
    }
}

fn unexpected(what: &str) -> ServiceError {
    ServiceError::new(ErrorCode::Internal, format!("the cluster answered with {what}"))
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidArgument, message)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
