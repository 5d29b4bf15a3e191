//! Deliveries end to end: real state machine, real frames, paused time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_protocol::proto::internal::{EventType, Status};
use std::collections::BTreeSet;
use std::time::Duration;
use support::{Group, World, agent, id_of};
use tokio::time::{sleep, timeout};

const VISIBILITY: Duration = Duration::from_secs(15);
const PICKUP: Duration = Duration::from_secs(600);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[tokio::test(start_paused = true)]
async fn listeners_before_and_after_the_submit_get_the_delivery() {
    let world = World::new();
    let agent = agent("worker");
    let mut before = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    let item = before.recv().await.unwrap();
    assert_eq!((id_of(&item), item.attempt), (id, 1));
    assert_eq!(item.payload.unwrap().data.as_ref(), b"{\"n\":1}");
    let mut after = world.listen(&agent, 0, "key-1").await;
    let again = after.recv().await.unwrap();
    assert_eq!(
        again.cursor, item.cursor,
        "the same delivery, not an attempt more"
    );
}

#[tokio::test(start_paused = true)]
async fn large_payloads_stay_behind() {
    let world = World::new();
    let agent = agent("worker");
    world.group.submit_with(&agent, 1, |s| {
        s.payload.as_mut().unwrap().data = vec![b'1'; 48 * 1024 + 1].into();
    });
    let mut rx = world.listen(&agent, 0, "key-1").await;
    assert!(rx.recv().await.unwrap().payload.is_none());
}

#[tokio::test(start_paused = true)]
async fn ignored_deliveries_use_up_the_attempts_and_fail() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    let mut cursors = Vec::new();
    for attempt in 1..=3 {
        let item = rx.recv().await.unwrap();
        assert_eq!(item.attempt, attempt);
        cursors.push(item.cursor);
    }
    assert!(cursors.is_sorted_by(|a, b| a < b), "{cursors:?}");
    assert!(timeout(VISIBILITY * 4, rx.recv()).await.is_err());
    assert_eq!(world.group.intent(id).status(), Status::Failed);
    let types: Vec<_> = world.group.events(id).iter().map(|e| e.r#type()).collect();
    assert!(
        types.ends_with(&[EventType::DeliveryFailed, EventType::Failed]),
        "{types:?}"
    );
    assert_eq!(world.failures(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_picked_up_delivery_keeps_its_attempt_and_comes_back_after_the_pickup_timeout() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    let first = rx.recv().await.unwrap();
    world.hub.picked_up(id, &agent, "key-1");
    assert!(timeout(PICKUP - VISIBILITY, rx.recv()).await.is_err());
    assert_eq!(world.failures(), 0);
    // Looking at it again does not keep a dead worker's delivery.
    world.hub.picked_up(id, &agent, "key-1");
    let second = timeout(VISIBILITY * 2, rx.recv()).await.unwrap().unwrap();
    assert!(second.cursor > first.cursor);
    assert_eq!((second.attempt, world.redeliveries()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn only_a_credential_that_was_written_to_picks_up() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    rx.recv().await.unwrap();
    world.hub.picked_up(id, &agent, "key-of-somebody-else");
    assert_eq!(rx.recv().await.unwrap().attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_consumes_nothing() {
    let world = World::new();
    let agent = agent("worker");
    let id = world.group.submit(&agent, 1);
    // Not even somebody who is connected and takes nothing.
    let mut idle = world.listen(&agent, 0, "key-1").await;
    sleep(VISIBILITY * 20).await;
    assert_eq!((world.failures(), world.redeliveries()), (0, 0));
    let item = idle.recv().await.unwrap();
    assert_eq!((id_of(&item), item.attempt), (id, 1));
}

#[tokio::test(start_paused = true)]
async fn every_listener_of_an_address_gets_the_delivery() {
    let world = World::new();
    let agent = agent("worker");
    let mut a = world.listen(&agent, 0, "key-1").await;
    let mut b = world.listen(&agent, 0, "key-2").await;
    let mut stranger = world.listen(&support::agent("other"), 0, "key-3").await;
    let id = world.group.submit(&agent, 1);
    assert_eq!(id_of(&a.recv().await.unwrap()), id);
    assert_eq!(id_of(&b.recv().await.unwrap()), id);
    assert!(timeout(secs(1), stranger.recv()).await.is_err());
    world.hub.picked_up(id, &agent, "key-2");
    assert!(timeout(VISIBILITY * 4, a.recv()).await.is_err());
    assert_eq!(world.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_finished_intent_is_not_delivered_again() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    rx.recv().await.unwrap();
    world.group.complete(id);
    assert!(timeout(VISIBILITY * 4, rx.recv()).await.is_err());
    assert_eq!((world.failures(), world.redeliveries()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_sends_again_what_it_knows_nothing_about() {
    let mut world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    let first = rx.recv().await.unwrap();
    world.depose().await;
    assert!(
        rx.recv().await.is_none(),
        "the channel closes with the leadership"
    );
    world.elect();
    let mut rx = world.listen(&agent, first.cursor, "key-1").await;
    let second = timeout(VISIBILITY * 2, rx.recv()).await.unwrap().unwrap();
    assert_eq!((id_of(&second), second.attempt), (id, 1));
    assert!(second.cursor > first.cursor);
    assert_eq!((world.failures(), world.redeliveries()), (0, 1));
    // From here on it is known to have been written, and counts.
    assert_eq!(rx.recv().await.unwrap().attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_pickup_told_to_a_new_leader_after_the_inference_holds() {
    let mut world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let id = world.group.submit(&agent, 1);
    let first = rx.recv().await.unwrap();
    world.depose().await;
    world.elect();
    let mut rx = world.listen(&agent, first.cursor, "key-1").await;
    sleep(secs(1)).await;
    world.hub.picked_up(id, &agent, "key-1");
    assert!(timeout(VISIBILITY * 4, rx.recv()).await.is_err());
    assert_eq!(world.redeliveries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_waits_for_a_leader_within_its_deadline() {
    let mut world = World::leaderless(Group::new());
    let agent = agent("worker");
    let listen = baton_protocol::Listen {
        agent: agent.clone(),
        since: 0,
        credential: "key-1".into(),
    };
    assert!(world.hub.subscribe(listen.clone()).await.is_err());
    let hub = std::sync::Arc::clone(&world.hub);
    let waiting = tokio::spawn(async move { hub.subscribe(listen).await });
    sleep(secs(2)).await;
    world.elect();
    let mut rx = waiting.await.unwrap().unwrap();
    let id = world.group.submit(&agent, 1);
    assert_eq!(id_of(&rx.recv().await.unwrap()), id);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_out_after_the_lease() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let first = world.group.submit(&agent, 1);
    assert_eq!(id_of(&rx.recv().await.unwrap()), first);
    // Long quiet streams live on renewals.
    assert!(timeout(secs(10), rx.recv()).await.is_err());
    world.wires.freeze(true);
    let second = world.group.submit(&agent, 2);
    let closed = timeout(Duration::from_millis(1_050), rx.recv()).await.unwrap();
    assert!(closed.is_none(), "closed by the lapse");
    world.wires.freeze(false);
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let seen = [rx.recv().await.unwrap(), rx.recv().await.unwrap()].map(|i| id_of(&i));
    assert_eq!(seen, [first, second]);
}

#[tokio::test(start_paused = true)]
async fn what_a_lapsed_lease_leaves_in_the_queue_is_not_handed_out() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    for n in 0..20 {
        world.group.submit(&agent, n);
    }
    rx.recv().await.unwrap();
    world.wires.freeze(true);
    sleep(secs(2)).await;
    // One item was in the listener's hands before the lapse.
    let mut rest = 0;
    while rx.recv().await.is_some() {
        rest += 1;
    }
    assert!(rest <= 1, "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_hands_out_nothing_and_accepts_no_stream() {
    let mut world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    world.depose().await;
    world.group.submit(&agent, 1);
    assert!(rx.recv().await.is_none());
    let listen = baton_protocol::Listen {
        agent,
        since: 0,
        credential: "key-1".into(),
    };
    assert!(world.hub.subscribe(listen).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_loses_nothing_and_sees_rising_cursors() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let ids: BTreeSet<_> = (0..300).map(|n| world.group.submit(&agent, n)).collect();
    let mut seen = BTreeSet::new();
    let mut last = 0;
    while seen.len() < ids.len() {
        let item = rx.recv().await.unwrap();
        assert!(item.cursor > last);
        last = item.cursor;
        seen.insert(id_of(&item));
        world.hub.picked_up(id_of(&item), &agent, "key-1");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(seen, ids);
    assert_eq!(world.failures(), 0, "what waits for its listener is not written");
}

#[tokio::test(start_paused = true)]
async fn missed_effects_are_made_up_from_the_tables() {
    let world = World::on(Group::with_feed(2));
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    let first = world.group.submit(&agent, 0);
    rx.recv().await.unwrap();
    sleep(secs(1)).await;
    // Without a pause in between the follower cannot keep up with the bounded feed.
    world.group.complete(first);
    let ids: Vec<_> = (1..50).map(|n| world.group.submit(&agent, n)).collect();
    // What is still in the feed concerns somebody else.
    for n in 50..53 {
        world.group.submit(&support::agent("other"), n);
    }
    for id in ids {
        assert_eq!(id_of(&rx.recv().await.unwrap()), id);
        world.hub.picked_up(id, &agent, "key-1");
    }
    sleep(VISIBILITY * 2).await;
    assert_eq!(world.failures(), 0, "the withdrawn delivery was forgotten");
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_cannot_be_committed_is_repeated() {
    let world = World::new();
    let agent = agent("worker");
    let mut rx = world.listen(&agent, 0, "key-1").await;
    world.group.submit(&agent, 1);
    rx.recv().await.unwrap();
    let leader = &world.leader.as_ref().unwrap().0;
    leader.refuse_proposals(true);
    assert!(timeout(VISIBILITY * 2, rx.recv()).await.is_err());
    leader.refuse_proposals(false);
    assert_eq!(rx.recv().await.unwrap().attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn random_listeners_and_leaders_lose_nothing() {
    for seed in 1..=6_u64 {
        let mut rng = seed;
        let mut draw = move |n: u64| {
            rng = rng
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (rng >> 33) % n
        };
        let mut world = World::new();
        let agent = agent("worker");
        let mut open = BTreeSet::new();
        let mut done = 0;
        let mut since = 0;
        for round in 0..60 {
            for n in 0..draw(4) {
                let id = world
                    .group
                    .submit_with(&agent, round * 10 + n, |s| s.max_delivery_attempts = 100);
                open.insert(id);
            }
            if draw(5) == 0 {
                world.depose().await;
                world.elect();
            }
            // A restarted agent asks from the beginning, a running one from what it saw.
            let from = if draw(4) == 0 { 0 } else { since };
            let mut rx = world.listen(&agent, from, "key-1").await;
            let mut last = from;
            for _ in 0..draw(6) {
                let Ok(Some(item)) = timeout(secs(1 + draw(20)), rx.recv()).await else {
                    break;
                };
                assert!(item.cursor > last, "seed {seed}");
                last = item.cursor;
                since = since.max(last);
                if draw(2) == 0 && open.remove(&id_of(&item)) {
                    world.group.complete(id_of(&item));
                    done += 1;
                }
            }
        }
        let mut rx = world.listen(&agent, since, "key-1").await;
        while !open.is_empty() {
            let item = timeout(VISIBILITY * 3, rx.recv()).await;
            let id = id_of(&item.unwrap_or_else(|_| panic!("seed {seed}: {open:?}")).unwrap());
            if open.remove(&id) {
                world.group.complete(id);
                done += 1;
            }
        }
        assert!(done > 20);
    }
}
