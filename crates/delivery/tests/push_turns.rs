//! Push beside others: shares of hosts and workspaces, workers of the same address, replays, and moved endpoints.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_delivery::PushSettings;
use baton_protocol::proto::internal::{DeliveryState, ReplayDelivery, Status, command};
use baton_protocol::{DeliveryId, IntentId};
use std::net::SocketAddr;
use std::time::Duration;
use support::agent;
use support::hook::{Answer, Hook, status};
use support::push::{Names, Pushing, settings, until};
use support::work::{WorkNode, id_of};
use tokio::time::sleep;

/// Longer than any test waits: whoever has a place keeps it.
const FOR_EVER_MS: u64 = 600_000;
/// Workers of an earlier leadership may come back that long.
const SETTLED: Duration = Duration::from_millis(1_200);

fn is(pushing: &Pushing, id: IntentId, status: Status) -> bool {
    pushing.group().intent(id).status() == status
}

/// Every name is this machine.
fn at_home() -> Names {
    Names(Box::new(|_, port| vec![SocketAddr::from(([127, 0, 0, 1], port))]))
}

fn patient(host_concurrency: usize, workspace_concurrency: usize) -> Pushing {
    let settings = PushSettings {
        concurrency: 8,
        endpoint_concurrency: 4,
        host_concurrency,
        workspace_concurrency,
        timeout_ms: FOR_EVER_MS,
        ..settings()
    };
    Pushing::with(settings, rustls::RootCertStore::empty(), at_home())
}

/// Sixteen agents of one workspace whose endpoints never answer, each at the host that `host` names.
async fn stuck(pushing: &Pushing, host: impl Fn(usize) -> String) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for n in 0..16 {
        let hook = Hook::start(|_| Answer::Never).await;
        let url = format!("http://{}:{}/hook", host(n), hook.address.port());
        let name = format!("slow-{n}");
        pushing.meta.set_in(&name, &url, "slow");
        for delivery in 0..4 {
            pushing.submit(&name, delivery);
        }
        hooks.push(hook);
    }
    hooks
}

async fn serves_others(pushing: &Pushing, hooks: &[Hook], most: usize) {
    let posts = || hooks.iter().map(|hook| hook.requests().len()).sum::<usize>();
    until("the slow ones' share", || posts() == most).await;
    let good = Hook::start(|_| status(200)).await;
    let url = format!("http://good.test:{}/hook", good.address.port());
    pushing.meta.set_in("good", &url, "quick");
    let served: Vec<_> = (0..20).map(|n| pushing.submit("good", n)).collect();
    until("the other workspace's deliveries", || {
        served.iter().all(|id| is(pushing, *id, Status::Acknowledged))
    })
    .await;
    assert_eq!(posts(), most, "no more than their share");
}

#[tokio::test]
async fn slow_agents_of_one_workspace_leave_places_to_others() {
    let pushing = patient(8, 5);
    let hooks = stuck(&pushing, |n| format!("slow-{n}.test")).await;
    serves_others(&pushing, &hooks, 5).await;
}

#[tokio::test]
async fn slow_agents_of_one_host_leave_places_to_others() {
    let pushing = patient(3, 8);
    let hooks = stuck(&pushing, |_| "Slow.Test".to_owned()).await;
    serves_others(&pushing, &hooks, 3).await;
}

#[tokio::test]
async fn a_place_that_becomes_free_is_used() {
    let pushing = Pushing::new(PushSettings {
        workspace_concurrency: 1,
        ..settings()
    });
    let hooks = [
        Hook::start(|_| status(200)).await,
        Hook::start(|_| status(200)).await,
    ];
    for (name, hook) in ["one", "two"].into_iter().zip(&hooks) {
        pushing.meta.set(name, &hook.url());
    }
    let ids: Vec<_> = (0..100)
        .map(|n| pushing.submit(if n % 2 == 0 { "one" } else { "two" }, n))
        .collect();
    until("everything", || {
        ids.iter().all(|id| is(&pushing, *id, Status::Acknowledged))
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_credit_takes_what_the_endpoint_has_not_got() {
    let hook = Hook::start(|n| status(if n == 1 { 500 } else { 200 })).await;
    let pushing = Pushing::new(PushSettings {
        retry_schedule_ms: vec![FOR_EVER_MS],
        ..settings()
    });
    sleep(SETTLED).await;
    pushing.meta.set("worker", &hook.url());
    let taken = pushing.submit("worker", 1);
    until("the endpoint's", || is(&pushing, taken, Status::Acknowledged)).await;
    let waits = pushing.submit("worker", 2);
    until("a failed post", || {
        pushing.group().intent(waits).failed_attempts == 1
    })
    .await;

    let node = WorkNode::new(&pushing.world);
    let hand = node.worker(&agent("worker"), 3).await;
    // What the endpoint took and what waits for it are not handed out beside it.
    hand.silent(Duration::from_millis(300)).await;
    let given: Vec<_> = (3..=5).map(|n| pushing.submit("worker", n)).collect();
    let items = hand.items(3).await;
    let mut handed: Vec<_> = items.iter().map(id_of).collect();
    handed.sort_unstable();
    assert_eq!(handed, given);
    assert_eq!(
        hook.requests().len(),
        2,
        "nothing is posted while a worker has credit"
    );
    // Its credit is used up: what comes now is posted.
    let next = pushing.submit("worker", 6);
    until("the endpoint's turn", || is(&pushing, next, Status::Acknowledged)).await;
    for item in &items {
        assert_eq!(hand.complete(item).await, None);
    }
    assert_eq!(hook.requests().len(), 3);
}

#[tokio::test]
async fn replays_and_open_deliveries_take_turns() {
    let hook = Hook::start(|n| status(if n < 5 { 500 } else { 200 })).await;
    let pushing = Pushing::new(PushSettings {
        endpoint_concurrency: 1,
        ..settings()
    });
    pushing.meta.set("worker", &hook.url());
    let dead: Vec<_> = (0..5)
        .map(|n| {
            let once =
                |submit: &mut baton_protocol::proto::internal::SubmitIntent| submit.max_delivery_attempts = 1;
            pushing.group().submit_with(&agent("worker"), n, once)
        })
        .collect();
    until("dead letters", || {
        dead.iter().all(|id| is(&pushing, *id, Status::Failed))
    })
    .await;
    pushing.meta.remove("worker");
    sleep(Duration::from_millis(100)).await;
    for id in &dead {
        let replay = ReplayDelivery {
            delivery: Some(DeliveryId::new(*id, &agent("worker").key).to_key()),
            ..ReplayDelivery::default()
        };
        pushing.group().commit(command::Body::ReplayDelivery(replay));
    }
    let open: Vec<_> = (10..15).map(|n| pushing.submit("worker", n)).collect();
    pushing.meta.set("worker", &hook.url());
    until("open deliveries", || {
        open.iter().all(|id| is(&pushing, *id, Status::Acknowledged))
    })
    .await;
    let replayed = |id: &IntentId| {
        pushing
            .delivery(*id, "worker", 1)
            .is_some_and(|row| row.state() == DeliveryState::Delivered)
    };
    until("replays", || dead.iter().all(replayed)).await;
    let kinds: Vec<bool> = hook.requests()[5..]
        .iter()
        .map(|request| request.body.ends_with("replay=true"))
        .collect();
    let in_turns = [true, false].repeat(5);
    assert_eq!(kinds, in_turns);
}

#[tokio::test]
async fn a_post_to_the_endpoint_before_is_not_made_again_at_the_new_one() {
    let before = Hook::start(|_| Answer::Never).await;
    let after = Hook::start(|_| status(200)).await;
    let pushing = Pushing::new(settings());
    pushing.meta.set("worker", &before.url());
    let id = pushing.submit("worker", 1);
    until("the first post", || before.requests().len() == 1).await;
    pushing.meta.set("worker", &after.url());
    let next = pushing.submit("worker", 2);
    until("both", || {
        is(&pushing, id, Status::Acknowledged) && is(&pushing, next, Status::Acknowledged)
    })
    .await;
    let attempts: Vec<_> = after
        .requests()
        .iter()
        .filter(|request| request.body.contains(&id.to_string()))
        .map(|request| request.body.contains("attempt=2"))
        .collect();
    assert_eq!(attempts, [true], "the first attempt was made elsewhere");
}
