//! `AuditService`.

use std::sync::Arc;

use baton_protocol::limits::{AUDIT_PAGE_DEFAULT, AUDIT_PAGE_MAX};
use baton_protocol::proto::internal::{AuditChain, AuditEvent};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::audit_service_server::AuditService;
use baton_protocol::{ErrorCode, ServiceError};
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::decode;
use super::status::status;
use crate::app::App;
use crate::service::audit::{AuditFilter, AuditScope, event_id, parse_place, place_text};

const PREFIX_CHARS_MAX: usize = 64;
const ID_CHARS_MAX: usize = 64;

pub(super) struct Audit(pub(super) Arc<App>);

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let size = match request.page_size {
            0 => AUDIT_PAGE_DEFAULT,
            size => size.min(AUDIT_PAGE_MAX),
        };
        let behind = match request.page_token.as_str() {
            "" => None,
            token => Some(parse_place(token).map_err(|error| status(error.in_field("page_token")))?),
        };
        let filter = filter(request).map_err(status)?;
        let found = self
            .0
            .service
            .list_audit(&call.caller, &filter, behind, size)
            .await;
        let found = found.map_err(status)?;
        Ok(Response::new(v1::ListAuditEventsResponse {
            next_page_token: found.next.as_ref().map(place_text).unwrap_or_default(),
            events: found.events.into_iter().map(event).collect(),
        }))
    }

    async fn list_audit_heads(
        &self,
        request: Request<v1::ListAuditHeadsRequest>,
    ) -> Result<Response<v1::ListAuditHeadsResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let scope = scope(request.workspace_id, false).map_err(status)?;
        let scope = (!request.every_workspace).then_some(&scope);
        let chains = self.0.service.audit_heads(&call.caller, scope).await;
        Ok(Response::new(v1::ListAuditHeadsResponse {
            heads: chains.map_err(status)?.into_iter().map(head).collect(),
        }))
    }
}

fn filter(request: v1::ListAuditEventsRequest) -> Result<AuditFilter, ServiceError> {
    let prefix = decode::text(request.action_prefix, "action_prefix", PREFIX_CHARS_MAX)?;
    Ok(AuditFilter {
        scope: scope(request.workspace_id, request.cluster)?,
        owner: decode::address(request.owner_agent, "owner_agent")?,
        action_prefix: prefix.unwrap_or_default(),
        since_ms: request.since_ms,
        until_ms: request.until_ms,
    })
}

fn scope(workspace_id: String, cluster: bool) -> Result<AuditScope, ServiceError> {
    let named = decode::text(workspace_id, "workspace_id", ID_CHARS_MAX)?;
    match (named, cluster) {
        (Some(_), true) => {
            let error = ServiceError::new(
                ErrorCode::InvalidArgument,
                "cluster and workspace_id name different chains; send one of them",
            );
            Err(error.in_field("cluster"))
        }
        (None, true) => Ok(AuditScope::Cluster),
        (Some(id), false) => Ok(AuditScope::Workspace(id)),
        (None, false) => Ok(AuditScope::Own),
    }
}

fn event(event: AuditEvent) -> v1::AuditEvent {
    v1::AuditEvent {
        event_id: event_id(&event),
        workspace_id: event.workspace_id,
        group_id: event.group_id,
        sequence: event.sequence,
        at_ms: event.at_ms,
        action: event.action,
        actor: event.actor,
        actor_kind: event.actor_kind,
        actor_label: event.actor_label,
        key_id: event.key_id,
        owner_agent: event.owner_agent,
        request_id: event.request_id,
        trace_id: event.trace_id,
        endpoint: event.endpoint,
        method: event.method,
        status_code: event.status_code,
        target_type: event.target_type,
        target_id: event.target_id,
        details: event.details.into_iter().map(|d| (d.name, d.value)).collect(),
        previous_hash: event.previous_hash,
        hash: event.hash,
    }
}

fn head(chain: AuditChain) -> v1::AuditHead {
    v1::AuditHead {
        workspace_id: chain.workspace_id,
        group_id: chain.group_id,
        sequence: chain.sequence,
        hash: chain.hash,
        at_ms: chain.at_ms,
        anchor_sequence: chain.anchor_sequence,
        anchor_hash: chain.anchor_hash,
        anchor_at_ms: chain.anchor_at_ms,
    }
}
