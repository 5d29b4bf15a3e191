//! Workers: what a handler answers, how many run, and what survives a lost node.

use crate::support::{Node, World, client, refusal, until};
use baton_client::{CancellationToken, ErrorKind, Job, JobError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::Code;

fn ids(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("item-{n:03}"))
}

#[tokio::test]
async fn each_answer_becomes_its_report() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.offer(["ok", "retry", "fail", "terminate", "panic", "question-mark"].map(str::to_owned));
    let stop = CancellationToken::new();
    let worker = client(&[&node]).worker("payment").shutdown(stop.clone());
    let running = tokio::spawn(worker.run(|job: Job| async move {
        let n: serde_json::Value = job.json()?;
        match job.intent().intent_id.as_str() {
            "retry" => Err(JobError::retry(Duration::from_secs(1))),
            "fail" => Err(JobError::fail_with(serde_json::json!({"code": 7}), "no")),
            "terminate" => Err(JobError::terminate("never")),
            "panic" => panic!("a handler's own fault"),
            "question-mark" => Err("x".parse::<u32>().unwrap_err())?,
            _ => Ok(n),
        }
    }));
    until(&world, "all reports", |s| {
        s.given.len() == 6 && s.given.values().all(|g| g.over)
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let last = |id: &str| world.look(|s| *s.given[id].reports.last().unwrap());
    assert_eq!(last("ok"), "complete");
    assert_eq!(last("fail"), "fail");
    assert_eq!(last("terminate"), "terminate");
    for id in ["retry", "panic", "question-mark"] {
        assert_eq!(last(id), "nak", "{id}");
    }
}

#[tokio::test]
async fn no_more_handlers_run_than_were_asked_for_and_all_work_is_done() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.offer(ids(200));
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let stop = CancellationToken::new();
    let worker = client(&[&node])
        .worker("payment")
        .concurrency(5)
        .shutdown(stop.clone());
    let counters = (Arc::clone(&now), Arc::clone(&most));
    let running = tokio::spawn(worker.run(move |_| {
        let (now, most) = counters.clone();
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    }));
    until(&world, "all work", |s| {
        s.given.len() == 200 && s.given.values().all(|g| g.over)
    })
    .await;
    assert!(most.load(Ordering::SeqCst) <= 5);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(world.look(|s| s.drains), 1);
}

#[tokio::test]
async fn a_running_handler_outlives_its_node() {
    let world = World::new();
    world.with(|s| s.lease_ms = 300);
    let mut first = Node::start(&world).await;
    let second = Node::start(&world).await;
    world.offer(ids(3));
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let stop = CancellationToken::new();
    let worker = client(&[&first, &second])
        .worker("payment")
        .shutdown(stop.clone());
    let shared = (Arc::clone(&gate), Arc::clone(&runs));
    let running = tokio::spawn(worker.run(move |_| {
        let (gate, runs) = shared.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await?.forget();
            Ok(())
        }
    }));
    until(&world, "signs of life at the first node", |s| {
        s.given.len() == 3 && s.given.values().all(|g| g.reports.contains(&"progress"))
    })
    .await;
    let before = world.look(|s| s.given["item-000"].reports.len());
    first.vanish();
    until(&world, "the items at the second node", |s| {
        s.work_streams == 2 && s.given["item-000"].reports.len() > before
    })
    .await;
    gate.add_permits(3);
    until(&world, "the results", |s| s.given.values().all(|g| g.over)).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3, "no handler ran twice");
}

#[tokio::test]
async fn a_handler_learns_that_its_item_is_somebody_elses() {
    let world = World::new();
    world.with(|s| s.lease_ms = 300);
    let node = Node::start(&world).await;
    world.offer(ids(1));
    let stop = CancellationToken::new();
    let lost = CancellationToken::new();
    let worker = client(&[&node]).worker("payment").shutdown(stop.clone());
    let told = lost.clone();
    let running = tokio::spawn(worker.run(move |job: Job| {
        let told = told.clone();
        async move {
            job.lost().await;
            told.cancel();
            Ok(())
        }
    }));
    until(&world, "the item", |s| s.given.len() == 1).await;
    world.with(|s| s.given.get_mut("item-000").unwrap().fence.counter += 1);
    tokio::time::timeout(Duration::from_secs(20), lost.cancelled())
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(
        !world.look(|s| s.given["item-000"].over),
        "its result was not sent"
    );
}

#[tokio::test]
async fn what_still_runs_after_the_drain_is_handed_back() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.offer(ids(2));
    let stop = CancellationToken::new();
    let worker = client(&[&node])
        .worker("payment")
        .drain_timeout(Duration::from_millis(50))
        .shutdown(stop.clone());
    let running = tokio::spawn(worker.run(|job: Job| async move {
        if job.intent().intent_id == "item-001" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }));
    until(&world, "the items", |s| s.given.len() == 2).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let last = |id: &str| world.look(|s| *s.given[id].reports.last().unwrap());
    assert_eq!((last("item-000"), last("item-001")), ("complete", "nak"));
}

#[tokio::test]
async fn a_worker_that_may_not_work_says_why() {
    let world = World::new();
    let node = Node::start(&world).await;
    world.trouble([refusal(Code::PermissionDenied, "agent_killed")]);
    let worker = client(&[&node]).worker("payment");
    let error = worker.run(|_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::PermissionDenied, "agent_killed")
    );
    assert!(error.advice().contains("operator"));
}
