//! `AuditService` and `WorkspaceService`.

use baton_protocol::audit::genesis;
use baton_protocol::proto::v1;
use tonic::Code;

use super::{Client, refused};
use crate::support::{OTHER_TOKEN, Server, WORKSPACE_ID};

fn page(token: &str) -> v1::ListAuditEventsRequest {
    v1::ListAuditEventsRequest {
        page_size: 2,
        page_token: token.to_owned(),
        ..v1::ListAuditEventsRequest::default()
    }
}

#[tokio::test]
async fn changes_of_both_surfaces_are_in_one_chain() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let id = client.create("payments").await;
    let mut intents = client.intents();
    let canceled = intents.cancel(v1::CancelRequest {
        intent_id: id.clone(),
        reason: "not needed".into(),
        ..v1::CancelRequest::default()
    });
    let answer = canceled.await.unwrap();
    let request_id = answer
        .metadata()
        .get("x-request-id")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    server.agent("worker").await;
    let mut audit = client.audit();
    let first = audit.list_audit_events(page("")).await.unwrap().into_inner();
    assert_eq!(first.events.len(), 2);
    let rest = audit
        .list_audit_events(page(&first.next_page_token))
        .await
        .unwrap()
        .into_inner();
    let [event] = rest.events.as_slice() else {
        panic!("{rest:?}")
    };
    assert_eq!(
        (event.action.as_str(), event.target_id.as_str()),
        ("intent.canceled", id.as_str())
    );
    assert_eq!(
        (event.method.as_str(), event.endpoint.as_str()),
        ("gRPC", "baton.v1.IntentService/Cancel")
    );
    assert_eq!(
        (event.request_id.as_str(), event.status_code),
        (request_id.as_str(), 200)
    );
    assert_eq!(event.details["reason"], "not needed");
    assert_eq!(&event.previous_hash[..], genesis(WORKSPACE_ID, event.group_id));
    let request = v1::ListAuditHeadsRequest::default();
    let heads = audit.list_audit_heads(request).await.unwrap().into_inner().heads;
    let head = heads.iter().find(|head| head.group_id == event.group_id).unwrap();
    assert_eq!(
        (&head.hash, head.sequence, head.anchor_sequence),
        (&event.hash, 1, 0)
    );
    refused(
        audit.list_audit_events(page("nonsense")).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let mut stranger = Client::new(&server, OTHER_TOKEN).await.audit();
    let foreign = v1::ListAuditEventsRequest {
        workspace_id: WORKSPACE_ID.into(),
        ..page("")
    };
    refused(
        stranger.list_audit_events(foreign).await,
        Code::NotFound,
        "not_found",
    );
    let every = v1::ListAuditHeadsRequest {
        every_workspace: true,
        ..v1::ListAuditHeadsRequest::default()
    };
    let denied = stranger.list_audit_heads(every).await;
    refused(denied, Code::PermissionDenied, "policy_denied");
}

#[tokio::test]
async fn retention_is_set_by_operators_and_read_by_the_workspace() {
    let server = Server::start().await;
    let mut workspaces = Client::operator(&server).await.workspaces();
    let set = |ms| v1::SetRetentionRequest {
        terminal_retention_ms: ms,
        ..v1::SetRetentionRequest::default()
    };
    let week_ms = 7 * 24 * 3_600_000;
    let answer = workspaces.set_retention(set(week_ms)).await.unwrap().into_inner();
    let retention = answer.retention.unwrap();
    assert_eq!(
        (retention.terminal_retention_ms, retention.inherited),
        (week_ms, false)
    );
    let got = workspaces.get_retention(v1::GetRetentionRequest::default()).await;
    assert_eq!(got.unwrap().into_inner().retention, Some(retention));
    let short = workspaces.set_retention(set(1)).await;
    let status = refused(short, Code::InvalidArgument, "invalid_argument");
    assert!(status.message().contains("idempotency"), "{status:?}");
    let cleared = workspaces.set_retention(set(0)).await.unwrap().into_inner();
    assert!(cleared.retention.unwrap().inherited);
    let mut stranger = Client::new(&server, OTHER_TOKEN).await.workspaces();
    refused(
        stranger.set_retention(set(week_ms)).await,
        Code::PermissionDenied,
        "policy_denied",
    );
}
