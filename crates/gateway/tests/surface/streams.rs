//! Event streams of intents and agents.

use std::time::{Duration, Instant};

use super::support::{OPERATOR_TOKEN, OTHER_TOKEN, Server, frames, intent_to, read};
use reqwest::Method;
use serde_json::json;
use tokio_stream::StreamExt;

#[tokio::test]
async fn an_intent_stream_sends_its_history_and_ends() {
    let server = Server::start().await;
    let id = server.create("worker").await;
    let path = format!("/v1/intents/{id}/events/stream?since=1&wait_seconds=10");
    let started = Instant::now();
    let answer = server.get(&path).await;
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "closed long before wait_seconds"
    );
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.headers["cache-control"], "no-cache");
    let frames = frames(&answer.text);
    let seen: Vec<_> = frames
        .iter()
        .map(|(id, event, _)| (*id, event.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (Some(2), "intent.submitted"),
            (Some(3), "intent.delivered"),
            (None, "stream.timeout")
        ]
    );
    assert_eq!(frames[1].2["seq"], 3);
    assert_eq!(frames[2].2, json!({"ok": true, "next_seq": 3}));
    // A finished intent has nothing to wait for.
    server
        .post(
            &format!("/v1/intents/{id}/resolve"),
            json!({"status": "COMPLETED"}),
        )
        .await
        .ok();
    let rest = server
        .get(&format!("/v1/intents/{id}/events/stream?since=4&wait_seconds=10"))
        .await;
    assert_eq!(super::support::frames(&rest.text).len(), 1, "{}", rest.text);
    let unknown = server
        .get(&format!("/v1/intents/{}/events/stream", uuid::Uuid::nil()))
        .await;
    assert_eq!(unknown.refused(404), "not_found");
}

#[tokio::test]
async fn a_cursor_beyond_the_end_does_not_hide_the_next_event() {
    let server = Server::start().await;
    let id = server.create("worker").await;
    let path = format!("/v1/intents/{id}/events/stream?since=4&wait_seconds=10");
    let resolve = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let path = format!("/v1/intents/{id}/resolve");
        server
            .post(
                &path,
                json!({"status": "COMPLETED", "result": {"t": "a\u{2028}b"}}),
            )
            .await
            .ok()
    };
    let (answer, _) = tokio::join!(server.get(&path), resolve);
    assert!(answer.text.is_ascii());
    let frames = frames(&answer.text);
    assert_eq!(frames[0].1, "intent.completed");
    assert_eq!(frames[0].2["result"]["t"], "a\u{2028}b");
    // The command line's watcher counts inclusively.
    let watcher = server.request(
        Method::GET,
        &format!("/v1/intents/{id}/events/stream?since=4"),
        OPERATOR_TOKEN,
    );
    let answer = read(
        watcher
            .header("user-agent", "Go-http-client/1.1")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(super::support::frames(&answer.text)[0].0, Some(4));
}

#[tokio::test]
async fn python_keeps_its_stream_and_gets_events_as_they_commit() {
    let server = Server::start().await;
    let id = server.create("worker").await;
    let path = format!("/v1/intents/{id}/events/stream?since=0&wait_seconds=15");
    let request = server
        .request(Method::GET, &path, OPERATOR_TOKEN)
        .header("user-agent", "python-httpx/0.27");
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("intent.delivered") {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    // Longer than the linger of other clients.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server
        .post(
            &format!("/v1/intents/{id}/resolve"),
            json!({"status": "COMPLETED"}),
        )
        .await
        .ok();
    while let Some(chunk) = body.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let events: Vec<_> = frames(&text).into_iter().map(|(_, event, _)| event).collect();
    assert_eq!(events[3..], ["intent.completed", "stream.timeout"]);
}

#[tokio::test]
async fn an_agent_gets_what_was_sent_before_and_while_it_listens() {
    let server = Server::start().await;
    let (account, key) = server.agent("payment-service").await;
    let first = server.create("payment-service").await;
    for spelling in [
        "payment-service",
        "acme/prod/payment-service",
        "agent://acme/prod/payment-service",
        "agent%3A%2F%2Facme%2Fprod%2Fpayment-service",
    ] {
        let answer = server
            .get_as(
                &format!("/v1/agents/{spelling}/intents/stream?wait_seconds=5"),
                &key,
            )
            .await;
        let frames = frames(&answer.text);
        let (cursor, event, data) = &frames[0];
        assert_eq!(event, "intent.delivered");
        assert_eq!(data["intent_id"], first.as_str());
        assert_eq!(data["seq"].as_u64(), *cursor);
        assert_eq!(data["status"], "DELIVERED");
        assert_eq!(data["payload"], json!({"text": "hi"}));
        assert_eq!(data["to_agent"], account["address"]);
        assert_eq!(frames.last().unwrap().2["next_seq"], data["seq"]);
    }
    let cursor = server
        .get_as("/v1/agents/payment-service/intents", &key)
        .await
        .ok()["next_cursor"]
        .clone();
    let listen = format!("/v1/agents/payment-service/intents/stream?since={cursor}&wait_seconds=10");
    let send = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.create("payment-service").await
    };
    let (answer, second) = tokio::join!(server.get_as(&listen, &key), send);
    assert_eq!(frames(&answer.text)[0].2["intent_id"], second.as_str());
    let filtered = "/v1/agents/payment-service/intents/stream?status=IN_PROGRESS&wait_seconds=1";
    assert_eq!(frames(&server.get_as(filtered, &key).await.text).len(), 1);
}

#[tokio::test]
async fn a_poll_returns_a_page_and_a_cursor() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.create("worker").await;
    }
    let page = server.get("/v1/agents/worker/intents?limit=2").await.ok();
    assert_eq!(page["intents"].as_array().unwrap().len(), 2);
    let rest = server
        .get(&format!(
            "/v1/agents/worker/intents?since={}",
            page["next_cursor"]
        ))
        .await
        .ok();
    assert_eq!(rest["intents"].as_array().unwrap().len(), 1);
    let done = server
        .get(&format!(
            "/v1/agents/worker/intents?since={}",
            rest["next_cursor"]
        ))
        .await
        .ok();
    assert_eq!(
        (&done["intents"], &done["next_cursor"]),
        (&json!([]), &rest["next_cursor"])
    );
    let wait = format!(
        "/v1/agents/worker/intents?since={}&wait_seconds=10",
        rest["next_cursor"]
    );
    let send = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.create("worker").await
    };
    let (waited, id) = tokio::join!(server.get(&wait), send);
    assert_eq!(waited.ok()["intents"][0]["intent_id"], id.as_str());
}

#[tokio::test]
async fn only_the_agent_itself_and_its_workspace_may_listen() {
    let server = Server::start().await;
    let (_, key) = server.agent("worker").await;
    server.agent("other").await;
    let other = server
        .get_as("/v1/agents/other/intents/stream?wait_seconds=1", &key)
        .await;
    assert_eq!(other.refused(403), "invalid_actor_scope");
    let foreign = server
        .get_as("/v1/agents/acme/prod/worker/intents/stream", OTHER_TOKEN)
        .await;
    assert_eq!(foreign.refused(403), "receiver_org_closed");
    // Nobody registered this one, and listening is no error.
    let quiet = server
        .get("/v1/agents/never-registered/intents/stream?wait_seconds=1")
        .await;
    assert_eq!(
        frames(&quiet.text),
        [(None, "stream.timeout".into(), json!({"ok": true, "next_seq": 0}))]
    );
}

#[tokio::test]
async fn a_revoked_key_loses_its_open_stream() {
    let server = Server::start().await;
    let (account, key) = server.agent("worker").await;
    let account_id = account["service_account_id"].as_str().unwrap();
    let listen = server.request(
        Method::GET,
        "/v1/agents/worker/intents/stream?wait_seconds=60",
        &key,
    );
    let open = listen.send().await.unwrap();
    let keys = format!("/v1/service-accounts/{account_id}/keys");
    let spare = server.post(&keys, json!({})).await.ok()["key"]["key_id"].clone();
    let mine = server
        .node
        .key_ids(account_id)
        .into_iter()
        .find(|k| spare != k.as_str())
        .unwrap();
    let revoked = server.request(Method::POST, &format!("{keys}/{mine}/revoke"), OPERATOR_TOKEN);
    assert_eq!(
        read(revoked.send().await.unwrap()).await.ok()["key"]["status"],
        "revoked"
    );
    let refused = server.post_as("/v1/intents", intent_to("worker"), &key).await;
    assert_eq!(refused.refused(401), "invalid_platform_api_key");
    let ended = tokio::time::timeout(Duration::from_secs(10), open.text()).await;
    assert!(
        ended
            .expect("the stream ends")
            .unwrap()
            .contains("stream.timeout")
    );
}

#[tokio::test]
async fn shutdown_ends_streams_with_a_frame() {
    let server = Server::start().await;
    let listen = server.request(
        Method::GET,
        "/v1/agents/worker/intents/stream?wait_seconds=60",
        OPERATOR_TOKEN,
    );
    let open = listen.send().await.unwrap();
    server.shutdown.cancel();
    let text = open.text().await.unwrap();
    assert_eq!(frames(&text).last().unwrap().1, "stream.timeout");
    server.stop().await;
}

#[tokio::test]
async fn a_new_stream_waits_for_a_leader_instead_of_failing() {
    let server = Server::start().await;
    server.create("worker").await;
    server.node.set_stale(true);
    let recover = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.node.set_stale(false);
    };
    let listen = server.get("/v1/agents/worker/intents/stream?wait_seconds=5");
    let (answer, ()) = tokio::join!(listen, recover);
    assert_eq!(frames(&answer.text)[0].1, "intent.delivered");
}

#[tokio::test]
async fn streams_are_bounded() {
    let server = Server::with(|config| config.streams_max = 1).await;
    let path = "/v1/agents/worker/intents/stream?wait_seconds=30";
    let held = server
        .request(Method::GET, path, OPERATOR_TOKEN)
        .send()
        .await
        .unwrap();
    let refused = server.get(path).await;
    assert_eq!(refused.refused(503), "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    drop(held);
}
