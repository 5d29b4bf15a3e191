//! Commands against real nodes.

use crate::shell::Shell;
use crate::support;
use baton_server::cluster::Cluster;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Longest time any test here may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(55);

async fn start(dir: &Path, nodes: usize) -> (Cluster, Shell) {
    let cluster = support::start(support::options(dir, nodes)).await;
    let shell = Shell::new()
        .with("AXME_BASE_URLS", &cluster.base_urls().join(","))
        .with("AXME_API_KEY", &cluster.credentials().operator_token);
    (cluster, shell)
}

/// Runs a test on a thread of its own while the cluster's runtime goes on.
async fn within(nodes: usize, test: impl FnOnce(&Shell) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let all = async {
        let (mut cluster, shell) = start(dir.path(), nodes).await;
        let done = tokio::task::spawn_blocking(move || test(&shell)).await;
        cluster.stop().await;
        done.unwrap();
    };
    tokio::time::timeout(TEST_TIME_MAX, all).await.unwrap();
}

fn id(value: &Value) -> String {
    value["intent_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_answers_and_a_callback_is_set() {
    within(1, |shell| {
        assert_eq!(shell.json("tasks list"), Value::Array(vec![]));
        shell.ok("agents register pushed --delivery-mode http --callback-url https://a.example.com/in");
        let bundle = shell.home().join("bundle.json");
        let text = r#"{"scenario_id": "cli.sign.v1", "humans": [{"role": "lead", "contact": "ops@example.com"}],
            "workflow": {"steps": [{"step_id": "sign", "tool_id": "tool.human.approval.v1", "assigned_to": "lead"}]},
            "intent": {"type": "deploy.approval.v1", "payload": {}}}"#;
        std::fs::write(&bundle, text).unwrap();
        let started = shell.json(&format!("scenarios apply {}", bundle.display()));
        let intent = id(&started["intent"]);
        let listed = shell.json("tasks list --type deploy.approval.v1");
        assert_eq!(id(&listed[0]), intent);
        assert!(shell.ok("tasks list").contains(&intent));
        assert!(shell.ok(&format!("tasks show {intent}")).contains("open"));
        shell.ends(&format!("tasks answer {intent} --outcome perhaps"), 2);
        let done = shell.json(&format!("tasks answer {intent} --approve --comment fine"));
        assert_eq!(done["intent"]["status"], "COMPLETED");
        let shown = shell.json(&format!("tasks show {intent}"));
        assert_eq!(
            (&shown["open"], &shown["answer"]["comment"]),
            (&false.into(), &"fine".into())
        );
        shell.ends(&format!("tasks answer {intent} --approve"), 4);

        let rotated = shell.json("agents callback rotate pushed --overlap 1h");
        assert!(rotated["callback_secret"].as_str().unwrap().starts_with("whsec_"));
        assert!(shell.ok("agents callback show pushed").contains("posting"));
        let removed = shell.json("agents callback remove pushed");
        assert_eq!(removed["agent"]["callback_url"], Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_an_intent() {
    within(1, |shell| {
        let submit = r#"intents submit --to payment --type test.job.v1 --json {"n":1} --key k1"#;
        let receipt = shell.json(submit);
        let intent = id(&receipt);
        assert_eq!(receipt["replayed"], false);
        assert_eq!(shell.json(submit)["replayed"], true);
        let got = shell.json(&format!("intents get {intent}"));
        assert_eq!(
            (&got["payload"]["n"], &got["intent_type"]),
            (&1.into(), &"test.job.v1".into())
        );
        assert!(shell.ok(&format!("intents get {intent}")).contains("test.job.v1"));

        let listed = shell.json("intents list --to payment --type test.job.v1");
        assert_eq!(id(&listed[0]), intent);
        shell.ends(&format!("intents retry {intent}"), 4);
        let waited = format!("{submit} --wait 100ms");
        assert!(
            shell
                .complaint(&waited, 6)
                .contains(&format!("baton intents watch {intent}"))
        );

        let canceled = shell.json(&format!("intents cancel {intent} --reason enough"));
        assert_eq!(canceled[0]["canceled"], true);
        shell.ends(&format!("intents cancel {intent}"), 4);
        assert!(shell.complaint(&waited, 1).contains("CANCELED"));
        let events = shell.ok(&format!("intents watch {intent} -o json"));
        let seqs: Vec<u64> = events
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["seq"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        let trace = shell.json(&format!("intents trace {intent}"));
        assert_eq!(trace["steps"].as_array().unwrap().len(), seqs.len());
        assert!(
            shell
                .ok(&format!("intents trace {intent}"))
                .contains("intent.canceled")
        );

        let copy = id(&shell.json(&format!("intents retry {intent}")));
        assert_ne!(copy, intent);
        let copies = shell.json(&format!("intents list --correlation-id {intent}"));
        assert_eq!(id(&copies[0]), copy);
        let done = shell.json(&format!(r#"intents resume {copy} --result {{"ok":true}}"#));
        assert_eq!(done["status"], "COMPLETED");
        assert_eq!(
            shell.json(&format!("intents get {copy}"))["outcome"]["result"]["ok"],
            true
        );

        shell.json("intents submit --to payment --type test.bulk.v1");
        let dry = shell.json("intents cancel --to payment --type test.bulk.v1 --dry-run");
        assert_eq!(dry.as_array().unwrap().len(), 1);
        let all = shell.json("intents cancel --to payment --type test.bulk.v1 --yes");
        assert_eq!(all[0]["canceled"], true);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_end_with_their_code() {
    within(1, |shell| {
        shell.ends("intents get 01939393-0000-8000-8000-000000000000", 3);
        shell.ends("intents get not-an-id", 3);
        shell.ends("agents show nobody", 3);
        let key = shell.home().join("key");
        std::fs::write(&key, "axme_sa_wrong").unwrap();
        let complaint = shell.complaint(&format!("agents list --api-key-file {}", key.display()), 5);
        assert!(complaint.contains("check the API key"), "{complaint}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_keys_scenarios_and_inbox() {
    within(1, |shell| {
        let made = shell.json("agents register painter --key --display-name The%Painter");
        assert_eq!(
            (&made["created"], &made["agent"]["name"]),
            (&true.into(), &"painter".into())
        );
        assert!(made["api_key"].as_str().unwrap().starts_with("axme_"));
        assert_eq!(shell.json("agents register painter")["created"], false);
        let address = made["agent"]["address"].as_str().unwrap();
        assert_eq!(
            shell.json(&format!("agents show {address}"))["display_name"],
            "The Painter"
        );
        assert!(shell.ok("agents list").contains(address));
        shell.json("intents submit --to painter --type test.paint.v1");
        let backlog = shell.json("agents backlog painter");
        assert_eq!(backlog[0]["open_deliveries"], 1);
        let key = shell.json("agents keys create painter --expires-in 1h");
        assert!(key["token"].as_str().unwrap().starts_with("axme_"));
        let key_id = key["key_id"].as_str().unwrap();
        assert_eq!(
            shell.json(&format!("agents keys revoke painter {key_id}"))["status"],
            "revoked"
        );

        let bundle = shell.home().join("bundle.json");
        std::fs::write(&bundle, "{}").unwrap();
        let validation = shell.json_ends(&format!("scenarios validate {}", bundle.display()), 1);
        assert_eq!(validation["valid"], false);
        let threads = shell.json(&format!("inbox list --owner {address}"));
        let thread = threads[0]["thread_id"].as_str().unwrap();
        let shown = shell.json(&format!("inbox show {thread} --owner {address}"));
        assert_eq!(shown["thread_id"], thread);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_for_operators() {
    within(3, |shell| {
        // A node counts as reachable when it has told its time, which takes a moment after the start.
        let settled = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            shell.run("cluster status").status.success()
        });
        assert!(settled);
        let status = shell.json("cluster status");
        assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(status["groups_without_leader"], 0);
        let groups = shell.json("cluster groups");
        let group = groups
            .as_array()
            .unwrap()
            .iter()
            .find(|g| g["group_id"] == 1)
            .unwrap();
        // Whichever node is asked: at least two of the three do not lead.
        for node in status["nodes"].as_array().unwrap() {
            let url = format!("http://{}", node["client_address"].as_str().unwrap());
            for to in group["voter_node_ids"].as_array().unwrap() {
                let line = format!("cluster transfer-leader 1 --to {to} --endpoint {url}");
                assert_eq!(shell.json(&line)["leader_node_id"], *to);
            }
        }
        let leaders = shell.json("cluster leaders");
        let groups = leaders
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["groups"].as_array().unwrap().len());
        assert_eq!(groups.sum::<usize>(), 5, "{leaders}");
        let top = shell.json("top");
        assert_eq!(top["status"]["nodes"].as_array().unwrap().len(), 3);
        assert!(shell.ok("top --once").contains("nobody waits"));
        let found = shell.json("doctor");
        assert!(
            found.as_array().unwrap().iter().all(|f| f["verdict"] == "ok"),
            "{found}"
        );
    })
    .await;
}
