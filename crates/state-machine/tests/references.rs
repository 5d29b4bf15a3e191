//! One handover across groups, step by step.

#![expect(clippy::unwrap_used, reason = "tests fail on what they do not expect")]

use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::resume_intent::Kind;
use baton_protocol::proto::internal::{
    AgentRef, DeliveryState, EventType, FailAttempt, Intent, KeyKind, ListMailbox, ListThreads, Pulse,
    ReplayDelivery, ResolveIntent, ResumeIntent, Status, Thread, query, query_reply, reply,
};
use baton_protocol::{DeliveryId, ErrorCode, IntentId};
use baton_state_machine::testing::{
    Replica, START_MS, actor, agent, intent_id, pushed, refusal, settle, submit, transition,
};
use baton_state_machine::{Effect, Settings, next_due_ms};

/// An intent to `near`, which lives in group 1; `far` and `further` live in group 2.
struct World {
    groups: Vec<Replica>,
    near: String,
    far: String,
    further: String,
    id: IntentId,
}

impl World {
    fn new() -> Self {
        let mut groups: Vec<_> = (0..=2).map(|g| Replica::new(g, 2)).collect();
        let map = groups[0].ctx.map;
        let of = |group: u32| {
            let names = (0..99).map(|n| format!("t{n}"));
            names.filter(move |name| map.group_of(slot_of(&agent(name))).0 == group)
        };
        let near = of(1).next().unwrap();
        let mut others = of(2);
        let (far, further) = (others.next().unwrap(), others.next().unwrap());
        let id = intent_id(&agent(&near), 1);
        groups[1].run(Body::Submit(submit(&near, 1)));
        Self {
            groups,
            near,
            far,
            further,
            id,
        }
    }

    fn steer(&mut self, next: Option<&str>) {
        let command = ResumeIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: self.id.to_bytes(),
            kind: Kind::Control.into(),
            approve: true,
            next_handler: next.map(agent),
            ..ResumeIntent::default()
        };
        let reply = self.groups[1].run(Body::Resume(command));
        assert!(transition(reply).unwrap().applied);
    }

    fn hand_to_far(&mut self) {
        let far = self.far.clone();
        self.steer(Some(&far));
        settle(&mut self.groups);
    }

    fn header(&self) -> Intent {
        self.groups[1].intent(self.id).unwrap()
    }

    fn offered(&self, name: &str) -> Option<Intent> {
        let to: AgentRef = agent(name);
        let group = self.groups[0].ctx.map.group_of(slot_of(&to)).0 as usize;
        let q = ListMailbox {
            agent: Some(to),
            ..ListMailbox::default()
        };
        let query_reply::Outcome::Mailbox(page) = self.groups[group].ask(query::Body::ListMailbox(q)) else {
            panic!("no mailbox")
        };
        assert!(page.items.len() <= 1);
        page.items.into_iter().next().and_then(|item| item.intent)
    }

    fn threads(&self, name: &str) -> Vec<Thread> {
        let owner = agent(name);
        let group = self.groups[0].ctx.map.group_of(slot_of(&owner)).0 as usize;
        let q = ListThreads {
            owner: Some(owner),
            ..ListThreads::default()
        };
        let query_reply::Outcome::Threads(page) = self.groups[group].ask(query::Body::ListThreads(q)) else {
            panic!("no threads")
        };
        page.threads
    }

    fn fail_push(&mut self, status: u32) -> Option<ErrorCode> {
        let far = self.far.clone();
        let cursor = self.offered(&far).map_or(0, |intent| intent.mailbox_cursor);
        let command = FailAttempt {
            intent_id: self.id.to_bytes(),
            cursor,
            push: Some(pushed(&far, status, 1_000)),
        };
        let reply = self.groups[2].run(Body::FailAttempt(command));
        self.groups[2].now_ms += 1_000;
        self.groups[2].run(Body::Pulse(Pulse {}));
        refusal(&reply)
    }

    fn kinds(&self) -> Vec<EventType> {
        let events = self.groups[1].events(self.id);
        events.iter().skip(3).map(|e| e.r#type()).collect()
    }
}

#[test]
fn a_new_handler_has_all_attempts_and_the_home_counts_them() {
    let mut world = World::new();
    for _ in 0..2 {
        let command = FailAttempt {
            intent_id: world.id.to_bytes(),
            cursor: world.header().mailbox_cursor,
            push: None,
        };
        world.groups[1].run(Body::FailAttempt(command));
    }
    assert_eq!(world.header().failed_attempts, 2);
    world.hand_to_far();
    assert_eq!(world.header().failed_attempts, 0);
    for attempt in 1..=2 {
        assert_eq!(world.fail_push(500), None);
        settle(&mut world.groups);
        assert_eq!(world.header().failed_attempts, attempt);
        assert_eq!(world.header().status(), Status::Waiting);
    }
    world.fail_push(500);
    settle(&mut world.groups);
    use EventType::{DeliveryFailed, Failed, Transfer};
    assert_eq!(world.kinds(), [Transfer, DeliveryFailed, Failed]);
    assert_eq!(world.threads(&world.far.clone())[0].status, "done");
}

#[test]
fn attempts_that_ran_out_at_a_handler_of_before_end_nothing() {
    let mut world = World::new();
    world.hand_to_far();
    for _ in 0..3 {
        world.fail_push(500);
    }
    // The report that all are used up has not arrived when the intent goes on.
    let further = world.further.clone();
    world.steer(Some(&further));
    settle(&mut world.groups);
    assert_eq!(
        (world.header().status(), world.header().failed_attempts),
        (Status::Waiting, 0)
    );
    let offered = world.offered(&further).unwrap();
    assert_eq!((offered.handler_generation, offered.failed_attempts), (2, 0));
    assert_eq!(world.offered(&world.far), None);
}

#[test]
fn a_control_resume_counts_as_picked_up_where_it_is_delivered() {
    let mut world = World::new();
    world.hand_to_far();
    assert_eq!(world.offered(&world.far).unwrap().status(), Status::Waiting);
    world.steer(None);
    settle(&mut world.groups);
    let intent_id = world.id;
    assert!(
        world.groups[2]
            .last
            .effects
            .contains(&Effect::PickedUp { intent_id })
    );
    assert_eq!(world.offered(&world.far).unwrap().status(), Status::InProgress);
}

#[test]
fn a_record_of_pushes_outlives_the_move_and_is_replayed_where_it_is() {
    let mut world = World::new();
    world.hand_to_far();
    world.fail_push(503);
    let near = world.near.clone();
    world.steer(Some(&near));
    settle(&mut world.groups);
    assert!(world.offered(&near).is_some() && world.offered(&world.far).is_none());
    let far = world.far.clone();
    assert!(world.threads(&far).is_empty(), "who lost it does not see it");
    let record = world.groups[2].delivery(world.id, &far, 0).unwrap();
    assert_eq!((record.state(), record.attempts), (DeliveryState::Failed, 1));
    let replay = ReplayDelivery {
        actor: Some(actor(KeyKind::Workspace, "sender")),
        delivery: Some(DeliveryId::new(world.id, &agent(&far).key).to_key()),
        idempotency: None,
    };
    let reply = world.groups[2].run(Body::ReplayDelivery(replay));
    assert!(
        matches!(reply.outcome, Some(reply::Outcome::Delivery(_))),
        "{reply:?}"
    );
    let due_ms = next_due_ms(&world.groups[2].tables).unwrap().unwrap();
    world.groups[2].now_ms = due_ms;
    world.groups[2].run(Body::Pulse(Pulse {}));
    assert_eq!(world.groups[2].delivery(world.id, &far, 0), None);
    let left_ms = next_due_ms(&world.groups[2].tables).unwrap().unwrap();
    let audit_ms = Settings::default().audit_retention_ms;
    assert_eq!(
        left_ms,
        START_MS + 1_000 + audit_ms,
        "only the replay is still on record"
    );
    assert_eq!(world.header().status(), Status::Waiting, "the intent goes on");
}

#[test]
fn what_was_handed_back_before_its_retention_stays() {
    let mut world = World::new();
    world.hand_to_far();
    world.fail_push(503);
    let near = world.near.clone();
    world.steer(Some(&near));
    settle(&mut world.groups);
    world.hand_to_far();
    let due_ms = next_due_ms(&world.groups[2].tables).unwrap().unwrap();
    world.groups[2].now_ms = due_ms;
    world.groups[2].run(Body::Pulse(Pulse {}));
    assert_eq!(world.offered(&world.far).unwrap().handler_generation, 3);
    assert_eq!(world.threads(&world.far)[0].status, "pending");
}

#[test]
fn an_end_shows_in_the_inboxes_of_both_and_goes_with_its_retention() {
    let mut world = World::new();
    world.hand_to_far();
    let resolve = ResolveIntent {
        intent_id: world.id.to_bytes(),
        status: Status::Canceled.into(),
        ..ResolveIntent::default()
    };
    world.groups[1].run(Body::Resolve(resolve));
    settle(&mut world.groups);
    for name in [&world.near, &world.far] {
        assert_eq!(world.offered(name), None);
        assert_eq!(world.threads(name)[0].status, "done");
    }
    for group in 1..=2 {
        let due_ms = next_due_ms(&world.groups[group].tables).unwrap().unwrap();
        world.groups[group].now_ms = due_ms;
        world.groups[group].run(Body::Pulse(Pulse {}));
    }
    assert!(world.threads(&world.near).is_empty() && world.threads(&world.far).is_empty());
}
