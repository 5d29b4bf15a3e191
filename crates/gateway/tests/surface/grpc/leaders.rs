//! Answers that were decided elsewhere say where.

use baton_protocol::proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;

use super::{Client, spec};
use crate::support::Server;

const AGENT: &str = "agent://acme/prod/worker";
const ELSEWHERE: &str = "10.0.0.7:8100";

fn named(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("baton-leader").map(|value| value.to_str().unwrap())
}

/// What each call that takes a command says about the leader.
async fn told(client: &Client) -> Vec<(&'static str, Option<String>)> {
    let mut told = Vec::new();
    let mut note = |call, metadata: &MetadataMap| told.push((call, named(metadata).map(str::to_owned)));
    let submit = v1::SubmitRequest {
        intent: Some(spec(AGENT)),
    };
    let submitted = client.intents().submit(submit).await.unwrap();
    note("submit", submitted.metadata());
    let intent_id = submitted.into_inner().receipt.unwrap().intent_id;
    let cancel = || v1::CancelRequest {
        intent_id: intent_id.clone(),
        ..v1::CancelRequest::default()
    };
    note(
        "cancel",
        client.intents().cancel(cancel()).await.unwrap().metadata(),
    );
    // A refusal says it too.
    note(
        "refused",
        client.intents().cancel(cancel()).await.unwrap_err().metadata(),
    );
    let register = v1::RegisterAgentRequest {
        name: "worker".into(),
        ..v1::RegisterAgentRequest::default()
    };
    note(
        "register",
        client.agents().register_agent(register).await.unwrap().metadata(),
    );
    let subscribe = v1::SubscribeRequest {
        agent: AGENT.into(),
        since_cursor: 0,
    };
    note(
        "subscribe",
        client.agents().subscribe(subscribe).await.unwrap().metadata(),
    );
    let (to, requests) = tokio::sync::mpsc::channel(1);
    let open = v1::WorkRequest {
        open: Some(v1::WorkOpen {
            agent: AGENT.into(),
            ..v1::WorkOpen::default()
        }),
        ..v1::WorkRequest::default()
    };
    to.send(open).await.unwrap();
    let work = client.agents().work(ReceiverStream::new(requests)).await.unwrap();
    let first = work.into_inner().message().await.unwrap().unwrap();
    let leader = first.opened.unwrap().leader;
    told.push(("work", Some(leader).filter(|leader| !leader.is_empty())));
    told
}

#[tokio::test]
async fn forwarded_calls_name_the_leader_and_others_nobody() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    for (call, leader) in told(&client).await {
        assert_eq!(leader, None, "{call}");
    }
    server.node.set_leader(Some(ELSEWHERE));
    for (call, leader) in told(&client).await {
        assert_eq!(leader.as_deref(), Some(ELSEWHERE), "{call}");
    }
    // An address that no header can carry is left out.
    server.node.set_leader(Some("no\nheader"));
    let submit = v1::SubmitRequest {
        intent: Some(spec(AGENT)),
    };
    let answer = client.intents().submit(submit).await.unwrap();
    assert_eq!(named(answer.metadata()), None);
}
