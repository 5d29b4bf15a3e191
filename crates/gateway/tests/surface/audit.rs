//! Audit events, and the retention of a workspace, over HTTP.

use super::support::{OTHER_TOKEN, OTHER_WORKSPACE_ID, Server, WORKSPACE_ID, read};
use reqwest::Method;
use serde_json::{Value, json};

async fn events(server: &Server, query: &str) -> Vec<Value> {
    let found = server.get(&format!("/v1/audit/events?{query}")).await.ok();
    found["events"].as_array().unwrap().clone()
}

fn actions(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect()
}

async fn asked(server: &Server) -> String {
    let intent = json!({
        "intent_type": "spend.money.v1", "to_agent": "agent://agent_core", "payload": {},
        "human_task": {"title": "Pay?"},
    });
    let created = server.post("/v1/intents", intent).await.ok();
    created["intent_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_approval_is_recorded_with_the_call_it_came_by() {
    let server = Server::start().await;
    let id = asked(&server).await;
    let body = json!({"task_result": {"outcome": "approved"}, "actor": "ann@example.com"});
    let request = server.request(
        Method::POST,
        &format!("/v1/intents/{id}/resume"),
        super::support::OPERATOR_TOKEN,
    );
    let answer = read(
        request
            .json(&body)
            .header("x-trace-id", "trace-7")
            .send()
            .await
            .unwrap(),
    )
    .await;
    let request_id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    answer.ok();
    let found = events(&server, "action_prefix=task.").await;
    let [event] = found.as_slice() else {
        panic!("{found:?}")
    };
    for (name, expected) in [
        ("action", json!("task.answered")),
        ("actor_kind", json!("operator")),
        ("actor_label", json!("ann@example.com")),
        ("target_type", json!("intent")),
        ("target_id", json!(id)),
        ("request_id", json!(request_id)),
        ("trace_id", json!("trace-7")),
        ("endpoint", json!("/v1/intents/{id}/resume")),
        ("method", json!("POST")),
        ("status_code", json!(200)),
        ("workspace_id", json!(WORKSPACE_ID)),
    ] {
        assert_eq!(event[name], expected, "{name}");
    }
    assert_eq!(event["details"]["outcome"], "approved");
    assert!(event["event_id"].as_str().unwrap().starts_with("aud_"));
    assert!(event["key_id"].as_str().unwrap().starts_with("key_"));
    assert_eq!(event["hash"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn submits_and_results_leave_no_audit_events() {
    let server = Server::start().await;
    let id = server.create("payments").await;
    let result = json!({"amount": 1});
    server
        .post(&format!("/v1/intents/{id}/resume"), result)
        .await
        .ok();
    assert!(events(&server, "").await.is_empty());
}

#[tokio::test]
async fn events_of_all_groups_come_newest_first_page_by_page() {
    let server = Server::start().await;
    for n in 0..4 {
        server.agent(&format!("agent-{n}")).await;
        let id = server.create(&format!("agent-{n}")).await;
        let body = json!({"controls_patch": {"n": n}});
        server
            .post(&format!("/v1/intents/{id}/controls"), body)
            .await
            .ok();
    }
    let all = events(&server, "").await;
    assert_eq!(all.len(), 12, "{:?}", actions(&all));
    let times: Vec<_> = all.iter().map(|event| event["at_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server
            .get(&format!("/v1/audit/events?limit=5&cursor={cursor}"))
            .await
            .ok();
        paged.extend(page["events"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, all);
    let keys = events(&server, "action_prefix=key.&limit=3").await;
    assert_eq!(actions(&keys), ["key.created"; 3]);
    let heads = server.get("/v1/audit/heads").await.ok();
    let heads = heads["heads"].as_array().unwrap();
    let counted: u64 = heads.iter().map(|head| head["sequence"].as_u64().unwrap()).sum();
    assert_eq!(counted, 12);
    for head in heads {
        assert_eq!(head["anchor"]["sequence"], 0);
        let newest = all.iter().find(|event| event["group_id"] == head["group_id"]);
        assert_eq!(newest.unwrap()["hash"], head["hash"]);
    }
}

#[tokio::test]
async fn who_may_not_read_sees_nothing() {
    let server = Server::start().await;
    let (_, agent_key) = server.agent("worker").await;
    for path in ["/v1/audit/events", "/v1/audit/heads"] {
        server.get_as(path, &agent_key).await.refused(403);
        let other = server.get_as(path, OTHER_TOKEN).await.ok();
        assert_eq!(
            other["events"]
                .as_array()
                .or(other["heads"].as_array())
                .unwrap()
                .len(),
            0
        );
        let foreign = format!("{path}?workspace_id={WORKSPACE_ID}");
        server.get_as(&foreign, OTHER_TOKEN).await.refused(404);
        server
            .get_as(&format!("{path}?workspace_id=cluster"), OTHER_TOKEN)
            .await
            .refused(404);
        server
            .get(&format!("{path}?workspace_id={OTHER_WORKSPACE_ID}"))
            .await
            .ok();
        server.get(&format!("{path}?workspace_id=cluster")).await.ok();
    }
    server
        .get_as("/v1/audit/heads?workspace_id=*", OTHER_TOKEN)
        .await
        .refused(403);
    let every = server.get("/v1/audit/heads?workspace_id=*").await.ok();
    assert_eq!(every["heads"].as_array().unwrap().len(), 1);
    for bad in ["cursor=x", "since=yesterday", "limit=many"] {
        server.get(&format!("/v1/audit/events?{bad}")).await.refused(422);
    }
}

#[tokio::test]
async fn a_denied_call_that_reached_the_log_is_recorded() {
    let server = Server::start().await;
    let id = server.create("payments").await;
    let (_, stranger) = server.agent("stranger").await;
    let body = json!({"controls_patch": {"a": 1}});
    let path = format!("/v1/intents/{id}/controls");
    server.post_as(&path, body, &stranger).await.refused(403);
    let found = events(&server, "action_prefix=intent.").await;
    assert_eq!(actions(&found), ["intent.controls_changed"]);
    assert_eq!(found[0]["status_code"], 403);
    assert_eq!(found[0]["actor_kind"], "agent");
}

#[tokio::test]
async fn an_operator_sets_how_long_a_workspace_keeps_what_is_over() {
    let server = Server::start().await;
    let path = format!("/v1/workspaces/{WORKSPACE_ID}/retention");
    let before = server.get("/v1/workspaces/self/retention").await.ok();
    assert_eq!(before["retention"]["inherited"], true);
    assert_eq!(before["retention"]["workspace_id"], WORKSPACE_ID);
    let put = async |body: Value, key: &str| {
        let request = server.request(Method::PUT, &path, key).json(&body);
        read(request.send().await.unwrap()).await
    };
    let operator = super::support::OPERATOR_TOKEN;
    let month_ms = 30_u64 * 24 * 3_600_000;
    let set = put(json!({"terminal_retention_ms": month_ms}), operator)
        .await
        .ok();
    assert_eq!(set["retention"]["terminal_retention_ms"], month_ms);
    assert_eq!(set["retention"]["inherited"], false);
    assert_eq!(server.get(&path).await.ok(), set);
    for (body, status) in [
        (json!({"terminal_retention_ms": 1}), 422),
        (json!({"terminal_retention_ms": 0}), 422),
        (json!({"terminal_retention_ms": "long"}), 422),
        (json!({}), 422),
    ] {
        let refused = put(body.clone(), operator).await;
        assert_eq!(refused.status, status, "{body}");
    }
    put(json!({"terminal_retention_ms": month_ms}), OTHER_TOKEN)
        .await
        .refused(404);
    server.get_as(&path, OTHER_TOKEN).await.refused(404);
    let cleared = server.request(Method::DELETE, &path, operator).send().await;
    let cleared = read(cleared.unwrap()).await.ok();
    assert_eq!(cleared, before);
    let found = events(&server, "action_prefix=workspace.").await;
    assert_eq!(actions(&found), ["workspace.retention_set"; 2]);
    assert_eq!(found[1]["details"]["terminal_retention_ms"], month_ms.to_string());
}
