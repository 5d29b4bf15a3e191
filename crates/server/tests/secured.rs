//! A cluster as one would run it across machines: TLS on every port, real processes, certificates of `baton certs`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on panics; steps are shown when it fails"
)]

use baton_server::client::raw;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

/// Longest time any test here may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(55);
const PATIENCE: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(50);
const NODES: usize = 3;
/// Lines of each node's log that a failed test shows.
const LAST_WORDS_LINES: usize = 15;

fn baton() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BATON_") {
            command.env_remove(name);
        }
    }
    command
}

fn make_certs(out: &Path, names: &[&str]) {
    let mut command = baton();
    command.args(["certs", "generate", "--out"]).arg(out);
    for name in names {
        command.args(["--name", name]);
    }
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

struct Cluster {
    dir: tempfile::TempDir,
    client: Vec<SocketAddr>,
    peer: Vec<SocketAddr>,
    operator: Vec<SocketAddr>,
    nodes: Vec<Option<Child>>,
    /// What clients trust.
    tls: Arc<rustls::ClientConfig>,
    /// What operators trust and show.
    operator_tls: Arc<rustls::ClientConfig>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in (1..=NODES).filter(|_| std::thread::panicking()) {
            let log = std::fs::read_to_string(self.file(&format!("log-{n}"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_WORDS_LINES)..];
            eprintln!("node {n} said last:\n{}", last.join("\n"));
        }
        for node in self.nodes.iter_mut().flatten() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs");
        make_certs(&certs, &["node-1", "node-2", "node-3"]);
        let held: Vec<TcpListener> = (0..3 * NODES)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<SocketAddr> = held.iter().map(|l| l.local_addr().unwrap()).collect();
        drop(held);
        let ca = certs.join("ca.pem");
        let own = (certs.join("node-1/node.pem"), certs.join("node-1/node.key"));
        let mut cluster = Self {
            client: ports[..NODES].to_vec(),
            peer: ports[NODES..2 * NODES].to_vec(),
            operator: ports[2 * NODES..].to_vec(),
            nodes: (0..NODES).map(|_| None).collect(),
            tls: raw::tls(&ca, None).unwrap(),
            operator_tls: raw::tls(&ca, Some((&own.0, &own.1))).unwrap(),
            dir,
        };
        for k in 0..NODES {
            cluster.start_node(k);
        }
        for k in 0..NODES {
            cluster.wait_ready(k).await;
        }
        cluster
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start_node(&mut self, k: usize) {
        let n = k + 1;
        let certs = self.file("certs");
        let peers: Vec<String> = self.peer.iter().map(ToString::to_string).collect();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file(&format!("log-{n}")))
            .unwrap();
        let mut command = baton();
        command
            .args(["server", "--exit-on-stdin-eof", "--shard-groups", "4"])
            .args(["--requests-per-minute", "0", "--log-filter", "debug"])
            .args([
                "--cluster-peers",
                &peers.join(","),
                "--cluster-ordinal",
                &k.to_string(),
            ])
            .arg("--data-dir")
            .arg(self.file(&format!("data-{n}")));
        for (port, address) in [
            ("client", self.client[k]),
            ("peer", self.peer[k]),
            ("operator", self.operator[k]),
        ] {
            let node = certs.join(format!("node-{n}"));
            command.args([format!("--{port}-listen"), address.to_string()]);
            command
                .arg(format!("--{port}-tls-cert"))
                .arg(node.join("node.pem"));
            command
                .arg(format!("--{port}-tls-key"))
                .arg(node.join("node.key"));
            if port != "client" {
                command.arg(format!("--{port}-tls-ca")).arg(certs.join("ca.pem"));
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.nodes[k] = Some(command.spawn().unwrap());
    }

    async fn wait_ready(&self, k: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(k, "", "GET", "/readyz", None).await;
            if matches!(answer, Ok((200, _))) {
                return;
            }
            assert!(Instant::now() < until, "node {k} is not ready: {answer:?}");
            sleep(PAUSE).await;
        }
    }

    async fn call(
        &self,
        k: usize,
        key: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("https://{}{path}", self.client[k]);
        let body = body.map(ToString::to_string).unwrap_or_default();
        let headers = [("x-api-key", key)];
        let exchange = raw::exchange(Some(self.tls.clone()), method, &url, &headers, &body);
        let (status, text) = timeout(Duration::from_secs(10), exchange).await??;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Repeats a call until it is answered with 200.
    async fn done(&self, k: usize, key: &str, method: &str, path: &str, body: Option<&Value>) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(k, key, method, path, body).await;
            if let Ok((200, body)) = answer {
                return body;
            }
            assert!(Instant::now() < until, "{method} {path} at node {k}: {answer:?}");
            sleep(PAUSE).await;
        }
    }

    async fn operator_page(&self, k: usize, page: &str) -> anyhow::Result<(u16, String)> {
        let url = format!("https://{}{page}", self.operator[k]);
        raw::exchange(Some(self.operator_tls.clone()), "GET", &url, &[], "").await
    }

    fn credentials(&self) -> Credentials {
        let text = std::fs::read_to_string(self.file("data-1/client.env")).unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            line.unwrap().to_owned()
        };
        Credentials {
            key: value("AXME_API_KEY"),
            org: value("AXME_ORG_ID"),
            workspace: value("AXME_WORKSPACE_ID"),
        }
    }

    fn kill(&mut self, k: usize) {
        let mut node = self.nodes[k].take().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
    }

    /// Closes the node's standard input, which asks it to stop as SIGTERM does.
    async fn stop(&mut self, k: usize) -> ExitStatus {
        let mut node = self.nodes[k].take().unwrap();
        drop(node.stdin.take());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = node.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "node {k} does not stop");
            sleep(PAUSE).await;
        }
    }
}

struct Credentials {
    key: String,
    org: String,
    workspace: String,
}

fn job(to: &str) -> Value {
    json!({"intent_type": "test.job.v1", "to_agent": to, "payload": {"n": 1}})
}

/// Reads a stream until it ends or `needle` came.
async fn read_until(stream: &mut Box<dyn raw::Connection>, needle: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0_u8; 4096];
    while !text.contains(needle) {
        match timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .expect("stream stands still")
        {
            Ok(0) | Err(_) => break,
            Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
        }
    }
    text
}

#[tokio::test]
async fn three_nodes_over_tls_survive_a_kill_and_refuse_strangers() {
    let test = async {
        let mut cluster = Cluster::start().await;
        let Credentials { key, .. } = cluster.credentials();
        let submitted = cluster
            .done(0, &key, "POST", "/v1/intents", Some(&job("tls-agent")))
            .await;
        let id = submitted["intent_id"].as_str().unwrap().to_owned();

        // A listener at another node gets it over TLS, end to end.
        let url = format!(
            "https://{}/v1/agents/tls-agent/intents/stream?since=0",
            cluster.client[1]
        );
        let headers = [("x-api-key", key.as_str())];
        let mut stream = raw::send(Some(cluster.tls.clone()), "GET", &url, &headers, "")
            .await
            .unwrap();
        assert!(read_until(&mut stream, &id).await.contains(&id));
        drop(stream);

        // Operator pages need a certificate of the cluster's authority.
        let (status, page) = cluster.operator_page(0, "/livez?verbose").await.unwrap();
        assert_eq!(status, 200);
        for check in ["runtime", "consensus", "log_writer"] {
            assert!(page.contains(check), "{page}");
        }
        strangers_get_nothing(&cluster).await;

        // The node that created the cluster: it must also find its way back into its own directory.
        cluster.kill(0);
        for k in [1, 2] {
            let path = format!("/v1/intents/{id}");
            let found = cluster.done(k, &key, "GET", &path, None).await;
            assert_eq!(found["intent"]["intent_id"], id.as_str());
            cluster.wait_ready(k).await;
            cluster
                .done(k, &key, "POST", "/v1/intents", Some(&job("tls-agent")))
                .await;
        }
        cluster.start_node(0);
        cluster.wait_ready(0).await;
        cluster
            .done(0, &key, "GET", &format!("/v1/intents/{id}"), None)
            .await;

        reloads_its_certificate(&cluster).await;
        for k in 0..NODES {
            assert_eq!(cluster.stop(k).await.code(), Some(0), "node {k}");
        }
    };
    timeout(TEST_TIME_MAX, test).await.unwrap();
}

/// Certificates of another authority, and no certificate at all, at the ports between nodes and for operators.
async fn strangers_get_nothing(cluster: &Cluster) {
    let other = cluster.file("other");
    make_certs(&other, &["node-1"]);
    let ca = cluster.file("certs/ca.pem");
    let foreign = (other.join("node-1/node.pem"), other.join("node-1/node.key"));
    for own in [None, Some((foreign.0.as_path(), foreign.1.as_path()))] {
        let tls = raw::tls(&ca, own).unwrap();
        for address in [cluster.peer[0], cluster.operator[0]] {
            let url = format!("https://{address}/livez");
            let answer = raw::exchange(Some(tls.clone()), "GET", &url, &[], "").await;
            assert!(answer.is_err(), "{address} answered {answer:?} to {own:?}");
        }
    }
}

async fn reloads_its_certificate(cluster: &Cluster) {
    let fresh = cluster.file("fresh");
    make_certs(&fresh, &["node-1"]);
    let certs = cluster.file("certs/node-1");
    for file in ["node.key", "node.pem"] {
        std::fs::copy(fresh.join("node-1").join(file), certs.join(file)).unwrap();
    }
    let trusting = raw::tls(&fresh.join("ca.pem"), None).unwrap();
    let url = format!("https://{}/livez", cluster.client[0]);
    let until = Instant::now() + PATIENCE;
    while raw::exchange(Some(trusting.clone()), "GET", &url, &[], "")
        .await
        .is_err()
    {
        assert!(Instant::now() < until, "the new certificate is not served");
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_everywhere_its_streams_end_and_no_secret_is_written() {
    let test = async {
        let mut cluster = Cluster::start().await;
        let Credentials { key, org, workspace } = cluster.credentials();
        let account = json!({"org_id": org, "workspace_id": workspace, "name": "short-lived"});
        let made = cluster
            .done(0, &key, "POST", "/v1/service-accounts", Some(&account))
            .await;
        let account = made["service_account"]["service_account_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let keys = format!("/v1/service-accounts/{account}/keys");
        let made = cluster.done(0, &key, "POST", &keys, Some(&json!({}))).await;
        let token = made["api_key"].as_str().unwrap().to_owned();
        let key_id = made["key_id"]
            .as_str()
            .or(made["key"]["key_id"].as_str())
            .unwrap()
            .to_owned();

        let mut streams = Vec::new();
        for k in 0..NODES {
            cluster.done(k, &token, "GET", "/v1/me", None).await;
            let url = format!(
                "https://{}/v1/agents/short-lived/intents/stream?since=0&wait_seconds=50",
                cluster.client[k]
            );
            let headers = [("x-api-key", token.as_str())];
            let mut stream = raw::send(Some(cluster.tls.clone()), "GET", &url, &headers, "")
                .await
                .unwrap();
            read_until(&mut stream, "\r\n\r\n").await;
            streams.push(stream);
        }
        cluster
            .done(
                0,
                &key,
                "POST",
                &format!("{keys}/{key_id}/revoke"),
                Some(&json!({})),
            )
            .await;
        let revoked = Instant::now();
        for mut stream in streams {
            // Far before the 50 seconds it was opened for.
            read_until(&mut stream, "nothing that comes").await;
        }
        for k in 0..NODES {
            loop {
                let (status, _) = cluster.call(k, &token, "GET", "/v1/me", None).await.unwrap();
                if status == 401 {
                    break;
                }
                assert!(revoked.elapsed() < PATIENCE, "node {k} still answers {status}");
                sleep(PAUSE).await;
            }
        }
        println!("revoked everywhere after {} ms", revoked.elapsed().as_millis());
        for k in 0..NODES {
            cluster.stop(k).await;
        }
        let kept = BTreeSet::from(["client.env".to_owned(), "operator-credentials.toml".to_owned()]);
        assert_eq!(
            files_with(cluster.dir.path(), key.as_bytes()),
            kept,
            "only the files for the operator"
        );
        assert!(files_with(cluster.dir.path(), token.as_bytes()).is_empty());
        for name in kept {
            use std::os::unix::fs::PermissionsExt as _;
            let file = std::fs::metadata(cluster.file("data-1").join(name)).unwrap();
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
    };
    timeout(TEST_TIME_MAX, test).await.unwrap();
}

/// Names of the files below `dir` that contain the secret, or its last part alone.
fn files_with(dir: &Path, secret: &[u8]) -> BTreeSet<String> {
    let last = secret.rsplit(|&b| b == b'_').next().unwrap();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, secret));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(last.len())
            .any(|part| part == last)
        {
            found.insert(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}
