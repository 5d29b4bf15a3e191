//! A burst of intents with a kill -9 in the middle, and the count afterwards.

use super::agent::Agent;
use super::scenario::{INTENT_TYPE, is_terminal};
use crate::client::Api;
use crate::cluster::Cluster;
use futures::StreamExt as _;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long one intent is offered to node after node.
const SUBMIT_PATIENCE: Duration = Duration::from_secs(60);
/// How long the last accepted intent may take to end.
const SETTLE_PATIENCE: Duration = Duration::from_secs(120);
/// Event lists read at the same time while counting.
const COUNT_CONCURRENCY: usize = 16;

/// Size of a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) intents: usize,
    pub(super) concurrency: usize,
}

/// What became of a burst.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) requested: usize,
    /// Accepted by the cluster.
    pub(super) submitted: usize,
    /// With exactly one terminal event, `intent.completed`.
    pub(super) completed: usize,
    /// Accepted and then unknown or never ended.
    pub(super) lost: usize,
    /// With more than one terminal event.
    pub(super) completed_twice: usize,
    /// Intents the agent saw for which no submit was answered with that id.
    pub(super) created_twice: usize,
    pub(super) killed_node: usize,
    /// Longest time around the kill in which no submit succeeded.
    pub(super) failover_ms: u64,
}

impl Outcome {
    /// Whether every promise held.
    pub(super) fn clean(&self) -> bool {
        self.lost == 0
            && self.completed_twice == 0
            && self.created_twice == 0
            && self.submitted == self.requested
            && self.completed == self.submitted
    }
}

/// State shared by the submitting workers.
struct Shared {
    api: Api,
    run: String,
    agent: String,
    next: AtomicUsize,
    accepted: Mutex<Vec<(String, Instant)>>,
    count: watch::Sender<usize>,
    /// Tickets from this one on wait for the kill.
    gate_from: usize,
    gate: watch::Receiver<bool>,
    size: Size,
}

/// Runs the burst; kills the leader of `group` when half of it was accepted.
pub(super) async fn run(
    cluster: &mut Cluster,
    api: &Api,
    agent: &Agent,
    agent_address: &str,
    group: u32,
    size: Size,
) -> anyhow::Result<Outcome> {
    let (opened, gate) = watch::channel(false);
    let (count, mut progress) = watch::channel(0);
    let half = size.intents / 2;
    let shared = Arc::new(Shared {
        api: api.clone(),
        run: uuid::Uuid::new_v4().to_string(),
        agent: agent_address.to_owned(),
        next: AtomicUsize::new(0),
        accepted: Mutex::default(),
        count,
        gate_from: half + size.concurrency,
        gate,
        size,
    });
    let victim = cluster.leader_of(group, Duration::from_secs(10)).await?;
    let workers: Vec<_> = (0..size.concurrency)
        .map(|_| tokio::spawn(submit_loop(Arc::clone(&shared))))
        .collect();
    tokio::time::timeout(SUBMIT_PATIENCE, progress.wait_for(|&n| n >= half)).await??;
    let killed_at = Instant::now();
    cluster.kill_node(victim).await?;
    opened.send_replace(true);
    for worker in workers {
        worker.await?;
    }
    let accepted = std::mem::take(
        &mut *shared
            .accepted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    );
    let failover_ms = longest_gap(killed_at, accepted.iter().map(|(_, at)| *at));
    let ids: Vec<String> = accepted.into_iter().map(|(id, _)| id).collect();
    let tally = settle(api, &ids).await;
    let known: std::collections::BTreeSet<_> = ids.iter().cloned().collect();
    Ok(Outcome {
        requested: size.intents,
        submitted: ids.len(),
        completed: tally.completed,
        lost: tally.lost,
        completed_twice: tally.twice,
        created_twice: agent.seen_in(&shared.run).difference(&known).count(),
        killed_node: victim,
        failover_ms,
    })
}

async fn submit_loop(shared: Arc<Shared>) {
    loop {
        let ticket = shared.next.fetch_add(1, Ordering::Relaxed);
        if ticket >= shared.size.intents {
            return;
        }
        if ticket >= shared.gate_from && shared.gate.clone().wait_for(|&open| open).await.is_err() {
            return;
        }
        let mut payload = super::scenario::payload();
        payload["demo_run"] = json!(shared.run);
        payload["number"] = json!(ticket);
        let body = json!({"intent_type": INTENT_TYPE, "to_agent": shared.agent, "payload": payload});
        let key = format!("{}-{ticket}", shared.run);
        let answer = shared
            .api
            .call(
                Method::POST,
                "/v1/intents",
                Some(&body),
                Some(&key),
                SUBMIT_PATIENCE,
            )
            .await;
        match answer.map(|answer| answer.body["intent_id"].as_str().map(ToOwned::to_owned)) {
            Ok(Some(id)) => {
                let mut accepted = shared
                    .accepted
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                accepted.push((id, Instant::now()));
                shared.count.send_replace(accepted.len());
            }
            Ok(None) => tracing::warn!(ticket, "a submit was refused"),
            Err(error) => tracing::warn!(ticket, %error, "a submit was not answered"),
        }
    }
}

/// Longest time without a success, from `start` on, in milliseconds.
fn longest_gap(start: Instant, successes: impl Iterator<Item = Instant>) -> u64 {
    let mut later: Vec<Instant> = successes.filter(|&at| at > start).collect();
    later.sort_unstable();
    let mut before = start;
    let mut longest = Duration::ZERO;
    for at in later {
        longest = longest.max(at - before);
        before = at;
    }
    u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Default)]
struct Tally {
    completed: usize,
    lost: usize,
    twice: usize,
}

/// Waits until every intent has ended and counts its terminal events.
async fn settle(api: &Api, ids: &[String]) -> Tally {
    let until = Instant::now() + SETTLE_PATIENCE;
    let counts: Vec<Option<(usize, bool)>> = futures::stream::iter(ids)
        .map(|id| terminal_events(api, id, until))
        .buffer_unordered(COUNT_CONCURRENCY)
        .collect()
        .await;
    let mut tally = Tally::default();
    for count in counts {
        match count {
            None => tally.lost += 1,
            Some((1, completed)) => tally.completed += usize::from(completed),
            Some(_) => tally.twice += 1,
        }
    }
    tally
}

/// Number of terminal events and whether the first says completed; `None` when the intent is unknown or never ends.
async fn terminal_events(api: &Api, id: &str, until: Instant) -> Option<(usize, bool)> {
    loop {
        let patience = until.saturating_duration_since(Instant::now());
        let answer = api
            .get(&format!("/v1/intents/{id}/events"), patience)
            .await
            .ok()?;
        if !answer.ok() {
            return None;
        }
        let types: Vec<&str> = answer.body["events"]
            .as_array()?
            .iter()
            .filter_map(|event| event["event_type"].as_str())
            .filter(|event_type| is_terminal(event_type))
            .collect();
        if let Some(first) = types.first() {
            return Some((types.len(), *first == "intent.completed"));
        }
        if Instant::now() >= until {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failover_gap_starts_at_the_kill() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // A success before the kill neither counts nor hides the gap.
        let early = start.checked_sub(Duration::from_millis(5)).unwrap();
        assert_eq!(
            longest_gap(start, [early, at(2), at(1_402), at(1_410)].into_iter()),
            1_400
        );
        assert_eq!(longest_gap(start, [at(900)].into_iter()), 900);
        assert_eq!(longest_gap(start, std::iter::empty()), 0);
    }

    #[test]
    fn one_missing_promise_is_not_clean() {
        let clean = Outcome {
            requested: 2,
            submitted: 2,
            completed: 2,
            lost: 0,
            completed_twice: 0,
            created_twice: 0,
            killed_node: 1,
            failover_ms: 1,
        };
        assert!(clean.clean());
        assert!(
            !Outcome {
                lost: 1,
                completed: 1,
                ..clean.clone()
            }
            .clean()
        );
        assert!(
            !Outcome {
                completed_twice: 1,
                completed: 1,
                ..clean.clone()
            }
            .clean()
        );
        assert!(
            !Outcome {
                submitted: 1,
                completed: 1,
                ..clean
            }
            .clean()
        );
    }
}
