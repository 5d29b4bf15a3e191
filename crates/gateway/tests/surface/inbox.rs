//! Inboxes: what owners write to their threads.

use serde_json::{Value, json};

use crate::support::{OTHER_TOKEN, Server, intent_to};

const OWNER: &str = "?owner_agent=worker";

fn at(id: &str, what: &str) -> String {
    format!("/v1/inbox/{id}{what}{OWNER}")
}

fn kinds(thread: &Value) -> Vec<&str> {
    let timeline = thread["timeline"].as_array().unwrap();
    timeline
        .iter()
        .map(|e| e["event_type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_thread_is_read_replied_to_delegated_approved_and_cleaned() {
    let server = Server::start().await;
    let id = server.create("worker").await;
    let thread = server.get(&at(&id, "")).await.ok()["thread"].clone();
    assert_eq!(
        (thread["status"].as_str(), thread["unread"].as_bool()),
        (Some("pending"), Some(true))
    );
    let read = server.post(&at(&id, "/read"), json!({})).await.ok();
    assert_eq!(read["thread"]["unread"], false);
    let replied = server
        .post(&at(&id, "/reply"), json!({"message": "on it"}))
        .await
        .ok();
    assert_eq!(replied["thread"]["status"], "active");
    let message_id = replied["thread"]["timeline"][1]["event_id"].clone();
    let sender = format!("/v1/inbox/{id}?owner_agent=agent://conformance/sender");
    assert_eq!(
        server.get(&sender).await.ok()["thread"]["timeline"][0]["event_id"],
        message_id
    );
    let delegate = json!({"delegate_to": "backup", "note": "please"});
    let delegated = server.post(&at(&id, "/delegate"), delegate).await.ok();
    assert_eq!(
        kinds(&delegated["thread"]),
        ["intent_received", "reply", "delegated"]
    );
    let backup = format!("/v1/inbox/{id}?owner_agent=backup");
    assert_eq!(kinds(&server.get(&backup).await.ok()["thread"]), ["delegated"]);
    let approved = server
        .post(&at(&id, "/approve"), json!({"comment": "ok"}))
        .await
        .ok();
    assert_eq!(approved["thread"]["status"], "done");
    server.post(&at(&id, "/reject"), json!({})).await.ok();
    let delete = json!({"mode": "both", "message_ids": [message_id]});
    let deleted = server.post(&at(&id, "/messages/delete"), delete).await.ok();
    assert_eq!(
        (deleted["deleted_count"].as_u64(), &deleted["message_ids"][0]),
        (Some(1), &message_id)
    );
    assert_eq!(
        deleted["thread"]["timeline"][1]["details"],
        json!({"deleted": true})
    );
    assert_eq!(
        server.get(&sender).await.ok()["thread"]["timeline"][0]["details"],
        json!({"deleted": true})
    );
    for (what, body, code) in [
        ("/reply", json!({}), 422),
        ("/messages/delete", json!({"mode": "all"}), 422),
        ("/messages/delete", json!({"message_ids": []}), 422),
        ("/messages/delete", json!({"limit": 101}), 422),
    ] {
        server.post(&at(&id, what), body).await.refused(code);
    }
    let unknown = at(&uuid::Uuid::nil().to_string(), "/reply");
    assert_eq!(
        server.post(&unknown, json!({"message": "x"})).await.refused(404),
        "not_found"
    );
    let foreign = server
        .post_as(&at(&id, "/reply"), json!({"message": "x"}), OTHER_TOKEN)
        .await;
    assert_eq!(foreign.refused(404), "not_found");
    server.stop().await;
}

#[tokio::test]
async fn approving_a_thread_answers_the_task_behind_it() {
    let server = Server::start().await;
    for (what, outcome) in [("/approve", "approved"), ("/reject", "rejected")] {
        let mut body = intent_to("worker");
        body["human_task"] = json!({"title": "Well?", "required_comment": true});
        let id = server.post("/v1/intents", body).await.ok()["intent_id"].clone();
        let id = id.as_str().unwrap();
        let silent = server.post(&at(id, what), json!({})).await;
        assert_eq!(silent.refused(422), "task_result_invalid");
        let done = server.post(&at(id, what), json!({"comment": "seen"})).await.ok();
        assert_eq!(done["thread"]["status"], "done");
        let intent = server.get(&format!("/v1/intents/{id}")).await.ok();
        assert_eq!(intent["intent"]["result"]["outcome"], outcome);
    }
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_answer_the_task_behind_a_thread_may_not_decide_it() {
    let server = Server::start().await;
    let (_, backup) = server.agent("backup").await;
    let mut body = intent_to("worker");
    body["human_task"] = json!({"title": "Well?"});
    let id = server.post("/v1/intents", body).await.ok()["intent_id"].clone();
    let id = id.as_str().unwrap();
    server
        .post(&at(id, "/delegate"), json!({"delegate_to": "backup"}))
        .await
        .ok();
    let own = format!("/v1/inbox/{id}");
    let approve = format!("{own}/approve");
    let refused = server.post_as(&approve, json!({}), &backup).await;
    assert_eq!(refused.refused(403), "policy_denied");
    let thread = server.get_as(&own, &backup).await.ok()["thread"].clone();
    assert_eq!(
        (kinds(&thread), &thread["status"]),
        (vec!["delegated"], &json!("pending"))
    );
    let intent = server.get(&format!("/v1/intents/{id}")).await.ok();
    assert_eq!(intent["intent"]["status"], "WAITING");
    // Once somebody answered, there is nothing left to miss.
    server.post(&at(id, "/approve"), json!({})).await.ok();
    let noted = server.post_as(&approve, json!({}), &backup).await.ok();
    assert_eq!(noted["thread"]["status"], "done");
    server.stop().await;
}

#[tokio::test]
async fn changes_are_followed_with_a_cursor() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.create("worker").await;
    }
    let (mut seen, mut path) = (Vec::new(), format!("/v1/inbox/changes{OWNER}&limit=2"));
    loop {
        let page = server.get(&path).await.ok();
        for change in page["changes"].as_array().unwrap() {
            seen.push(change["thread"]["thread_id"].as_str().unwrap().to_owned());
        }
        let next = page["next_cursor"].as_str().unwrap().to_owned();
        path = format!("/v1/inbox/changes{OWNER}&limit=2&cursor={next}");
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen.len(), 3);
    let quiet = server.get(&path).await.ok();
    assert_eq!(quiet["changes"], json!([]));
    server
        .post(&at(&seen[0], "/reply"), json!({"message": "x"}))
        .await
        .ok();
    assert_eq!(
        server.get(&path).await.ok()["changes"][0]["thread"]["thread_id"],
        seen[0].as_str()
    );
    let wrong = server.get(&format!("/v1/inbox/changes{OWNER}&cursor=x")).await;
    assert_eq!(wrong.refused(422), "invalid_argument");
    server.stop().await;
}
