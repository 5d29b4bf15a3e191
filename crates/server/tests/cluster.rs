//! Real processes through the launcher: what a person with a terminal would see.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use baton_server::client::Api;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;
use support::{options, start};

/// Longest time any test here may take; a hang must not hold up the rest.
const TEST_TIME_MAX: Duration = Duration::from_secs(55);
const PATIENCE: Duration = Duration::from_secs(15);

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_baton").into()
}

async fn submit(api: &Api, to: &str, key: &str) -> String {
    let body = json!({"intent_type": "test.job.v1", "to_agent": to, "payload": {"n": 1}});
    let answer = api
        .call(Method::POST, "/v1/intents", Some(&body), Some(key), PATIENCE)
        .await
        .unwrap();
    assert!(answer.ok(), "{}", answer.problem());
    answer.body["intent_id"].as_str().unwrap().to_owned()
}

async fn intent(api: &Api, id: &str) -> Value {
    let answer = api.get(&format!("/v1/intents/{id}"), PATIENCE).await.unwrap();
    assert!(answer.ok(), "{}", answer.problem());
    answer.body["intent"].clone()
}

#[tokio::test]
async fn one_node_keeps_its_intents_and_its_address_across_a_restart() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(options(dir.path(), 1)).await;
        let id = submit(&cluster.api().unwrap(), "restart-agent", "k1").await;
        let url = cluster.base_url(1);
        assert!(cluster.stop().await.is_empty(), "the node must stop by itself");
        assert!(!cluster.layout().pid(1).exists());
        drop(cluster);

        let mut cluster = start(options(dir.path(), 1)).await;
        assert_eq!(cluster.base_url(1), url);
        let api = cluster.api().unwrap();
        assert_eq!(intent(&api, &id).await["status"], "DELIVERED");
        assert_eq!(
            submit(&api, "restart-agent", "k1").await,
            id,
            "the key must still be known"
        );

        // Pages of the operator port.
        assert!(cluster.metrics(1).await.unwrap().contains("baton_"));
        let status = cluster.status(1).await.unwrap();
        assert_eq!((status.shard_groups, status.groups.len()), (4, 5));

        // A second node on the same ports and directory says so in one line.
        let refused = server(&["--config", cluster.layout().config(1).to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1));
        assert_one_line(&refused, "cannot listen on");
        cluster.stop().await;
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

#[tokio::test]
async fn three_nodes_lose_the_leader_and_nothing_else() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(options(dir.path(), 3)).await;
        let api = cluster.api().unwrap();
        let id = submit(&api, "killed-agent", "before").await;
        let slot = baton_protocol::IntentId::parse(&id).unwrap().slot();
        let group = baton_protocol::GroupMap::new(4).unwrap().group_of(slot).0;

        let victim = cluster.leader_of(group, PATIENCE).await.unwrap();
        cluster.kill_node(victim).await.unwrap();
        for k in (1..=3).filter(|&k| k != victim) {
            let api = Api::new(&[cluster.base_url(k)], &cluster.credentials().operator_token).unwrap();
            assert_eq!(intent(&api, &id).await["intent_id"], id.as_str(), "node-{k}");
            assert_eq!(
                submit(&api, "killed-agent", "before").await,
                id,
                "node-{k} must know the key"
            );
        }
        let during = submit(&api, "killed-agent", "during").await;
        let resolve = format!("/v1/intents/{during}/resolve");
        let done = json!({"status": "COMPLETED", "result": {"ok": true}});
        let answer = api
            .call(Method::POST, &resolve, Some(&done), Some("r1"), PATIENCE)
            .await
            .unwrap();
        assert!(answer.ok(), "{}", answer.problem());

        cluster.start_node(victim).unwrap();
        cluster.wait_ready(victim).await.unwrap();
        let back = Api::new(&[cluster.base_url(victim)], &cluster.credentials().operator_token).unwrap();
        assert_eq!(intent(&back, &during).await["status"], "COMPLETED");
        let events = back
            .get(&format!("/v1/intents/{during}/events"), PATIENCE)
            .await
            .unwrap();
        let seqs: Vec<u64> = events.body["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());

        assert!(cluster.stop().await.is_empty(), "every node must stop by itself");

        // Node 2's directory under node 1's configuration.
        let layout = cluster.layout();
        std::fs::rename(layout.data_dir(1), dir.path().join("aside")).unwrap();
        std::fs::rename(layout.data_dir(2), layout.data_dir(1)).unwrap();
        let refused = server(&["--config", layout.config(1).to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(78));
        assert_one_line(&refused, "belongs to node 2");
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

#[tokio::test]
async fn peers_talk_over_mutual_tls() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("tls");
        let certs = [
            "certs",
            "generate",
            "--name",
            "node",
            "--out",
            out.to_str().unwrap(),
        ];
        let made = std::process::Command::new(program())
            .args(certs)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut options = options(&dir.path().join("cluster"), 3);
        options.base.peer.tls = baton_server::config::Tls {
            cert: Some(out.join("node/node.pem")),
            key: Some(out.join("node/node.key")),
            ca: Some(out.join("ca.pem")),
        };
        let mut cluster = start(options).await;
        let api = cluster.api().unwrap();
        let id = submit(&api, "tls-agent", "k").await;
        assert_eq!(intent(&api.starting_at(1), &id).await["status"], "DELIVERED");
        cluster.stop().await;
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

/// `baton server` with these arguments, which must refuse to start.
fn server(args: &[&str]) -> Output {
    let mut child = std::process::Command::new(program())
        .arg("server")
        .args(args)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > until {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn assert_one_line(output: &Output, needle: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("baton: ") && text.contains(needle), "{text}");
}

#[test]
fn what_does_not_fit_is_refused_in_one_line_with_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ports = [
        "--client-listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--operator-listen",
        "127.0.0.1:0",
    ];
    let with = |more: &[&str]| {
        let args: Vec<&str> = ports.iter().chain(more).copied().collect();
        server(&args)
    };

    let refused = with(&["--config", "/no/such/baton.toml"]);
    assert_eq!(refused.status.code(), Some(78));
    assert_one_line(&refused, "/no/such/baton.toml");

    let file = dir.path().join("baton.toml");
    std::fs::write(&file, "[client]\nlisten_on = 'x'\n").unwrap();
    let refused = with(&["--config", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78));
    assert_one_line(&refused, "client.listen_on");

    // A file where the directory should be, and a stamp that nobody wrote.
    std::fs::write(&data, "x").unwrap();
    let refused = with(&["--data-dir", data.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78));
    assert_one_line(&refused, data.to_str().unwrap());
    std::fs::remove_file(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("node.pb"), "not a stamp").unwrap();
    let refused = with(&["--data-dir", data.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78));
    assert_one_line(&refused, data.to_str().unwrap());
}
