//! The Rust client against real nodes: what it promises when one of them dies.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use baton_client::{CancellationToken, Client, Ended, Event, IntentFilter, Job, NewAgent, Status, Submit};
use baton_server::cluster::Cluster;
use futures::TryStreamExt as _;
use serde_json::json;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{options, start};
use tokio::sync::watch;

/// Longest time any test here may take; a hang must not hold up the rest.
const TEST_TIME_MAX: Duration = Duration::from_secs(110);
const INTENTS: u32 = 300;
/// Handlers that have run when the node is killed.
const BEFORE_THE_KILL: u32 = 100;
/// Intents that are not over at one time.
const IN_FLIGHT: usize = 32;

/// A client that begins with node 1.
fn client(cluster: &Cluster, key: &str) -> Client {
    Client::builder()
        .endpoints(cluster.base_urls())
        .first_endpoint(0)
        .api_key(key)
        .connect_lazy()
        .unwrap()
}

/// Submits all, a few at a time, and gives what the submitter was told of each end, by number.
async fn submit_all(client: Client, agent: String) -> Vec<(u32, Ended)> {
    let submitter = client.submitter().in_flight_max(IN_FLIGHT).open();
    let mut endings = Vec::new();
    for n in 0..INTENTS {
        let submit = Submit::new(agent.as_str(), "test.job.v1")
            .json(&json!({"n": n}))
            .unwrap();
        let (ticket, ending) = submitter.submit_and_follow(submit).await.unwrap();
        endings.push((n, ticket, ending));
    }
    let mut all = Vec::new();
    for (n, ticket, ending) in endings {
        let receipt = ticket.await.unwrap();
        let ended = ending.await.unwrap();
        assert_eq!(receipt.intent_id, ended.intent_id, "intent {n}");
        all.push((n, ended));
    }
    submitter.close().await.unwrap();
    all
}

/// Asserts that an intent went its whole way once.
fn assert_one_life(events: &[Event]) {
    let seqs: Vec<u32> = events.iter().map(|event| event.seq).collect();
    let count = u32::try_from(events.len()).unwrap();
    assert_eq!(seqs, (1..=count).collect::<Vec<_>>(), "{events:?}");
    let ends = events.iter().filter(|event| event.status.is_terminal()).count();
    assert_eq!(ends, 1, "{events:?}");
    assert_eq!(events.last().unwrap().status, Status::Completed, "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitter_and_worker_outlive_the_node_they_are_connected_to() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = start(options(dir.path(), 3)).await;
        let operator = client(&cluster, &cluster.credentials().operator_token);
        let new = NewAgent {
            name: "killed-under".into(),
            create_key: true,
            ..NewAgent::default()
        };
        let registered = operator.register_agent(new).await.unwrap();
        let agent = registered.agent.address;

        let stop = CancellationToken::new();
        let runs = Arc::new(AtomicU32::new(0));
        let (seen, mut seen_by_test) = watch::channel(0);
        let worked_on: Arc<Mutex<HashSet<String>>> = Arc::default();
        let worker = client(&cluster, &registered.api_key.unwrap());
        let worker = worker
            .worker(agent.as_str())
            .concurrency(16)
            .shutdown(stop.clone());
        let working = tokio::spawn(worker.run({
            let (runs, worked_on) = (Arc::clone(&runs), Arc::clone(&worked_on));
            move |job: Job| {
                let ran = runs.fetch_add(1, Ordering::SeqCst) + 1;
                worked_on.lock().unwrap().insert(job.intent().intent_id.clone());
                seen.send_replace(ran);
                async move { job.json::<serde_json::Value>() }
            }
        }));
        let submitting = tokio::spawn(submit_all(operator.clone(), agent.clone()));

        // Submitter and worker have node 1 only, until it is gone.
        seen_by_test
            .wait_for(|ran| *ran >= BEFORE_THE_KILL)
            .await
            .unwrap();
        assert!(!submitting.is_finished() && !working.is_finished());
        cluster.kill_node(1).await.unwrap();

        let ended = submitting.await.unwrap();
        for (n, ended) in &ended {
            assert_eq!(ended.status, Status::Completed, "intent {n}");
            let result = ended.outcome.as_ref().and_then(|outcome| outcome.result.as_ref());
            let result: serde_json::Value = result.unwrap().decode().unwrap();
            assert_eq!(result, json!({"n": n}), "its own result");
        }
        let ids: HashSet<String> = ended.into_iter().map(|(_, ended)| ended.intent_id).collect();
        assert_eq!(ids.len(), INTENTS as usize);
        stop.cancel();
        working.await.unwrap().unwrap();
        assert_eq!(
            *worked_on.lock().unwrap(),
            ids,
            "the handler saw each, and no other"
        );
        eprintln!("{} runs for {INTENTS} intents", runs.load(Ordering::SeqCst));

        // What the nodes that are left know: these intents and no others, each with one life.
        let filter = IntentFilter {
            to_agent: Some(agent),
            ..IntentFilter::default()
        };
        let stored: Vec<_> = operator.list(filter).into_stream().try_collect().await.unwrap();
        let stored: HashSet<String> = stored.into_iter().map(|intent| intent.intent_id).collect();
        assert_eq!(stored, ids);
        for id in &ids {
            let events: Vec<Event> = operator.watch(id.as_str()).try_collect().await.unwrap();
            assert_one_life(&events);
        }
        cluster.stop().await;
    };
    tokio::time::timeout(TEST_TIME_MAX, test).await.unwrap();
}
