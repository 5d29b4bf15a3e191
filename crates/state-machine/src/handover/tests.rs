//! Handovers that the other side cannot take.

use super::*;
use crate::mailbox::BACKLOG_DELIVERIES_MAX;
use crate::testing::{Replica, actor, agent, intent_id, refusal, settle, submit};
use crate::write_batch::WriteBatch;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::resume_intent;
use baton_protocol::proto::internal::{
    AgentState, FailAttempt, KeyKind, Pulse, Reminders, Reply, ResumeIntent, SubmitIntent,
};

/// Intents to `worker`, which live in `at`; `chief` is in the same group, `far` in another.
struct World {
    groups: Vec<Replica>,
    at: usize,
    far_at: usize,
    far: String,
    chief: String,
    id: IntentId,
}

impl World {
    fn new() -> Self {
        let groups: Vec<_> = (0..=2).map(|g| Replica::new(g, 2)).collect();
        let map = groups[0].ctx.map;
        let home = |name: &str| map.group_of(slot_of(&agent(name))).0 as usize;
        let at = home("worker");
        let named = |near: bool| {
            let mut names = (0..99).map(|n| format!("t{n}"));
            names.find(|name| (home(name) == at) == near).unwrap()
        };
        let (far, chief) = (named(false), named(true));
        Self {
            far_at: home(&far),
            far,
            chief,
            at,
            groups,
            id: intent_id(&agent("worker"), 1),
        }
    }

    /// Reminds once after a second and calls somebody in.
    fn submit_watched(&mut self, chief: &str) {
        let reminders = Reminders {
            remind_after_seconds: 1,
            max_reminders: 1,
            escalate_to: chief.to_owned(),
            ..Reminders::default()
        };
        self.groups[self.at].run(Body::Submit(SubmitIntent {
            reminders: Some(reminders),
            escalate_agent: Some(agent(chief)),
            ..submit("worker", 1)
        }));
    }

    fn fill(&mut self, group: usize, name: &str) {
        let full = AgentState {
            last_cursor: 7,
            open_deliveries: BACKLOG_DELIVERIES_MAX,
        };
        let changes = {
            let mut batch = WriteBatch::new(&self.groups[group].tables);
            rows::write(&mut batch, keys::agent(&agent(name)), &full);
            batch.finish().unwrap()
        };
        self.groups[group].tables.commit(changes);
    }

    fn steer(&mut self, next: Option<&str>) -> Reply {
        self.groups[self.at].run(Body::Resume(ResumeIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: self.id.to_bytes(),
            kind: resume_intent::Kind::Control.into(),
            approve: true,
            next_handler: next.map(agent),
            ..ResumeIntent::default()
        }))
    }

    fn remind(&mut self) {
        let at = self.at;
        self.groups[at].now_ms += 1_000;
        self.groups[at].run(Body::Pulse(Pulse {}));
        settle(&mut self.groups);
    }

    fn header(&self) -> Intent {
        self.groups[self.at].intent(self.id).unwrap()
    }

    fn kinds(&self) -> Vec<EventType> {
        let events = self.groups[self.at].events(self.id);
        events.iter().skip(3).map(|e| e.r#type()).collect()
    }
}

#[test]
fn an_escalation_to_a_full_mailbox_nearby_is_said_and_leaves_the_holder() {
    let mut world = World::new();
    let (at, chief) = (world.at, world.chief.clone());
    world.submit_watched(&chief);
    let cursor = world.header().mailbox_cursor;
    world.fill(at, &chief);
    world.remind();
    assert_eq!(world.kinds(), [EventType::Reminder, EventType::Escalated]);
    let header = world.header();
    assert_eq!(header.holder(), Some(&agent("worker")));
    assert_eq!((header.mailbox_cursor, header.handler_generation), (cursor, 0));
    assert_eq!(header.reminded.unwrap().escalated_to, chief);
}

#[test]
fn an_escalation_to_a_full_mailbox_elsewhere_comes_back() {
    let mut world = World::new();
    let (far_at, far) = (world.far_at, world.far.clone());
    world.submit_watched(&far);
    world.fill(far_at, &far);
    world.remind();
    use EventType::{Escalated, Reminder, Transfer};
    assert_eq!(world.kinds(), [Reminder, Escalated, Transfer, Transfer]);
    let header = world.header();
    assert_eq!(header.holder(), Some(&agent("worker")));
    assert!(header.mailbox_cursor != 0 && !header.status().is_terminal());
    assert_eq!(header.taken_from, None);
}

#[test]
fn whoever_has_begun_keeps_it_when_somebody_is_called_in() {
    let mut world = World::new();
    let chief = world.chief.clone();
    world.submit_watched(&chief);
    world.steer(None);
    world.remind();
    let header = world.header();
    assert_eq!(header.status(), Status::InProgress);
    assert_eq!(header.holder(), Some(&agent("worker")));
    assert_eq!(world.kinds().last(), Some(&EventType::Escalated));
    // Who was called in may answer.
    let at = world.at;
    let reply = world.groups[at].run(Body::Resume(ResumeIntent {
        actor: Some(actor(KeyKind::Agent, &chief)),
        intent_id: world.id.to_bytes(),
        kind: resume_intent::Kind::Result.into(),
        ..ResumeIntent::default()
    }));
    assert_eq!(refusal(&reply), None);
}

#[test]
fn attempts_that_ran_out_before_it_was_known_that_it_goes_on_start_anew() {
    let mut world = World::new();
    let (at, far_at, far) = (world.at, world.far_at, world.far.clone());
    world.groups[at].run(Body::Submit(SubmitIntent {
        max_delivery_attempts: 1,
        ..submit("worker", 1)
    }));
    world.steer(Some(&far));
    settle(&mut world.groups);
    // Both at once: it goes on, and the host gives up.
    world.steer(None);
    let given_up = |world: &mut World| {
        let host = &mut world.groups[far_at];
        let cursor = references::header(&host.tables, world.id)
            .unwrap()
            .unwrap()
            .mailbox_cursor;
        let reply = host.run(Body::FailAttempt(FailAttempt {
            intent_id: world.id.to_bytes(),
            cursor,
            push: None,
        }));
        assert_eq!(refusal(&reply), None);
        settle(&mut world.groups);
    };
    given_up(&mut world);
    let header = world.header();
    assert_eq!(
        (header.status(), header.handler_generation),
        (Status::InProgress, 2)
    );
    let open = references::header(&world.groups[far_at].tables, world.id)
        .unwrap()
        .unwrap();
    assert!(open.mailbox_cursor != 0 && open.handler_generation == 2);
    // Knowing that, it fails as anywhere.
    given_up(&mut world);
    assert_eq!(world.header().status(), Status::Failed);
}

#[test]
fn a_group_that_takes_no_messages_is_handed_no_more() {
    let mut world = World::new();
    let (at, far) = (world.at, world.far.clone());
    world.groups[at].run(Body::Submit(submit("worker", 1)));
    let mut refused = None;
    for _ in 0..HANDOVERS_WAITING_MAX {
        refused = refusal(&world.steer(Some(&far)));
        if refused.is_some() {
            break;
        }
        // Back is always possible.
        assert_eq!(refusal(&world.steer(Some("worker"))), None);
    }
    assert_eq!(refused, Some(ErrorCode::BacklogFull));
    assert_eq!(world.header().holder(), Some(&agent("worker")));
    settle(&mut world.groups);
    assert_eq!(refusal(&world.steer(Some(&far))), None);
}
