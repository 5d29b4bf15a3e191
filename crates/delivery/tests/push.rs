//! Push against endpoints on loopback that answer by script.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use baton_delivery::PushSettings;
use baton_protocol::proto::internal::{DeliveryState, FailAttempt, Intent, ReplayDelivery, Status, command};
use baton_protocol::{DeliveryId, IntentId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::hook::{Answer, Hook, status};
use support::push::{Names, Pushing, settings, until};
use support::{agent, id_of};
use tokio::time::timeout;

fn failures(pushing: &Pushing) -> Vec<FailAttempt> {
    let failed = |body| {
        let command::Body::FailAttempt(failed) = body else {
            return None;
        };
        Some(failed)
    };
    pushing.group().bodies().into_iter().filter_map(failed).collect()
}

fn is(pushing: &Pushing, id: IntentId, status: Status) -> bool {
    pushing.group().intent(id).status() == status
}

#[tokio::test]
async fn a_taken_delivery_is_acknowledged_once() {
    let hook = Hook::start(|_| status(202)).await;
    let pushing = Pushing::new(settings());
    pushing.meta.set("worker", &hook.url());
    let id = pushing.group().submit_with(&agent("worker"), 1, |submit| {
        submit.trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    });
    until("acknowledgement", || is(&pushing, id, Status::Acknowledged)).await;
    let requests = hook.requests();
    let request = &requests[0];
    let delivery_id = DeliveryId::new(id, &agent("worker").key).to_string();
    assert_eq!(request.header("x-axme-delivery-id"), delivery_id);
    assert_eq!(request.header("webhook-id"), delivery_id);
    assert_eq!(
        request.header("webhook-timestamp"),
        request.header("x-axme-timestamp")
    );
    assert!(request.header("x-axme-signature").starts_with("sha256="));
    assert!(request.header("webhook-signature").starts_with("v1,"));
    assert!(request.header("traceparent").starts_with("00-0af76519"));
    assert_eq!(request.header("content-type"), "application/json");
    assert!(
        request.body.contains(&format!("intent={id} attempt=1")),
        "{}",
        request.body
    );
    let row = pushing.delivery(id, "worker", 0).unwrap();
    assert_eq!((row.state(), row.last_status), (DeliveryState::Delivered, 202));
    // Neither the same leader nor a new one posts it again, although it is open.
    let mut pushing = pushing;
    pushing.world.depose().await;
    pushing.world.elect();
    let next = pushing.submit("worker", 2);
    until("the next one", || is(&pushing, next, Status::Acknowledged)).await;
    assert_eq!(hook.requests().len(), 2);
}

#[tokio::test]
async fn failures_are_tried_again_under_the_same_id() {
    let hook = Hook::start(|n| status(if n < 2 { 500 } else { 200 })).await;
    let pushing = Pushing::new(settings());
    pushing.meta.set("worker", &hook.url());
    let id = pushing.submit("worker", 1);
    until("acknowledgement", || is(&pushing, id, Status::Acknowledged)).await;
    let requests = hook.requests();
    assert_eq!(requests.len(), 3);
    for (n, request) in requests.iter().enumerate() {
        assert!(
            request.body.contains(&format!("attempt={} ", n + 1)),
            "{}",
            request.body
        );
        assert_eq!(request.header("webhook-id"), requests[0].header("webhook-id"));
    }
    assert_eq!(pushing.delivery(id, "worker", 0).unwrap().attempts, 3);
    assert_eq!(pushing.group().intent(id).failed_attempts, 2);
}

/// Each of these costs three attempts and no more, and meanwhile another agent gets all of its deliveries.
#[tokio::test]
async fn hostile_endpoints_cost_little_and_block_nobody() {
    let trap = Hook::start(|_| status(200)).await;
    let location = format!("location: {}\r\n", trap.url());
    let scripts = [
        ("never", Answer::Never),
        ("drip", Answer::Drip),
        ("endless-head", Answer::EndlessHead),
        ("close", Answer::Close),
        ("redirect", Answer::Status(307, location)),
    ];
    let good = Hook::start(|_| status(200)).await;
    let pushing = Pushing::new(PushSettings {
        concurrency: 8,
        endpoint_concurrency: 1,
        ..settings()
    });
    let mut hooks = Vec::new();
    let mut doomed = Vec::new();
    for (name, answer) in scripts {
        let hook = Hook::start(move |_| answer.clone()).await;
        pushing.meta.set(name, &hook.url());
        doomed.extend((0..2).map(|n| (name, pushing.submit(name, n))));
        hooks.push(hook);
    }
    pushing.meta.set("good", &good.url());
    let served: Vec<_> = (0..50).map(|n| pushing.submit("good", n)).collect();
    until("the good agent's deliveries", || {
        served.iter().all(|id| is(&pushing, *id, Status::Acknowledged))
    })
    .await;
    until("the end of the others", || {
        doomed.iter().all(|(_, id)| is(&pushing, *id, Status::Failed))
    })
    .await;
    for (name, id) in doomed {
        let row = pushing.delivery(id, name, 0).unwrap();
        assert_eq!(
            (row.state(), row.attempts),
            (DeliveryState::DeadLettered, 3),
            "{name}"
        );
    }
    for hook in &hooks {
        assert_eq!(hook.requests().len(), 6);
        // What fits into the buffers of the connections; the script would go on for ever.
        assert!(hook.bytes_sent.load(Ordering::SeqCst) < 64 << 20);
    }
    assert_eq!(trap.connections(), 0, "redirects are not followed");
}

#[tokio::test]
async fn an_endless_body_is_an_answer_and_is_left_unread() {
    let hook = Hook::start(|_| Answer::EndlessBody).await;
    let pushing = Pushing::new(settings());
    pushing.meta.set("worker", &hook.url());
    let id = pushing.submit("worker", 1);
    until("acknowledgement", || is(&pushing, id, Status::Acknowledged)).await;
    let sent = hook.bytes_sent.load(Ordering::SeqCst);
    assert!(sent < 16 << 20, "{sent}");
}

#[tokio::test]
async fn the_address_is_judged_where_it_is_dialled() {
    let hook = Hook::start(|_| Answer::Status(500, "connection: close\r\n".into())).await;
    let trap = Hook::listen(&format!("127.0.0.2:{}", hook.address.port()), None, |_| {
        status(200)
    })
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    // Allowed at first; then the name means something else.
    let names = Names(Box::new(move |host, port| {
        assert_eq!(host, "hook.example.com");
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let address = if first { [127, 0, 0, 1] } else { [127, 0, 0, 2] };
        vec![SocketAddr::from((address, port))]
    }));
    let pushing = Pushing::with(settings(), rustls::RootCertStore::empty(), names);
    let port = hook.address.port();
    pushing
        .meta
        .set("worker", &format!("http://hook.example.com:{port}/"));
    let literal = pushing.submit("literal", 1);
    pushing
        .meta
        .set("literal", &format!("http://[::ffff:127.0.0.2]:{port}/"));
    let id = pushing.submit("worker", 1);
    until("the end", || {
        is(&pushing, id, Status::Failed) && is(&pushing, literal, Status::Failed)
    })
    .await;
    assert_eq!((hook.requests().len(), trap.connections()), (1, 0));
    assert_eq!(asked.load(Ordering::SeqCst), 3, "asked for every connection");
    for row in [
        pushing.delivery(id, "worker", 0),
        pushing.delivery(literal, "literal", 0),
    ] {
        let row = row.unwrap();
        assert_eq!(row.last_status, 0);
        assert!(
            row.last_error.contains("127.0.0.2 is not dialled (loopback)"),
            "{}",
            row.last_error
        );
    }
}

#[tokio::test]
async fn only_a_certificate_that_is_trusted_will_do() {
    let made = rcgen::generate_simple_self_signed(["hook.example.com".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let hook = Hook::listen("127.0.0.1:0", Some(acceptor), |_| status(200)).await;
    let names = || Names(Box::new(|_, port| vec![SocketAddr::from(([127, 0, 0, 1], port))]));
    let url = format!("https://hook.example.com:{}/", hook.address.port());
    let strict = PushSettings {
        allow_http: false,
        ..settings()
    };
    let pushing = Pushing::with(strict.clone(), rustls::RootCertStore::empty(), names());
    pushing.meta.set("worker", &url);
    pushing.meta.set("plain", "http://hook.example.com/");
    let (id, plain) = (pushing.submit("worker", 1), pushing.submit("plain", 1));
    until("the end", || {
        is(&pushing, id, Status::Failed) && is(&pushing, plain, Status::Failed)
    })
    .await;
    assert!(
        pushing
            .delivery(id, "worker", 0)
            .unwrap()
            .last_error
            .contains("certificate")
    );
    assert!(
        pushing
            .delivery(plain, "plain", 0)
            .unwrap()
            .last_error
            .contains("plain http")
    );
    assert!(hook.requests().is_empty());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let pushing = Pushing::with(strict, roots, names());
    pushing.meta.set("worker", &url);
    let id = pushing.submit("worker", 1);
    until("acknowledgement", || is(&pushing, id, Status::Acknowledged)).await;
}

#[tokio::test]
async fn retry_after_and_gone_are_heard() {
    let busy = Hook::start(|_| Answer::Status(503, "retry-after: 7\r\n".into())).await;
    let gone = Hook::start(|_| status(410)).await;
    let pushing = Pushing::new(settings());
    pushing.meta.set("busy", &busy.url());
    pushing.meta.set("gone", &gone.url());
    for n in 0..2 {
        pushing.submit("busy", n);
    }
    pushing.submit("gone", 1);
    let disabled = || {
        let is_disable = |body: &command::Body| {
            let command::Body::DisableCallback(c) = body else {
                return false;
            };
            c.service_account_id == "sa_gone" && c.callback_url == gone.url()
        };
        pushing.group().committed(is_disable) > 0
    };
    until("the endpoint that is gone to be disabled", disabled).await;
    let asked = || {
        let reports = failures(&pushing).into_iter().filter_map(|f| f.push);
        reports.filter(|r| r.url == busy.url()).collect::<Vec<_>>()
    };
    until("the busy one's answer", || !asked().is_empty()).await;
    let reports = asked();
    assert!(
        reports.iter().all(|r| r.delay_ms == 7_000 && r.status == 503),
        "{reports:?}"
    );
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_alone_at_no_cost() {
    let bad = Hook::start(|_| status(500)).await;
    let pushing = Pushing::new(PushSettings {
        breaker_failures: 3,
        breaker_pause_ms: 600_000,
        endpoint_concurrency: 1,
        ..settings()
    });
    pushing.meta.set("bad", &bad.url());
    let waiting: Vec<_> = (0..30).map(|n| pushing.submit("bad", n)).collect();
    until("three failures", || failures(&pushing).len() >= 3).await;
    let good = Hook::start(|_| status(200)).await;
    pushing.meta.set("good", &good.url());
    let id = pushing.submit("good", 1);
    until("the good one", || is(&pushing, id, Status::Acknowledged)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(bad.requests().len(), 3);
    let attempts: u32 = waiting
        .iter()
        .map(|id| pushing.group().intent(*id).failed_attempts)
        .sum();
    assert_eq!(attempts, 3, "waiting costs no attempts");
}

#[tokio::test]
async fn a_new_leader_goes_on_where_the_log_says() {
    let hook = Hook::start(|_| status(500)).await;
    let mut pushing = Pushing::new(PushSettings {
        retry_schedule_ms: vec![600_000],
        ..settings()
    });
    pushing.meta.set("worker", &hook.url());
    let id = pushing.submit("worker", 1);
    until("the first attempt", || failures(&pushing).len() == 1).await;
    let retry_at_ms = |intent: Intent| intent.push.unwrap().retry_at_ms;
    let planned = retry_at_ms(pushing.group().intent(id));
    for _ in 0..2 {
        pushing.world.depose().await;
        pushing.world.elect();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hook.requests().len(), 1, "it waits for its turn");
    assert_eq!(retry_at_ms(pushing.group().intent(id)), planned);
}

#[tokio::test]
async fn a_change_of_the_mode_loses_nothing() {
    let hook = Hook::start(|_| status(200)).await;
    let pushing = Pushing::new(settings());
    let before: Vec<_> = (0..100).map(|n| pushing.submit("worker", n)).collect();
    pushing.meta.set("worker", &hook.url());
    until("the backlog", || {
        before.iter().all(|id| is(&pushing, *id, Status::Acknowledged))
    })
    .await;
    pushing.meta.remove("worker");
    let agent = agent("worker");
    // Changes are taken in their order: once this one is known, the leader has let go of the other.
    let probe = Hook::start(|_| status(200)).await;
    pushing.meta.set("probe", &probe.url());
    pushing.submit("probe", 1_000);
    until("the change", || !probe.requests().is_empty()).await;
    let left = pushing.submit("worker", 200);
    let mut listener = pushing.world.listen(&agent, 0, "key").await;
    let mut seen = Vec::new();
    while !seen.contains(&left) {
        let item = timeout(Duration::from_secs(10), listener.recv())
            .await
            .unwrap()
            .unwrap();
        seen.push(id_of(&item));
    }
    assert_eq!(hook.requests().len(), 100, "nothing is pushed any more");
    assert!(
        before.iter().all(|id| seen.contains(id)),
        "what is open is theirs"
    );
}

#[tokio::test]
async fn listeners_of_a_push_agent_look_on_without_using_up_attempts() {
    let hook = Hook::start(|_| status(500)).await;
    let pushing = Pushing::new(PushSettings {
        retry_schedule_ms: vec![600_000],
        ..settings()
    });
    pushing.meta.set("worker", &hook.url());
    let mut listener = pushing.world.listen(&agent("worker"), 0, "key").await;
    let id = pushing.submit("worker", 1);
    assert_eq!(id_of(&listener.recv().await.unwrap()), id);
    until("the post", || failures(&pushing).len() == 1).await;
    // Several times the visibility timeout.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(failures(&pushing).len(), 1);
    assert_eq!(pushing.group().intent(id).failed_attempts, 1);
}

#[tokio::test]
async fn what_a_listener_was_written_is_its_own_when_the_posts_end() {
    let hook = Hook::start(|_| Answer::Status(503, "retry-after: 600\r\n".into())).await;
    let pushing = Pushing::new(PushSettings {
        breaker_failures: 1,
        endpoint_concurrency: 1,
        ..settings()
    });
    pushing.meta.set("worker", &hook.url());
    pushing.submit("worker", 1);
    until("the post", || failures(&pushing).len() == 1).await;
    // The endpoint is left alone, so this one is seen by the listener only.
    let mut listener = pushing.world.listen(&agent("worker"), 0, "key").await;
    let id = pushing.submit("worker", 2);
    while id_of(&listener.recv().await.unwrap()) != id {}
    // Several times the visibility timeout.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pushing.group().intent(id).failed_attempts, 0);
    pushing.meta.remove("worker");
    until("the listener's silence to count", || {
        pushing.group().intent(id).failed_attempts > 0
    })
    .await;
}

#[tokio::test]
async fn a_new_endpoint_starts_with_a_clean_record() {
    let slow = Hook::start(|_| Answer::Never).await;
    let good = Hook::start(|_| status(200)).await;
    let pushing = Pushing::new(PushSettings {
        breaker_failures: 1,
        breaker_pause_ms: 600_000,
        endpoint_concurrency: 2,
        ..settings()
    });
    pushing.meta.set("worker", &slow.url());
    pushing.submit("worker", 1);
    until("the post", || slow.requests().len() == 1).await;
    pushing.meta.set("worker", &good.url());
    until("the failure of the old one", || !failures(&pushing).is_empty()).await;
    let id = pushing.submit("worker", 2);
    until("acknowledgement", || is(&pushing, id, Status::Acknowledged)).await;
}

#[tokio::test]
async fn a_post_that_panics_gives_its_place_back() {
    let hook = Hook::start(|_| status(200)).await;
    let pushing = Pushing::new(PushSettings {
        endpoint_concurrency: 1,
        breaker_pause_ms: 50,
        ..settings()
    });
    pushing.panics.store(true, Ordering::SeqCst);
    pushing.meta.set("worker", &hook.url());
    let id = pushing.submit("worker", 1);
    until("acknowledgement", || is(&pushing, id, Status::Acknowledged)).await;
}

#[tokio::test]
async fn a_dead_letter_is_replayed_for_information() {
    let hook = Hook::start(|n| status(if n < 4 { 500 } else { 200 })).await;
    let pushing = Pushing::new(settings());
    pushing.meta.set("worker", &hook.url());
    let id = pushing.submit("worker", 1);
    until("the end", || is(&pushing, id, Status::Failed)).await;
    pushing
        .group()
        .commit(command::Body::ReplayDelivery(ReplayDelivery {
            delivery: Some(DeliveryId::new(id, &agent("worker").key).to_key()),
            ..ReplayDelivery::default()
        }));
    let state = || pushing.delivery(id, "worker", 1).unwrap().state();
    until("the replay", || state() == DeliveryState::Delivered).await;
    let requests = hook.requests();
    assert_eq!(requests.len(), 5);
    for (n, request) in requests[3..].iter().enumerate() {
        assert!(
            request.body.contains(&format!("attempt={} ", n + 1)) && request.body.ends_with("replay=true")
        );
    }
    assert_ne!(requests[4].header("webhook-id"), requests[0].header("webhook-id"));
    assert!(is(&pushing, id, Status::Failed));
}

#[tokio::test]
async fn a_long_mailbox_of_taken_deliveries_is_looked_through_in_turns() {
    let hook = Hook::start(|_| status(200)).await;
    let mut pushing = Pushing::new(settings());
    pushing.meta.set("worker", &hook.url());
    let taken: Vec<_> = (0..600).map(|n| pushing.submit("worker", n)).collect();
    until("the backlog", || {
        taken.iter().all(|id| is(&pushing, *id, Status::Acknowledged))
    })
    .await;
    pushing.world.depose().await;
    let next = pushing.submit("worker", 1_000);
    pushing.world.elect();
    until("the one behind them", || is(&pushing, next, Status::Acknowledged)).await;
    assert_eq!(hook.requests().len(), 601);
}
