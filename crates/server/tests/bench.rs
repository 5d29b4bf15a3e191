//! `baton bench` as a program: every mode for a second, over each protocol, against a small cluster.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use baton_server::cluster::Cluster;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{options, start};

/// Longest time any test here may take; a hang must not hold up the rest.
const TEST_TIME_MAX: Duration = Duration::from_secs(100);

/// Runs `baton bench` against the cluster and returns its document.
fn bench(cluster: &Cluster, line: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["bench", "--target"])
        .arg(cluster.layout().client_env())
        .args("--output json --idle 0 --duration 1 --agents 2 --payload-bytes 64".split(' '))
        .args(line.split(' '))
        .env_clear()
        .output()
        .unwrap();
    let (text, told) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{line}: {told}\n{text}");
    serde_json::from_str(&text).unwrap()
}

fn cells(report: &Value) -> &[Value] {
    report["cells"].as_array().unwrap()
}

/// What must hold in any cell that went well.
fn assert_counted(cell: &Value) {
    assert!(cell["operations"].as_u64().unwrap() > 0, "{cell}");
    assert_eq!(cell["errors"], 0, "{cell}");
    assert!(cell["problems"].as_object().unwrap().is_empty(), "{cell}");
    let at = |name: &str| cell["latency_ms"][name].as_f64().unwrap();
    assert!(
        0.0 < at("p50") && at("p50") <= at("p99") && at("p99") <= at("max"),
        "{cell}"
    );
    assert!(
        cell["node_cpu_seconds_per_1000"].as_f64().unwrap() >= 0.0,
        "{cell}"
    );
    assert!(
        cell["generator_cpu_seconds_per_1000"].as_f64().is_some(),
        "{cell}"
    );
    assert_eq!(
        cell["resident_bytes_per_node"].as_array().unwrap().len(),
        1,
        "{cell}"
    );
}

fn every_mode(cluster: &Cluster, protocol: &str, histogram: &Path) {
    let line = format!(
        "submit cycle push get fan-out --protocol {protocol} --concurrency 3 --fill 20 --warm-up 1 --histogram {}",
        histogram.display()
    );
    let report = bench(cluster, &line);
    assert_eq!(report["settings"]["shard_groups"], 4);
    let modes: Vec<&str> = cells(&report)
        .iter()
        .map(|cell| cell["mode"].as_str().unwrap())
        .collect();
    assert_eq!(modes, ["waiting", "cycle", "push", "fan-out", "get", "submit"]);
    for cell in cells(&report) {
        assert_counted(cell);
        assert_eq!(cell["protocol"], protocol);
    }
    let (waiting, cycle, submit) = (&cells(&report)[0], &cells(&report)[1], &cells(&report)[5]);
    assert_eq!(
        (&waiting["operations"], &waiting["stored"]),
        (&20.into(), &0.into())
    );
    assert_eq!(
        cycle["stored"], 20,
        "the waiting intents stay while the other cells run"
    );
    assert!(
        submit["stored"].as_u64().unwrap() > 20,
        "what the get cell stored counts too"
    );
    // One node syncs each submit at least once, shared with at most the two others that are under way.
    assert!(
        submit["syncs_per_operation"].as_f64().unwrap() >= 0.25,
        "{submit}"
    );
    let log = std::fs::read_to_string(histogram).unwrap();
    assert!(log.contains(&format!("Tag=cycle-{protocol}-3,")), "{log}");

    let line =
        format!("cycle fan-out --protocol {protocol} --rate 20 --concurrency 4 --warm-up 0 --observe intent");
    for cell in cells(&bench(cluster, &line)) {
        assert_counted(cell);
        assert_eq!(
            cell["operations"], 20,
            "every slot of the open loop is counted: {cell}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_counts_what_it_says() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(options(dir.path(), 1)).await;
        for protocol in ["axp", "grpc"] {
            every_mode(&cluster, protocol, &dir.path().join(format!("{protocol}.hlog")));
        }
        let keys = bench(
            &cluster,
            "submit --idempotency recipient --concurrency 2 --warm-up 0",
        );
        assert_counted(&cells(&keys)[0]);
        assert_eq!(cells(&keys)[0]["protocol"], "grpc", "unless another is asked for");
        cluster.stop().await;
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_timed_with_what_was_stored() {
    let line = "bench waiting --nodes 1 --shard-groups 4 --fill 20,40 --restart --idle 0 --output json";
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(line.split(' '))
        .env_clear()
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TEST_TIME_MAX, run).await.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let restarts = report["restarts"].as_array().unwrap();
    let stored: Vec<_> = restarts.iter().map(|restart| &restart["stored"]).collect();
    assert_eq!(stored, [20, 40], "{report}");
    assert!(
        restarts
            .iter()
            .all(|restart| restart["ready_ms"].as_u64().unwrap() > 0),
        "{report}"
    );
}

/// Operations that begin in a second of the open loop below, and its length.
const RATE: u32 = 100;
const SECONDS: u32 = 5;
/// How long the node stands still.
const STALL: Duration = Duration::from_secs(2);

/// Runs an open loop of cycles while the node stands still for a time; gives its document.
fn bench_through_a_stall(cluster: &Cluster) -> Value {
    // Few operations at a time: without the intended starts, only these few would be seen to wait.
    let line = format!("cycle --rate {RATE} --concurrency 4 --warm-up 0 --duration {SECONDS}");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["bench", "--target"])
        .arg(cluster.layout().client_env())
        .args("--output json --idle 0 --agents 2 --payload-bytes 64".split(' '))
        .args(line.split(' '))
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let node = cluster.pid(1).unwrap().to_string();
    let signal = |name: &str| {
        assert!(
            Command::new("kill")
                .args([name, &node])
                .status()
                .unwrap()
                .success()
        )
    };
    let mut told = BufReader::new(bench.stderr.take().unwrap()).lines();
    let begun = told.any(|line| line.unwrap().starts_with("cycle grpc"));
    std::thread::sleep(Duration::from_millis(500));
    signal("-STOP");
    std::thread::sleep(STALL);
    signal("-CONT");
    let rest: Vec<String> = told.map_while(Result::ok).collect();
    let output = bench.wait_with_output().unwrap();
    assert!(begun && output.status.success(), "{rest:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_shows_a_server_that_stood_still() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(options(dir.path(), 1)).await;
        let report = tokio::task::block_in_place(|| bench_through_a_stall(&cluster));
        let cell = &cells(&report)[0];
        assert_counted(cell);
        assert_eq!(cell["operations"], RATE * SECONDS, "{cell}");
        // What was meant to begin in the first half of the stall waited for the other half at least: a fifth of all.
        let at = |name: &str| cell["latency_ms"][name].as_f64().unwrap();
        let half_ms = STALL.as_secs_f64() * 1_000.0 / 2.0;
        assert!(at("p90") >= half_ms, "{cell}");
        assert!(at("max") >= 1.5 * half_ms, "{cell}");
        cluster.stop().await;
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_shown_and_nothing_is_claimed() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(options(dir.path(), 1)).await;
        let url = cluster.base_url(1);
        for (protocol, what) in [("axp", "401"), ("grpc", "submit stream")] {
            let refused = Command::new(env!("CARGO_BIN_EXE_baton"))
                .args("bench submit --idle 0 --duration 1 --concurrency 1 --protocol".split(' '))
                .args([protocol, "--target", &url, "--key", "axme_sa_nobody_wrong"])
                .env_clear()
                .output()
                .unwrap();
            let text = String::from_utf8(refused.stdout).unwrap();
            assert_eq!(refused.status.code(), Some(1), "{text}");
            assert!(text.contains("what went wrong") && text.contains(what), "{text}");
            let told = String::from_utf8(refused.stderr).unwrap();
            let cell = format!("nothing succeeded in the cell submit {protocol} 1");
            assert!(told.contains(&cell), "{told}");
        }
        cluster.stop().await;
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}
