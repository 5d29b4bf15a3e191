//! What operators ask, health and reflection.

use baton_protocol::proto::v1;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::{Client, refused};
use crate::support::{OTHER_TOKEN, Server};

#[tokio::test]
async fn operators_see_and_steer_the_cluster() {
    let server = Server::start().await;
    let mut admin = Client::operator(&server).await.admin();
    let status = admin
        .get_status(v1::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.node_id, status.shard_groups, status.groups_without_leader),
        (1, 4, 0)
    );
    assert_eq!((status.nodes.len(), status.nodes[0].groups_led), (1, 5));
    let groups = admin
        .list_groups(v1::ListGroupsRequest {})
        .await
        .unwrap()
        .into_inner()
        .groups;
    assert_eq!(groups.len(), 5);
    let to = |to_node_id| v1::TransferLeaderRequest {
        group_id: 1,
        to_node_id,
    };
    assert_eq!(
        admin
            .transfer_leader(to(1))
            .await
            .unwrap()
            .into_inner()
            .leader_node_id,
        1
    );
    refused(
        admin.transfer_leader(to(2)).await,
        Code::DeadlineExceeded,
        "timeout",
    );
    refused(admin.transfer_leader(to(9)).await, Code::NotFound, "not_found");
    let mut stranger = Client::new(&server, OTHER_TOKEN).await.admin();
    for answer in [
        stranger.get_status(v1::GetStatusRequest {}).await.map(drop),
        stranger.list_groups(v1::ListGroupsRequest {}).await.map(drop),
        stranger.transfer_leader(to(1)).await.map(drop),
    ] {
        refused(answer, Code::PermissionDenied, "policy_denied");
    }
}

#[tokio::test]
async fn health_follows_readiness() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(server.base.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = HealthClient::new(channel);
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in ["", "baton.v1.IntentService"] {
        let answer = health.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    assert_eq!(
        health.check(ask("nobody")).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    server.node.set_stale(true);
    let answer = health.check(ask("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
}

#[tokio::test]
async fn the_api_describes_itself() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(server.base.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let questions = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "baton.v1.IntentService".into(),
        )),
    ]);
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client
        .server_reflection_info(questions)
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<&str> = list.service.iter().map(|s| s.name.as_str()).collect();
    for name in [
        "baton.v1.IntentService",
        "baton.v1.AgentService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let answer = answers.message().await.unwrap().unwrap().message_response;
    assert!(
        matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))),
        "{answer:?}"
    );
}
