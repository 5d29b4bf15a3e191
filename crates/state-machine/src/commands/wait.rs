//! An intent waits for something outside (`WAITING_FOR_TOOL`), and goes on.

use crate::handover;
use crate::lifecycle::{self, Entry};
use crate::mailbox;
use crate::transaction::{Appended, Outcome, Stop, Transaction, reject};
use crate::visibility;
use baton_protocol::ErrorCode;
use baton_protocol::limits::WAITS_FOR_CHARS_MAX;
use baton_protocol::proto::internal::{
    EventDetails, EventType, Intent, PendingWith, ResumeIntent, Status, WaitingReason, pending_with,
};

/// What is waited for when nobody says.
const SOMETHING: &str = "tool";

/// The handler has done what it can: nobody is handed the intent until somebody says that it goes on.
pub(crate) fn apply(tx: &mut Transaction<'_, '_>, mut intent: Intent, command: &ResumeIntent) -> Outcome {
    if intent.scenario_parent {
        return Err(reject(
            ErrorCode::Conflict,
            "a scenario waits for its steps; let the intent of the step wait",
        ));
    }
    let name: String = command.waits_for.chars().take(WAITS_FOR_CHARS_MAX).collect();
    let name = if name.is_empty() {
        SOMETHING.to_owned()
    } else {
        name
    };
    let pending = PendingWith {
        kind: pending_with::Kind::Internal.into(),
        r#ref: name.clone(),
        name,
    };
    if mailbox::waits_outside(&intent) && intent.pending_with.as_ref() == Some(&pending) {
        return Ok(lifecycle::transitioned(intent, None, true, None));
    }
    handover::suspend(tx, &intent)?;
    mailbox::remove(tx, &mut intent)?;
    intent.pending_with = Some(pending);
    let actor = visibility::label(command.actor.as_ref());
    let entry = Entry::new(EventType::Waiting, Status::Waiting, actor)
        .waiting(WaitingReason::Tool)
        .details(EventDetails {
            reason: command.reason.clone(),
            ..EventDetails::default()
        });
    let event = lifecycle::append(tx, &mut intent, entry)?;
    lifecycle::save(tx, &intent)?;
    Ok(lifecycle::transitioned(
        intent,
        tx.event(event).cloned(),
        true,
        None,
    ))
}

/// Starts the work, or goes on with it: one that waited for something outside is handed out again. The caller saves the
/// header.
pub(crate) fn go_on(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    actor: &str,
    reason: &str,
) -> Result<Option<Appended>, Stop> {
    let waited = mailbox::waits_outside(intent);
    let event = lifecycle::start_work(tx, intent, actor, reason)?;
    if waited {
        handover::deliver_again(tx, intent)?;
    } else {
        handover::started(tx, intent)?;
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id, json, submit, transition};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::resume_intent::Kind;
    use baton_protocol::proto::internal::{EventType, KeyKind, ResumeIntent, Status, WaitingReason};

    fn resume(kind: Kind, who: KeyKind, name: &str) -> Body {
        Body::Resume(ResumeIntent {
            actor: Some(actor(who, name)),
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            kind: kind.into(),
            result: Some(json("{\"paid\":true}")),
            approve: true,
            waits_for: "payment-provider".into(),
            ..ResumeIntent::default()
        })
    }

    #[test]
    fn nobody_is_handed_what_waits_and_it_goes_on_with_a_fresh_delivery() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        let before = replica.intent(id).unwrap().mailbox_cursor;
        let answer = transition(replica.run(resume(Kind::Wait, KeyKind::Agent, "worker"))).unwrap();
        let event = answer.event.unwrap();
        assert_eq!(
            (event.r#type(), event.waiting_reason()),
            (EventType::Waiting, WaitingReason::Tool)
        );
        assert_eq!(event.pending_with.unwrap().name, "payment-provider");
        let waiting = replica.intent(id).unwrap();
        assert_eq!((waiting.mailbox_cursor, waiting.failed_attempts), (0, 0));
        let hash = replica.hash();
        let again = transition(replica.run(resume(Kind::Wait, KeyKind::Agent, "worker"))).unwrap();
        assert!(again.applied && again.event.is_none());
        assert_eq!(replica.hash(), hash);

        let on = transition(replica.run(resume(Kind::Control, KeyKind::Workspace, "sender"))).unwrap();
        assert_eq!(on.event.unwrap().r#type(), EventType::InProgress);
        let going = replica.intent(id).unwrap();
        assert_eq!(
            (going.status(), going.pending_with.clone()),
            (Status::InProgress, None)
        );
        assert!(going.mailbox_cursor >= before + 2, "the handler gets it again");
        // A second signal finds it at work: nothing is handed out twice.
        transition(replica.run(resume(Kind::Control, KeyKind::Workspace, "sender"))).unwrap();
        assert_eq!(replica.intent(id).unwrap().mailbox_cursor, going.mailbox_cursor);
    }

    #[test]
    fn a_result_ends_what_waits() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        replica.run(resume(Kind::Wait, KeyKind::Agent, "worker"));
        replica.run(resume(Kind::Result, KeyKind::Workspace, "sender"));
        let kinds: Vec<_> = replica.events(id).iter().skip(3).map(|e| e.r#type()).collect();
        assert_eq!(
            kinds,
            [EventType::Waiting, EventType::InProgress, EventType::Completed]
        );
    }
}
