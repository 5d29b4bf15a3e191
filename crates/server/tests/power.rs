//! Every process of a cluster killed at once, under load.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use baton_server::client::Api;
use reqwest::Method;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{options, start};

const TEST_TIME_MAX: Duration = Duration::from_secs(110);
const PATIENCE: Duration = Duration::from_secs(15);
const WRITERS: usize = 16;
const ROUNDS: usize = 2;

/// Submits until told to stop; remembers what was acknowledged.
async fn write(api: Api, writer: String, stop: Arc<AtomicBool>, acknowledged: Arc<Mutex<Vec<String>>>) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let body = json!({"intent_type": "test.job.v1", "to_agent": writer, "payload": {"n": n}});
        let key = format!("{writer}-{n}");
        let call = api.call(
            Method::POST,
            "/v1/intents",
            Some(&body),
            Some(&key),
            Duration::from_millis(500),
        );
        if let Ok(answer) = call.await
            && answer.ok()
        {
            let id = answer.body["intent_id"].as_str().unwrap().to_owned();
            acknowledged.lock().unwrap().push(id);
        }
    }
}

#[tokio::test]
async fn everything_acknowledged_survives_the_kill_of_all_nodes_under_load() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), 3);
        options.base.limits.requests_per_minute = 0;
        let mut cluster = start(options).await;
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        for round in 0..ROUNDS {
            let stop = Arc::new(AtomicBool::new(false));
            let before = acknowledged.lock().unwrap().len();
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| {
                    let api = cluster.api().unwrap().starting_at(w % 3);
                    let name = format!("r{round}-w{w}");
                    tokio::spawn(write(api, name, stop.clone(), acknowledged.clone()))
                })
                .collect();
            tokio::time::sleep(Duration::from_secs(3)).await;
            for k in 1..=3 {
                cluster.kill_node(k).await.unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await.unwrap();
            }
            assert!(acknowledged.lock().unwrap().len() > before + WRITERS);
            for k in 1..=3 {
                cluster.start_node(k).unwrap();
            }
            for k in 1..=3 {
                cluster.wait_ready(k).await.unwrap();
            }
        }
        let ids = acknowledged.lock().unwrap().clone();
        println!("{} acknowledged", ids.len());
        for (n, id) in ids.iter().enumerate() {
            let token = &cluster.credentials().operator_token;
            let api = Api::new(&[cluster.base_url(n % 3 + 1)], token).unwrap();
            let answer = api.get(&format!("/v1/intents/{id}"), PATIENCE).await.unwrap();
            assert!(answer.ok(), "{id} is lost: {}", answer.problem());
        }
        assert!(cluster.stop().await.is_empty(), "every node must stop by itself");
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}
