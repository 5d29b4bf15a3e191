//! Human tasks: asking, listing, answering.

use serde_json::{Value, json};

use crate::support::{OTHER_TOKEN, Server};

fn asking(human_task: Value) -> Value {
    json!({"intent_type": "deploy.approval.v1", "payload": {"build": 7}, "human_task": human_task})
}

/// Creates an intent that asks a person; returns its id.
async fn ask(server: &Server, human_task: Value) -> String {
    let body = server.post("/v1/intents", asking(human_task)).await.ok();
    assert_eq!(body["status"], "WAITING");
    body["intent_id"].as_str().unwrap().to_owned()
}

async fn intent(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/intents/{id}")).await.ok()["intent"].clone()
}

fn resume(id: &str) -> String {
    format!("/v1/intents/{id}/resume")
}

#[tokio::test]
async fn a_person_is_asked_listed_and_answers_once() {
    let server = Server::start().await;
    let task = json!({"title": "Ship build 7?", "assignees": ["ops@example.com"], "notify_email": "ops@example.com"});
    let id = ask(&server, task).await;
    let waiting = intent(&server, &id).await;
    assert_eq!(waiting["lifecycle_waiting_reason"], "WAITING_FOR_HUMAN");
    assert_eq!(
        waiting["pending_with"],
        json!({"type": "human", "ref": "ops@example.com", "name": "ops@example.com"})
    );
    assert_eq!(waiting["human_task"]["notify_email"], "ops@example.com");
    assert!(waiting["to_agent"].as_str().unwrap().ends_with("/agent_core"));
    let events = server.get(&format!("/v1/intents/{id}/events")).await.ok();
    let assigned = &events["events"][4];
    assert_eq!(assigned["event_type"], "intent.human_task_assigned");
    assert_eq!(assigned["human_task"]["title"], "Ship build 7?");
    assert_eq!(assigned["details"]["human_task"], assigned["human_task"]);

    let tasks = server.get("/v1/me/tasks").await.ok();
    assert_eq!(tasks["tasks"][0]["intent_id"], id);
    assert_eq!(
        tasks["tasks"][0]["human_task"]["assignees"],
        json!(["ops@example.com"])
    );
    let foreign = server.get_as("/v1/me/tasks", OTHER_TOKEN).await.ok();
    assert_eq!(foreign["tasks"], json!([]));

    let done = server
        .post(
            &resume(&id),
            json!({"task_result": {"outcome": "approved", "comment": "go"}, "actor": "ops@example.com"}),
        )
        .await
        .ok();
    assert_eq!(done["applied"], true);
    assert_eq!(done["event"]["actor"], "ops@example.com");
    let result = &done["intent"]["result"];
    assert_eq!(result["outcome"], "approved");
    assert_eq!(
        result["task_result"],
        json!({"outcome": "approved", "comment": "go"})
    );
    assert_eq!(intent(&server, &id).await["status"], "COMPLETED");
    assert_eq!(server.get("/v1/me/tasks").await.ok()["tasks"], json!([]));
    let late = server.post(&resume(&id), json!({"outcome": "rejected"})).await;
    assert_eq!(late.refused(409), "intent_terminal");
    server.stop().await;
}

#[tokio::test]
async fn a_form_is_refused_until_it_fits() {
    let server = Server::start().await;
    let form = json!({
        "type": "object",
        "required": ["approved", "grant_duration_days", "scope_confirmed"],
        "properties": {
            "approved": {"type": "boolean"},
            "grant_duration_days": {"type": "integer", "minimum": 1, "maximum": 90},
            "scope_confirmed": {"type": "boolean"},
        },
    });
    let id = ask(&server, json!({"task_type": "form", "form_schema": form})).await;
    let days = |days: &str| json!({"task_result": {"outcome": "approved", "grant_duration_days": days, "scope_confirmed": "true"}});
    for (body, why) in [
        (json!({"task_result": {}}), "outcome is required"),
        (
            json!({"task_result": {"outcome": "denied"}}),
            "one of: submitted, approved, rejected",
        ),
        (days("365"), "grant_duration_days"),
        (json!({"outcome": "approved"}), "scope_confirmed"),
        (json!({"task_result": "yes"}), "task_result must be an object"),
    ] {
        let refused = server.post(&resume(&id), body).await;
        let code = refused.refused(422);
        assert!(
            matches!(code.as_str(), "task_result_invalid" | "invalid_argument"),
            "{code}"
        );
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(why),
            "{}",
            refused.text
        );
        assert_eq!(intent(&server, &id).await["status"], "WAITING");
    }
    let done = server.post(&resume(&id), days("30")).await.ok();
    assert_eq!(
        done["intent"]["result"]["task_result"]["data"],
        json!({"approved": true, "grant_duration_days": 30, "scope_confirmed": true})
    );
    server.stop().await;
}

#[tokio::test]
async fn tasks_that_cannot_be_are_refused_with_the_field() {
    let server = Server::start().await;
    for (task, field) in [
        (json!({"title": "x".repeat(256)}), "human_task.title"),
        (
            json!({"description": "x".repeat(2_001)}),
            "human_task.description",
        ),
        (json!({"task_type": "chat"}), "human_task.task_type"),
        (json!({"allowed_outcomes": [""]}), "human_task.allowed_outcomes"),
        (
            json!({"allowed_outcomes": ["x".repeat(65)]}),
            "human_task.allowed_outcomes",
        ),
        (
            json!({"allowed_outcomes": vec!["x"; 21]}),
            "human_task.allowed_outcomes",
        ),
        (json!({"assignees": "me"}), "human_task.assignees"),
        (json!({"required_comment": "yes"}), "human_task.required_comment"),
        (json!({"notify_email": "nobody"}), "human_task.notify_email"),
        (json!({"form_schema": []}), "human_task.form_schema"),
        (
            json!({"form_schema": {"$ref": "https://example.com/x"}}),
            "human_task.form_schema",
        ),
        (json!("ask somebody"), "human_task"),
    ] {
        let refused = server.post("/v1/intents", asking(task)).await;
        refused.refused(422);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(field), "{detail}");
    }
    let untitled = ask(&server, json!({"title": ""})).await;
    let title = intent(&server, &untitled).await["human_task"]["title"].clone();
    assert_eq!(title, "Human approval required: deploy.approval.v1");
    let mut many = asking(json!({}));
    many["max_reminders"] = json!(101);
    assert_eq!(
        server.post("/v1/intents", many).await.refused(422),
        "invalid_argument"
    );
    server.stop().await;
}

#[tokio::test]
async fn keys_answer_what_they_are_asked() {
    let server = Server::start().await;
    let (_, boss) = server.agent("boss").await;
    let (_, sender) = server.agent("asks").await;
    let task = asking(json!({"assignees": ["boss"]}));
    let created = server.post_as("/v1/intents", task, &sender).await.ok();
    let id = created["intent_id"].as_str().unwrap();
    assert_eq!(
        server.get_as("/v1/me/tasks", &sender).await.ok()["tasks"],
        json!([])
    );
    let listed = server.get_as("/v1/me/tasks", &boss).await.ok();
    assert_eq!(listed["tasks"][0]["intent_id"], id);
    server.get_as(&format!("/v1/intents/{id}"), &boss).await.ok();
    let yes = || json!({"outcome": "approved"});
    let own = server.post_as(&resume(id), yes(), &sender).await;
    assert_eq!(own.refused(403), "policy_denied");
    assert_eq!(
        server.post_as(&resume(id), yes(), OTHER_TOKEN).await.refused(404),
        "not_found"
    );
    // Neither a steering resume nor a result passes a task that waits.
    for body in [
        json!({}),
        json!({"approve_current_step": true}),
        json!({"action": "complete", "n": 1}),
    ] {
        assert_eq!(server.post(&resume(id), body).await.refused(409), "conflict");
    }
    assert_eq!(
        server.post_as(&resume(id), yes(), &boss).await.ok()["intent"]["status"],
        "COMPLETED"
    );
    let plain = server.create("worker").await;
    let answer = json!({"task_result": {"outcome": "approved"}});
    assert_eq!(
        server.post(&resume(&plain), answer).await.refused(409),
        "conflict"
    );
    server.stop().await;
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer() {
    let server = Server::start().await;
    let id = ask(&server, json!({})).await;
    let body = json!({"task_result": {"outcome": "approved"}});
    let first = server.post_once(&resume(&id), &body, "k1").await.ok();
    let again = server.post_once(&resume(&id), &body, "k1").await.ok();
    assert_eq!(first, again);
    let created = asking(json!({"title": "t"}));
    let first = server.post_once("/v1/intents", &created, "k2").await.ok();
    assert_eq!(server.post_once("/v1/intents", &created, "k2").await.ok(), first);
    server.stop().await;
}

#[tokio::test]
async fn approvals_answer_tasks_and_remember_what_they_do_not_know() {
    let server = Server::start().await;
    let decide = |id: &str, decision: &str| {
        let path = format!("/v1/approvals/{id}/decision");
        let body = json!({"decision": decision, "comment": "because"});
        let server = &server;
        async move { server.post(&path, body).await }
    };
    let id = ask(&server, json!({"task_type": "assignment"})).await;
    let decided = decide(&id, "approve").await.ok();
    assert_eq!(decided["approval"]["decision"], "approve");
    assert_eq!(intent(&server, &id).await["result"]["outcome"], "assigned");
    decide(&id, "approved").await.ok();
    assert_eq!(decide(&id, "reject").await.refused(409), "conflict");
    let unknown = "0a1b2c3d-1111-4222-8333-444455556666";
    let first = decide(unknown, "reject").await.ok();
    assert_eq!(first["approval"]["comment"], "because");
    assert_eq!(decide(unknown, "rejected").await.ok(), first);
    assert_eq!(decide(unknown, "approve").await.refused(409), "conflict");
    assert_eq!(decide(unknown, "maybe").await.refused(422), "invalid_argument");
    assert_eq!(decide("x", "approve").await.refused(404), "not_found");
    server.stop().await;
}

#[tokio::test]
async fn lists_are_paged() {
    let server = Server::start().await;
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.push(ask(&server, json!({})).await);
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/me/tasks?limit=2".to_owned());
    loop {
        let page = server.get(&path).await.ok();
        let tasks = page["tasks"].as_array().unwrap();
        assert!(tasks.len() <= 2);
        seen.extend(tasks.iter().map(|t| t["intent_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("/v1/me/tasks?limit=2&cursor={next}"),
            None => break,
        }
    }
    asked.sort();
    assert_eq!(seen, asked);
    server.stop().await;
}
