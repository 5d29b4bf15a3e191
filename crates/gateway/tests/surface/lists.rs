//! Lists of intents and bulk cancels over HTTP.

use super::support::{OTHER_TOKEN, Server};
use serde_json::{Value, json};

fn ids(page: &Value, key: &str) -> Vec<String> {
    let items = page[key].as_array().unwrap().iter();
    let id = |item: &Value| {
        item.as_str()
            .or_else(|| item["intent_id"].as_str())
            .unwrap()
            .to_owned()
    };
    items.map(id).collect()
}

#[tokio::test]
async fn a_list_has_pages_filters_and_no_payload() {
    let server = Server::start().await;
    let mut made = Vec::new();
    for n in 0..5 {
        let agent = if n % 2 == 0 {
            "agent://conformance/even"
        } else {
            "agent://conformance/odd"
        };
        made.push(server.create(agent).await);
    }
    let first = server.get("/v1/intents?limit=2").await.ok();
    assert_eq!(first["has_more"], true);
    assert!(first["intents"][0].get("payload").is_none());
    assert_eq!(first["intents"][0]["status"], "DELIVERED");
    let mut seen = ids(&first, "intents");
    let mut page = first;
    while let Some(cursor) = page["next_cursor"].as_str() {
        let path = format!("/v1/intents?limit=2&cursor={cursor}");
        page = server.get(&path).await.ok();
        seen.extend(ids(&page, "intents"));
    }
    assert_eq!(page["has_more"], false);
    seen.sort();
    made.sort();
    assert_eq!(seen, made, "every intent once");

    let odd = server
        .get("/v1/intents?to_agent=agent%3A%2F%2Fconformance%2Fodd&status=DELIVERED,WAITING")
        .await
        .ok();
    assert_eq!(ids(&odd, "intents").len(), 2);
    let none = server.get("/v1/intents?status=COMPLETED").await.ok();
    assert_eq!(none["intents"], json!([]));
    let other = server.get_as("/v1/intents", OTHER_TOKEN).await.ok();
    assert_eq!(other["intents"], json!([]), "another workspace sees nothing");
}

#[tokio::test]
async fn a_bulk_cancel_looks_first_and_then_ends_what_it_named() {
    let server = Server::start().await;
    let (first, second) = (
        server.create("agent://conformance/a").await,
        server.create("agent://conformance/b").await,
    );
    let young = server.post("/v1/intents/bulk-cancel", json!({})).await.ok();
    assert_eq!(
        (&young["would_cancel"], &young["dry_run"]),
        (&json!(0), &json!(true))
    );

    let looked = server
        .post("/v1/intents/bulk-cancel", json!({"older_than_hours": 0}))
        .await
        .ok();
    assert_eq!(looked["would_cancel"], 2);
    let mut named = ids(&looked, "intent_ids");
    named.sort();
    let mut expected = vec![first.clone(), second];
    expected.sort();
    assert_eq!(named, expected);
    let still = server.get(&format!("/v1/intents/{first}")).await.ok();
    assert_eq!(
        still["intent"]["status"], "DELIVERED",
        "a dry run changes nothing"
    );

    let body = json!({"older_than_hours": 0, "dry_run": false, "reason": "stuck", "limit": 1});
    let done = server.post("/v1/intents/bulk-cancel", body.clone()).await.ok();
    assert_eq!((&done["canceled"], &done["has_more"]), (&json!(1), &json!(true)));
    let done = server.post("/v1/intents/bulk-cancel", body.clone()).await.ok();
    assert_eq!(done["canceled"], 1);
    let done = server.post("/v1/intents/bulk-cancel", body).await.ok();
    assert_eq!((&done["canceled"], &done["has_more"]), (&json!(0), &json!(false)));
    let ended = server.get(&format!("/v1/intents/{first}")).await.ok();
    assert_eq!(ended["intent"]["status"], "CANCELED");
    assert_eq!(ended["intent"]["reason"], "stuck");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_refused_by_name() {
    let server = Server::start().await;
    for (query, field) in [
        ("status=ASLEEP", "status"),
        ("cursor=nothing", "cursor"),
        ("created_from=yesterday", "created_from"),
        ("limit=many", "limit"),
    ] {
        let reply = server.get(&format!("/v1/intents?{query}")).await;
        let detail = reply.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(field), "{query}: {detail}");
        reply.refused(422);
    }
}
