//! The page behind a link to a human task.

use baton_gateway::TaskLink;
use baton_protocol::IntentId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, FakeNode, Server, read};

/// As the fake cluster was created with.
const SECRET: [u8; 32] = [7; 32];
const BOSS: &str = "boss@example.com";

async fn ask(server: &Server, human_task: Value) -> String {
    let body = json!({"intent_type": "deploy.approval.v1", "payload": {}, "human_task": human_task});
    let created = server.post("/v1/intents", body).await.ok();
    created["intent_id"].as_str().unwrap().to_owned()
}

fn link(id: &str) -> TaskLink {
    TaskLink {
        intent_id: IntentId::parse(id).unwrap(),
        generation: 1,
        expires_at_ms: now_ms() + 3_600_000,
        recipient: BOSS.into(),
    }
}

/// Somewhere in the life of a test.
fn now_ms() -> u64 {
    baton_state_machine::testing::START_MS
}

fn path(link: &TaskLink) -> String {
    format!("/t/{}", link.token(&SECRET))
}

async fn open(server: &Server, path: &str) -> Answer {
    let page = server.http.get(format!("{}{path}", server.base)).send().await;
    page_of(read(page.unwrap()).await)
}

async fn hand_in(server: &Server, path: &str, pairs: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let request = server.http.post(format!("{}{path}", server.base));
    let request = request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    page_of(read(request.send().await.unwrap()).await)
}

/// What every page must be, whatever it says.
fn page_of(page: Answer) -> Answer {
    let header = |name: &str| page.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-frame-options"), "DENY");
    assert_eq!(header("x-robots-tag"), "noindex, nofollow");
    assert_eq!(header("x-content-type-options"), "nosniff");
    let policy = header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    for part in ["form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        page.text.starts_with("<!DOCTYPE html><html lang=\"en\">"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("<script"), "no script runs anyway");
    page
}

fn says(page: &Answer, status: u16, text: &str) {
    assert_eq!(page.status.as_u16(), status, "{}", page.text);
    assert!(page.text.contains(text), "{text} is not in {}", page.text);
}

async fn intent(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/intents/{id}")).await.ok()["intent"].clone()
}

#[tokio::test]
async fn one_press_answers_and_the_second_is_late() {
    let server = Server::start().await;
    let task = json!({"title": "Ship <b>build</b> 7?", "description": "It is \"green\" & small", "assignees": [BOSS]});
    let id = ask(&server, task).await;
    let path = path(&link(&id));
    let page = open(&server, &path).await;
    says(&page, 200, "<h1>Ship &lt;b&gt;build&lt;/b&gt; 7?</h1>");
    says(&page, 200, "It is &quot;green&quot; &amp; small");
    says(&page, 200, "value=\"approved\" class=\"yes\"");
    says(&page, 200, "value=\"rejected\" class=\"no\"");
    assert!(!page.text.contains("autofocus"));
    let suggested = open(&server, &format!("{path}?answer=rejected&%zz")).await;
    says(&suggested, 200, "value=\"rejected\" class=\"no\" autofocus");
    assert_eq!(
        intent(&server, &id).await["status"],
        "WAITING",
        "looking changes nothing"
    );

    let done = hand_in(&server, &path, &[("outcome", "approved"), ("comment", "go")]).await;
    says(&done, 200, "Thank you");
    let ended = intent(&server, &id).await;
    assert_eq!(ended["status"], "COMPLETED");
    assert_eq!(
        ended["result"],
        json!({"outcome": "approved", "comment": "go", "task_result": {"outcome": "approved", "comment": "go"}})
    );
    let events = server.get(&format!("/v1/intents/{id}/events")).await.ok();
    let started = &events["events"][5];
    assert_eq!(
        (&started["actor"], &started["details"]["by_link"]),
        (&json!(BOSS), &json!(true))
    );

    let late = hand_in(&server, &path, &[("outcome", "rejected")]).await;
    says(&late, 409, "Already answered");
    says(&late, 409, &format!("<dd>{BOSS}</dd>"));
    says(&open(&server, &path).await, 410, "Already answered");
    // The link of somebody else who was asked is spent as well.
    let other = TaskLink {
        recipient: "deputy@example.com".into(),
        ..link(&id)
    };
    let other = format!("/t/{}", other.token(&SECRET));
    let late = hand_in(&server, &other, &[("outcome", "rejected")]).await;
    says(&late, 409, "Already answered");
    assert!(!late.text.contains(BOSS), "who it was is not theirs to know");
    let over = TaskLink {
        expires_at_ms: now_ms(),
        ..link(&id)
    };
    let over = format!("/t/{}", over.token(&SECRET));
    let page = open(&server, &over).await;
    says(&page, 410, "This link has expired");
    assert!(!page.text.contains("Approved"), "{}", page.text);
    assert_eq!(intent(&server, &id).await["result"]["outcome"], "approved");
    server.stop().await;
}

#[tokio::test]
async fn two_presses_at_once_count_once() {
    let server = Server::start().await;
    let id = ask(&server, json!({})).await;
    let path = path(&link(&id));
    let (a, b) = tokio::join!(
        hand_in(&server, &path, &[("outcome", "approved")]),
        hand_in(&server, &path, &[("outcome", "rejected")])
    );
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    server.stop().await;
}

#[tokio::test]
async fn forged_and_mangled_links_all_look_alike() {
    let server = Server::start().await;
    let id = ask(&server, json!({})).await;
    let good = link(&id);
    let token = good.token(&SECRET);
    let foreign = good.token(&[8; 32]);
    let unknown = open(&server, "/t/x").await;
    says(&unknown, 404, "This link is not valid");
    for forged in [
        foreign.as_str(),
        &token[..token.len() - 1],
        &format!("{token}A"),
        &token.replace(|c: char| c.is_lowercase(), "a"),
        &"A".repeat(4_000),
        "%00",
        "..%2f..",
    ] {
        let page = open(&server, &format!("/t/{forged}")).await;
        assert_eq!((page.status, &page.text), (StatusCode::NOT_FOUND, &unknown.text));
        let page = hand_in(&server, &format!("/t/{forged}"), &[("outcome", "approved")]).await;
        assert_eq!((page.status, &page.text), (StatusCode::NOT_FOUND, &unknown.text));
    }
    assert_eq!(intent(&server, &id).await["status"], "WAITING");
    server.stop().await;
}

#[tokio::test]
async fn links_expire_and_questions_close() {
    let server = Server::start().await;
    let id = ask(&server, json!({})).await;
    let expired = TaskLink {
        expires_at_ms: now_ms(),
        ..link(&id)
    };
    let expired = path(&expired);
    says(&open(&server, &expired).await, 410, "This link has expired");
    says(
        &hand_in(&server, &expired, &[("outcome", "approved")]).await,
        410,
        "This link has expired",
    );
    let older = TaskLink {
        generation: 2,
        ..link(&id)
    };
    says(&open(&server, &path(&older)).await, 410, "No longer open");
    assert_eq!(intent(&server, &id).await["status"], "WAITING");
    server
        .post(
            &format!("/v1/intents/{id}/resolve"),
            json!({"status": "CANCELED"}),
        )
        .await
        .ok();
    says(&open(&server, &path(&link(&id))).await, 410, "No longer open");
    let late = hand_in(&server, &path(&link(&id)), &[("outcome", "approved")]).await;
    says(&late, 409, "No longer open");
    let plain = server.create("worker").await;
    says(
        &open(&server, &path(&link(&plain))).await,
        410,
        "No longer available",
    );
    let never = TaskLink {
        intent_id: IntentId::new(1, baton_protocol::Slot::from_bits(1), 1),
        ..link(&id)
    };
    says(&open(&server, &path(&never)).await, 410, "No longer available");
    server.stop().await;
}

fn form() -> Value {
    json!({
        "type": "object",
        "required": ["days", "sure", "place"],
        "properties": {
            "approved": {"type": "boolean"},
            "days": {"type": "integer", "minimum": 1, "maximum": 90, "title": "Days <i>of</i> access"},
            "sure": {"type": "boolean", "title": "Scope confirmed"},
            "size": {"enum": ["small", "large"], "default": "large"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
            "extra": {"type": "object"},
        },
    })
}

#[tokio::test]
async fn a_form_comes_back_with_what_is_wrong_until_it_fits() {
    let server = Server::start().await;
    let task = json!({"task_type": "form", "title": "Grant access", "form_schema": form(),
        "required_comment": true, "evidence_required": true});
    let id = ask(&server, task).await;
    let path = path(&link(&id));
    let page = open(&server, &path).await;
    for text in [
        "Days &lt;i&gt;of&lt;/i&gt; access</label>",
        "From 1 to 90.",
        "<option value=\"1\" selected>large</option>",
        "name=\"data/place/city\"",
        "name=\"evidence\"",
        "name=\"data/extra\"",
    ] {
        says(&page, 200, text);
    }
    assert!(!page.text.contains("data/approved"), "the buttons ask for that");
    says(&page, 200, "role=\"radiogroup\" aria-required=\"true\"");

    let wrong = hand_in(
        &server,
        &path,
        &[
            ("outcome", "approved"),
            ("data/days", "many \"days\""),
            ("data/tags", "a\r\nb"),
            ("data/size", "0"),
            ("data/extra", "{oops"),
            ("comment", "  "),
        ],
    )
    .await;
    for text in [
        "role=\"alert\"",
        "Not accepted yet",
        "role=\"radiogroup\" aria-invalid=\"true\"",
        "</h1><div class=\"problems\"",
        "<a href=\"#f1\">Days &lt;i&gt;of&lt;/i&gt; access: Enter a whole number.</a>",
        "value=\"many &quot;days&quot;\"",
        ">Scope confirmed: This is required.</a>",
        ">City: This is required.</a>",
        "not valid JSON",
        "{oops",
        "Comment: Write a comment.",
        "Evidence: Give the evidence",
        "\na\nb</textarea>",
        "<option value=\"0\" selected>small</option>",
    ] {
        says(&wrong, 422, text);
    }
    let targets: Vec<&str> = wrong.text.split("href=\"#").skip(1).collect();
    assert_eq!(targets.len(), 6);
    for target in targets {
        let id = format!(" id=\"{}\"", target.split('"').next().unwrap());
        says(&wrong, 422, &id);
    }
    assert!(wrong.text.matches("aria-invalid=\"true\"").count() >= 4);
    assert_eq!(intent(&server, &id).await["status"], "WAITING");
    let fits = [
        ("outcome", "approved"),
        ("data/days", " 30 "),
        ("data/sure", "true"),
        ("data/tags", "a\r\nb"),
        ("data/place/city", "Rome"),
        ("data/extra", "{\"deep\": [1]}"),
        ("comment", "fine"),
        ("evidence", "ticket 7"),
    ];
    says(&hand_in(&server, &path, &fits).await, 200, "Thank you");
    let result = intent(&server, &id).await["result"]["task_result"].clone();
    assert_eq!(
        result["data"],
        json!({"approved": true, "days": 30, "sure": true, "tags": ["a", "b"], "place": {"city": "Rome"},
            "extra": {"deep": [1]}})
    );
    assert_eq!(
        (&result["comment"], &result["evidence"]),
        (&json!("fine"), &json!("ticket 7"))
    );
    server.stop().await;
}

#[tokio::test]
async fn answers_that_cannot_be_are_refused() {
    let server = Server::start().await;
    let id = ask(
        &server,
        json!({"task_type": "form", "form_schema": {"type": "array", "items": {"type": "array"}}}),
    )
    .await;
    let path = path(&link(&id));
    let outcome = hand_in(&server, &path, &[("outcome", "maybe")]).await;
    says(&outcome, 422, "id=\"answers-problem\">Choose one of the answers.");
    says(
        &hand_in(&server, &path, &[]).await,
        422,
        "Choose one of the answers.",
    );
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let pairs = [("outcome", "approved"), ("data", deep.as_str())];
    says(
        &hand_in(&server, &path, &pairs).await,
        422,
        "deeper than 64 levels",
    );
    says(
        &hand_in(&server, &path, &[("outcome", "approved"), ("data", "[1]")]).await,
        422,
        "Enter a list.",
    );
    let large = "x".repeat(70_000);
    says(
        &hand_in(&server, &path, &[("comment", large.as_str())]).await,
        413,
        "too large",
    );
    // Three times as long as it is sent.
    let chinese = "好".repeat(15_000);
    says(
        &hand_in(&server, &path, &[("comment", chinese.as_str())]).await,
        422,
        "at most 2000 characters",
    );
    let many: Vec<(&str, &str)> = vec![("a", "1"); 1_001];
    says(&hand_in(&server, &path, &many).await, 413, "too large");
    let long = "x".repeat(2_001);
    says(
        &hand_in(
            &server,
            &path,
            &[("outcome", "approved"), ("comment", long.as_str())],
        )
        .await,
        422,
        "at most 2000 characters",
    );
    let json_body = server
        .http
        .post(format!("{}{path}", server.base))
        .json(&json!({"outcome": "approved"}));
    says(
        &page_of(read(json_body.send().await.unwrap()).await),
        415,
        "x-www-form-urlencoded",
    );
    for method in [Method::PUT, Method::DELETE] {
        let other = server.request(method, &path, "k").send().await.unwrap();
        let page = page_of(read(other).await);
        says(&page, 405, "This cannot be done here");
        assert_eq!(page.headers["allow"], "GET, HEAD, POST");
        assert!(!page.text.contains("/t/"), "a link is a secret");
    }
    assert_eq!(intent(&server, &id).await["status"], "WAITING");
    server.stop().await;
}

#[tokio::test]
async fn one_link_and_one_guesser_get_so_many_requests_a_minute() {
    let server = Server::with(|config| config.requests_per_minute = 1_000).await;
    let (id, other) = (ask(&server, json!({})).await, ask(&server, json!({})).await);
    let (path, other) = (path(&link(&id)), path(&link(&other)));
    let first_refused = async |path: &str, expected: u16| {
        for n in 0..200 {
            let page = open(&server, path).await;
            if page.status == StatusCode::TOO_MANY_REQUESTS {
                assert!(page.headers.contains_key("retry-after"));
                return n;
            }
            assert_eq!(page.status.as_u16(), expected);
        }
        200
    };
    // The window may end in between.
    assert!((120..200).contains(&first_refused("/t/nothing", 404).await));
    assert!((120..200).contains(&first_refused(&path, 200).await));
    let deputy = TaskLink {
        recipient: "deputy@example.com".into(),
        ..link(&id)
    };
    let deputy = format!("/t/{}", deputy.token(&SECRET));
    says(&open(&server, &deputy).await, 200, "Approve");
    says(&open(&server, &other).await, 200, "Approve");
    let node: &FakeNode = &server.node;
    assert!(
        !node.stores(link(&id).token(&SECRET).as_bytes()),
        "links are stored nowhere"
    );
    server.stop().await;
}
