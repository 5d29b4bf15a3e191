//! Messages to people on the real state machine with a scripted carrier, paused time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use async_trait::async_trait;
use baton_delivery::Notifier;
use baton_delivery::notify::{Carrier, GROUP_SENDS_MAX, Letter, Letters, NotCarried, NotifierSettings};
use baton_protocol::proto::internal::{EventType, HumanTask, NoticeView, command};
use baton_protocol::{IntentId, ServiceError};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Group, World, agent};
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_secs(10);

/// What happens to the attempts, in order; what is not said is carried.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Carried,
    Failed,
    Refused,
    Panics,
    /// Nobody ever answers.
    Hangs,
}

#[derive(Default)]
struct Post {
    fates: Mutex<Vec<Fate>>,
    seen: Mutex<Vec<(String, String)>>,
}

impl Post {
    /// Ids and recipients of everything that was tried.
    fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[async_trait]
impl Carrier for Post {
    async fn carry(&self, letter: &Letter, _now_ms: u64) -> Result<(), NotCarried> {
        self.seen
            .lock()
            .unwrap()
            .push((letter.id.clone(), letter.to.clone()));
        let fate = {
            let mut fates = self.fates.lock().unwrap();
            if fates.is_empty() {
                Fate::Carried
            } else {
                fates.remove(0)
            }
        };
        let failed = |for_good| {
            Err(NotCarried {
                reason: "no answer".into(),
                for_good,
            })
        };
        match fate {
            Fate::Carried => Ok(()),
            Fate::Failed => failed(false),
            Fate::Refused => failed(true),
            Fate::Panics => panic!("a carrier that breaks"),
            Fate::Hangs => std::future::pending().await,
        }
    }
}

struct Plain;

impl Letters for Plain {
    fn write(&self, view: &NoticeView) -> Result<Letter, ServiceError> {
        let notice = view.notice.clone().unwrap();
        Ok(Letter {
            id: format!(
                "{}-{}",
                IntentId::from_slice(&notice.intent_id).unwrap(),
                notice.number
            ),
            to: notice.to,
            subject: String::new(),
            text: String::new(),
            html: String::new(),
            link: None,
            json: Bytes::new(),
            written_at_ms: notice.created_at_ms,
        })
    }
}

fn world(fates: &[Fate]) -> (World, Arc<Post>) {
    let post = Arc::new(Post {
        fates: Mutex::new(fates.to_vec()),
        seen: Mutex::default(),
    });
    let mut world = World::leaderless(Group::new());
    let settings = NotifierSettings {
        concurrency: 16,
        retry_schedule_ms: vec![PAUSE.as_millis() as u64],
    };
    world.notifier = Some(Notifier::new(post.clone(), Arc::new(Plain), settings));
    (world, post)
}

fn ask(world: &World, number: u64, to: &str) -> IntentId {
    world.group.submit_with(&agent("core"), number, |submit| {
        submit.human_task = Some(HumanTask {
            title: "Well?".into(),
            notify_email: to.into(),
            ..HumanTask::default()
        });
    })
}

fn reports(world: &World) -> usize {
    world
        .group
        .committed(|body| matches!(body, command::Body::ReportNotice(_)))
}

async fn settle() {
    sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sent_once_by_whoever_leads() {
    let (mut world, post) = world(&[]);
    let id = ask(&world, 1, "boss@example.com");
    world.elect();
    settle().await;
    let first = (format!("{id}-1"), "boss@example.com".to_owned());
    assert_eq!(post.seen(), std::slice::from_ref(&first));
    let second = ask(&world, 2, "desk@example.com");
    settle().await;
    assert_eq!(
        post.seen(),
        [first, (format!("{second}-1"), "desk@example.com".to_owned())]
    );
    world.depose().await;
    world.elect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((post.count(), reports(&world)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn failures_wait_for_their_time_also_under_a_new_leader() {
    let (mut world, post) = world(&[Fate::Failed, Fate::Panics, Fate::Failed]);
    world.elect();
    ask(&world, 1, "boss@example.com");
    settle().await;
    assert_eq!(post.count(), 1);
    sleep(PAUSE / 2).await;
    world.depose().await;
    world.elect();
    settle().await;
    assert_eq!(post.count(), 1, "not before its time");
    for attempts in 2..=4 {
        sleep(PAUSE + PAUSE / 5).await;
        assert_eq!(post.count(), attempts);
    }
    sleep(PAUSE * 10).await;
    assert_eq!((post.count(), reports(&world)), (4, 4));
    let ids: Vec<String> = post.seen().into_iter().map(|(id, _)| id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_will_ever_take_is_said_on_the_intent() {
    let (mut world, post) = world(&[Fate::Refused]);
    world.elect();
    let id = ask(&world, 1, "boss@example.com");
    sleep(PAUSE * 3).await;
    assert_eq!(post.count(), 1);
    let last = world.group.events(id).pop().unwrap();
    assert_eq!(last.r#type(), EventType::NotificationFailed);
    assert_eq!(last.details.unwrap().reason, "no answer");
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_hangs_holds_a_bounded_number_and_a_new_leader_goes_on() {
    let (mut world, post) = world(&[Fate::Hangs; GROUP_SENDS_MAX]);
    world.elect();
    for number in 0..20 {
        ask(&world, number, "boss@example.com");
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(post.count(), GROUP_SENDS_MAX);
    world.depose().await;
    world.elect();
    settle().await;
    assert_eq!(post.count(), GROUP_SENDS_MAX + 20);
    assert_eq!(reports(&world), 20);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_told_is_told_later_and_nothing_is_sent_twice() {
    let (mut world, post) = world(&[]);
    world.elect();
    world.leader.as_ref().unwrap().0.refuse_proposals(true);
    ask(&world, 1, "boss@example.com");
    sleep(Duration::from_secs(30)).await;
    assert_eq!((post.count(), reports(&world)), (1, 0));
    world.leader.as_ref().unwrap().0.refuse_proposals(false);
    sleep(Duration::from_secs(5)).await;
    assert_eq!((post.count(), reports(&world)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_expired_is_not_sent_and_what_is_over_is_not_told() {
    let (mut world, post) = world(&[]);
    let late = ask(&world, 1, "boss@example.com");
    let over = ask(&world, 2, "boss@example.com");
    world.group.complete(over);
    sleep(Duration::from_millis(baton_protocol::limits::TASK_LINK_MS)).await;
    world.elect();
    settle().await;
    assert_eq!(post.count(), 0);
    let last = world.group.events(late).pop().unwrap();
    assert!(last.details.unwrap().reason.contains("expired"));
}
