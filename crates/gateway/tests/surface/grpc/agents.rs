//! Agents, their deliveries, threads and scenarios.

use baton_protocol::proto::v1;
use tokio::time::timeout;
use tonic::Code;

use super::{Client, SOON, refused};
use crate::support::{OTHER_TOKEN, Server};

fn register(name: &str, create_key: bool) -> v1::RegisterAgentRequest {
    v1::RegisterAgentRequest {
        name: name.into(),
        display_name: "A worker".into(),
        create_key,
        ..v1::RegisterAgentRequest::default()
    }
}

#[tokio::test]
async fn an_agent_is_registered_once_and_reads_its_own() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let made = client
        .agents()
        .register_agent(register("worker", true))
        .await
        .unwrap()
        .into_inner();
    let agent = made.agent.unwrap();
    assert!(made.created && !agent.disabled);
    assert_eq!(agent.address, "agent://acme/prod/worker");
    let again = client
        .agents()
        .register_agent(register("worker", false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((again.created, again.api_key.as_str()), (false, ""));
    assert_eq!(again.agent.unwrap().agent_id, agent.agent_id);
    let found = v1::GetAgentRequest {
        address: agent.address.clone(),
    };
    let found = client
        .agents()
        .get_agent(found)
        .await
        .unwrap()
        .into_inner()
        .agent
        .unwrap();
    assert_eq!(found, agent);
    let nobody = v1::GetAgentRequest {
        address: "agent://acme/prod/nobody".into(),
    };
    refused(
        client.agents().get_agent(nobody).await,
        Code::NotFound,
        "agent_not_found",
    );
    let mode = v1::RegisterAgentRequest {
        delivery_mode: "pigeon".into(),
        ..register("x", false)
    };
    refused(
        client.agents().register_agent(mode).await,
        Code::InvalidArgument,
        "invalid_argument",
    );

    let worker = Client::new(&server, &made.api_key).await;
    let own = v1::SubscribeRequest::default();
    let mut deliveries = worker.agents().subscribe(own).await.unwrap().into_inner();
    let first = client.create(&agent.address).await;
    let second = client.create(&agent.address).await;
    let mut cursor = 0;
    for id in [&first, &second] {
        let item = timeout(SOON, deliveries.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let intent = item.intent.unwrap();
        assert_eq!((&intent.intent_id, item.attempt), (id, 1));
        assert!(intent.payload.is_some() && item.cursor > cursor);
        cursor = item.cursor;
    }
    let backlog = v1::GetBacklogRequest::default();
    let backlog = worker.agents().get_backlog(backlog).await.unwrap().into_inner();
    assert_eq!(backlog.open_deliveries, 2);
    assert!(backlog.oldest_at_ms > 0);
    let late = v1::SubscribeRequest {
        since_cursor: cursor,
        ..v1::SubscribeRequest::default()
    };
    let mut rest = worker.agents().subscribe(late).await.unwrap().into_inner();
    let third = client.create(&agent.address).await;
    let item = timeout(SOON, rest.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(item.intent.unwrap().intent_id, third);

    let foreign = v1::SubscribeRequest {
        agent: "agent://acme/prod/operator".into(),
        since_cursor: 0,
    };
    refused(
        worker.agents().subscribe(foreign).await,
        Code::PermissionDenied,
        "invalid_actor_scope",
    );
    refused(
        worker.agents().register_agent(register("y", false)).await,
        Code::PermissionDenied,
        "invalid_actor_scope",
    );
}

#[tokio::test]
async fn a_repeated_registration_shows_the_same_key_again() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let under = |key: &str, agent: v1::RegisterAgentRequest| v1::RegisterAgentRequest {
        idempotency_key: key.into(),
        ..agent
    };
    let mut agents = client.agents();
    let mut ask = async |request| {
        agents
            .register_agent(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let first = ask(under("r1", register("worker", true))).await.unwrap();
    let again = ask(under("r1", register("worker", true))).await.unwrap();
    assert!(first.created && !first.api_key.is_empty());
    assert_eq!(first, again);
    let id = &first.agent.as_ref().unwrap().agent_id;
    assert_eq!(server.node.key_ids(id).len(), 1);
    server.get_as("/v1/me", &first.api_key).await.ok();
    let secret = first.api_key.rsplit('_').next().unwrap();
    assert!(!server.node.stores(secret.as_bytes()), "only its hash is kept");

    for other in [register("worker", false), register("another", true)] {
        refused(
            ask(under("r1", other)).await,
            Code::AlreadyExists,
            "idempotency_conflict",
        );
    }
    let missing = v1::GetAgentRequest {
        address: "agent://acme/prod/another".into(),
    };
    let missing = client.agents().get_agent(missing).await;
    refused(missing, Code::NotFound, "agent_not_found");

    // Another key or none: another token for the agent that is there.
    let second = ask(under("r2", register("worker", true))).await.unwrap();
    let third = ask(register("worker", true)).await.unwrap();
    assert!(!second.created && !third.created);
    assert_eq!(second, ask(under("r2", register("worker", true))).await.unwrap());
    assert_eq!(server.node.key_ids(id).len(), 3);
    let too_long = under(&"k".repeat(300), register("worker", true));
    refused(ask(too_long).await, Code::InvalidArgument, "invalid_argument");
}

#[tokio::test]
async fn agents_are_listed_in_pages() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    for n in 0..7 {
        client
            .agents()
            .register_agent(register(&format!("worker{n}"), false))
            .await
            .unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListAgentsRequest {
            page_size: 3,
            page_token,
        };
        let page = client.agents().list_agents(request).await.unwrap().into_inner();
        assert!(page.agents.len() <= 3);
        names.extend(page.agents.into_iter().map(|a| a.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    names.sort();
    let mut expected: Vec<String> = (0..7).map(|n| format!("worker{n}")).collect();
    expected.insert(0, "operator".into());
    assert_eq!(names, expected);
    let stranger = Client::new(&server, OTHER_TOKEN).await;
    let theirs = stranger
        .agents()
        .list_agents(v1::ListAgentsRequest::default())
        .await
        .unwrap();
    assert_eq!(theirs.into_inner().agents.len(), 1);
}

#[tokio::test]
async fn threads_are_read_by_their_owner() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let id = client.create("agent://acme/prod/worker").await;
    let owner = "agent://acme/prod/worker".to_owned();
    let list = v1::ListThreadsRequest {
        owner: owner.clone(),
        page_size: 0,
    };
    let threads = client
        .inbox()
        .list_threads(list)
        .await
        .unwrap()
        .into_inner()
        .threads;
    assert_eq!(threads.len(), 1);
    assert_eq!((&threads[0].intent_id, &threads[0].owner), (&id, &owner));
    let get = v1::GetThreadRequest {
        thread_id: threads[0].thread_id.clone(),
        owner,
    };
    let thread = client
        .inbox()
        .get_thread(get)
        .await
        .unwrap()
        .into_inner()
        .thread
        .unwrap();
    assert_eq!(thread.intent_id, id);
    let mine = v1::GetThreadRequest {
        thread_id: thread.thread_id,
        owner: String::new(),
    };
    refused(client.inbox().get_thread(mine).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn a_scenario_starts_and_says_what_is_wrong() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let bundle = r#"{"scenario_id": "pay.order.v1",
        "agents": [{"role": "payer", "address": "payer", "create_if_missing": true}],
        "workflow": {"steps": [{"step_id": "pay", "tool_id": "t", "assigned_to": "payer"}]},
        "intent": {"type": "payment.process.v1", "payload": {"a": 1.50}}}"#;
    let apply = || v1::ApplyScenarioRequest {
        bundle_json: bundle.as_bytes().to_vec().into(),
        idempotency_key: "once".into(),
    };
    let first = client
        .scenarios()
        .apply_scenario(apply())
        .await
        .unwrap()
        .into_inner();
    let parent = first.intent.unwrap();
    assert!(!first.compile_id.is_empty() && !first.replayed);
    let again = client
        .scenarios()
        .apply_scenario(apply())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (again.intent.unwrap().intent_id, again.replayed),
        (parent.intent_id, true)
    );
    let check = |text: &'static str| v1::ValidateScenarioRequest {
        bundle_json: bytes::Bytes::from_static(text.as_bytes()),
    };
    let wrong = client
        .scenarios()
        .validate_scenario(check("{}"))
        .await
        .unwrap()
        .into_inner();
    assert!(!wrong.valid);
    assert_eq!(wrong.errors, ["scenario_id is required", "intent is required"]);
    let apply = v1::ApplyScenarioRequest {
        bundle_json: bytes::Bytes::from_static(b"{}"),
        idempotency_key: String::new(),
    };
    refused(
        client.scenarios().apply_scenario(apply).await,
        Code::InvalidArgument,
        "schema_invalid",
    );
    let none = client.scenarios().validate_scenario(check("no json")).await;
    assert_eq!(none.unwrap_err().code(), Code::InvalidArgument);
}
