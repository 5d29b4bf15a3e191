//! `AcknowledgeAttempt`: the endpoint of an agent took a pushed delivery.

use crate::commands::fail_attempt::{fenced, stale};
use crate::envelope;
use crate::lifecycle::{self, Entry};
use crate::pushes;
use crate::references;
use crate::transaction::{Outcome, Stop, Transaction, done};
use baton_protocol::proto::internal::{
    AcknowledgeAttempt, Delivery, DeliveryState, EventType, Intent, PushReport, Status,
};
use baton_protocol::{DeliveryId, IntentId};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &AcknowledgeAttempt) -> Outcome {
    let report = command.push.as_ref().ok_or_else(stale)?;
    let id = IntentId::from_slice(&command.intent_id).ok_or_else(stale)?;
    let ended = references::header(&*tx.tables, id)?.filter(|intent| intent.status().is_terminal());
    if let Some(intent) = ended {
        return note_late(tx, id, intent, report);
    }
    let mut intent = fenced(tx, &command.intent_id, command.cursor)?;
    let push = intent.push.unwrap_or_default();
    if push.taken_cursor == command.cursor {
        return Ok(done());
    }
    if push.waiting_cursor == command.cursor || !pushes::holds(&intent, report) {
        return Err(stale());
    }
    pushes::note_attempt(tx, &mut intent, report, DeliveryState::Delivered, 0)?;
    intent.push.get_or_insert_default().taken_cursor = command.cursor;
    envelope::begin(tx, &mut intent)?;
    if !intent.reference
        && matches!(
            intent.status(),
            Status::Created | Status::Submitted | Status::Delivered
        )
    {
        let actor = report.agent.as_ref().map_or("", |a| a.address.as_str());
        let entry = Entry::new(EventType::Acknowledged, Status::Acknowledged, actor);
        lifecycle::append(tx, &mut intent, entry)?;
    }
    references::save(tx, &intent)?;
    Ok(done())
}

/// The agent was quicker with its result than with its answer: only the record shows it.
fn note_late(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    mut intent: Intent,
    report: &PushReport,
) -> Result<baton_protocol::proto::internal::Reply, Stop> {
    if !pushes::holds(&intent, report) {
        return Err(stale());
    }
    let key = report.agent.as_ref().map_or("", |a| a.key.as_str());
    let known = pushes::stored(&*tx.tables, DeliveryId::new(id, key))?;
    let open = |row: &Delivery| row.state() == DeliveryState::Pending;
    if known.as_ref().is_none_or(open) {
        pushes::note_attempt(tx, &mut intent, report, DeliveryState::Delivered, 0)?;
        references::save(tx, &intent)?;
    }
    Ok(done())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, agent, intent_id, pushed, refusal, submit};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        AcknowledgeAttempt, DeliveryState, EventType, FailAttempt, ResolveIntent, Status,
    };
    use baton_protocol::{ErrorCode, IntentId};

    fn acknowledge(id: IntentId, cursor: u64) -> Body {
        Body::AcknowledgeAttempt(AcknowledgeAttempt {
            intent_id: id.to_bytes(),
            cursor,
            push: Some(pushed("worker", 200, 0)),
        })
    }

    fn submitted() -> (Replica, IntentId, u64) {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        let cursor = replica.intent(id).unwrap().mailbox_cursor;
        (replica, id, cursor)
    }

    #[test]
    fn it_is_acknowledged_once_and_stays_in_the_mailbox() {
        let (mut replica, id, cursor) = submitted();
        assert_eq!(refusal(&replica.run(acknowledge(id, cursor))), None);
        let event = replica.last.events[0].clone();
        assert_eq!((event.seq, event.r#type()), (4, EventType::Acknowledged));
        assert_eq!(event.actor, agent("worker").address);
        let intent = replica.intent(id).unwrap();
        assert_eq!(
            (intent.status(), intent.mailbox_cursor),
            (Status::Acknowledged, cursor)
        );
        assert_eq!(intent.push.unwrap().taken_cursor, cursor);
        let row = replica.delivery(id, "worker", 0).unwrap();
        assert_eq!(
            (row.state(), row.attempts, row.last_status),
            (DeliveryState::Delivered, 1, 200)
        );
        let before = replica.hash();
        assert_eq!(refusal(&replica.run(acknowledge(id, cursor))), None);
        assert_eq!(replica.hash(), before, "a repeat changes nothing");
    }

    #[test]
    fn an_overtaken_cursor_a_stranger_and_a_failed_attempt_are_refused() {
        let (mut replica, id, cursor) = submitted();
        let mut stranger = AcknowledgeAttempt {
            intent_id: id.to_bytes(),
            cursor,
            push: Some(pushed("other", 200, 0)),
        };
        let mut refused = vec![replica.run(Body::AcknowledgeAttempt(stranger.clone()))];
        stranger.push = None;
        refused.push(replica.run(Body::AcknowledgeAttempt(stranger)));
        refused.push(replica.run(acknowledge(id, cursor - 2)));
        let fail = FailAttempt {
            intent_id: id.to_bytes(),
            cursor,
            push: Some(pushed("worker", 500, 1_000)),
        };
        replica.run(Body::FailAttempt(fail));
        refused.push(replica.run(acknowledge(id, cursor)));
        for reply in refused {
            assert_eq!(refusal(&reply), Some(ErrorCode::StaleAttempt));
        }
    }

    #[test]
    fn an_answer_after_the_end_is_on_record_only() {
        let (mut replica, id, cursor) = submitted();
        replica.run(Body::Resolve(ResolveIntent {
            intent_id: id.to_bytes(),
            status: Status::Completed.into(),
            ..ResolveIntent::default()
        }));
        assert_eq!(refusal(&replica.run(acknowledge(id, cursor))), None);
        assert!(replica.last.events.is_empty());
        assert_eq!(replica.intent(id).unwrap().status(), Status::Completed);
        let row = replica.delivery(id, "worker", 0).unwrap();
        assert_eq!(row.state(), DeliveryState::Delivered);
    }
}
