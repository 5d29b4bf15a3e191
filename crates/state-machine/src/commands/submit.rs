//! `SubmitIntent`: one commit from nothing to delivered.

use crate::idempotency;
use crate::intents;
use crate::lifecycle;
use crate::mailbox::require_agent;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject, reply};
use baton_protocol::address::{is_agent_core, slot_of};
use baton_protocol::proto::internal::{Intent, Reply, Status, SubmitIntent, Submitted, reply as outcome};
use baton_protocol::{ErrorCode, IntentId, Slot, limits};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, mut command: SubmitIntent) -> Outcome {
    let id = intent_id(tx, &command)?;
    let to_agent = require_agent(command.to_agent.as_ref(), "to_agent")?;
    if !is_agent_core(to_agent) && slot_of(to_agent) != id.slot() {
        return Err(invalid(
            "intent id carries another slot than its to_agent; mint it for that slot",
        ));
    }
    let slot = claim_slot(&command, id);
    let claim = command.idempotency.take();
    idempotency::once(tx, slot, claim.as_ref(), &id.to_bytes(), |tx| {
        if let Some(existing) = intents::intent(&*tx.tables, id)? {
            return submitted_before(&existing, command);
        }
        require_fresh_reservation(tx, &command)?;
        let payload = command.payload.take();
        let intent = match command.human_task.take() {
            Some(task) => lifecycle::create_asking(tx, new_intent(command), payload.as_ref(), task)?,
            None => lifecycle::create(tx, new_intent(command), payload.as_ref())?,
        };
        Ok(submitted(&intent))
    })
}

/// The slot of the claim's record, also when there is none.
pub(crate) fn claim_slot(command: &SubmitIntent, id: IntentId) -> Slot {
    match &command.idempotency {
        Some(claim) if !claim.in_intent_slot => Slot::of_hash(&claim.key_hash),
        Some(_) | None => id.slot(),
    }
}

/// The id of the intent to be, checked to belong here.
pub(crate) fn intent_id(tx: &Transaction<'_, '_>, command: &SubmitIntent) -> Result<IntentId, Stop> {
    let id =
        IntentId::from_slice(&command.intent_id).ok_or_else(|| invalid("intent id must have 16 bytes"))?;
    tx.require_slot(id.slot())?;
    Ok(id)
}

/// A create whose reservation is old is refused: the record may be gone before the intent is.
pub(crate) fn require_fresh_reservation(
    tx: &Transaction<'_, '_>,
    command: &SubmitIntent,
) -> Result<(), Stop> {
    let oldest = tx
        .now_ms
        .saturating_sub(tx.ctx.settings.idempotency_retention_ms / 2);
    if command.reserved_at_ms != 0 && command.reserved_at_ms < oldest {
        return Err(reject(
            ErrorCode::CommandExpired,
            "the reservation of this idempotency key is too old; use a new key",
        ));
    }
    Ok(())
}

/// The header as the caller describes it; `lifecycle::create` fills in the rest.
pub(crate) fn new_intent(command: SubmitIntent) -> Intent {
    let (org_id, workspace_id, submitted_by) = match (command.actor, &command.to_agent) {
        (Some(actor), _) => (actor.org_id, actor.workspace_id, actor.address),
        (None, Some(agent)) => (agent.org_id.clone(), agent.workspace_id.clone(), String::new()),
        (None, None) => Default::default(),
    };
    Intent {
        intent_id: command.intent_id,
        org_id,
        workspace_id,
        intent_type: command.intent_type,
        correlation_id: command.correlation_id,
        from_agent: if command.from_agent.is_empty() {
            submitted_by.clone()
        } else {
            command.from_agent
        },
        to_agent: command.to_agent,
        reply_to: command
            .reply_to
            .filter(|a| require_agent(Some(a), "reply_to").is_ok()),
        deadline_at_ms: command.deadline_at_ms,
        max_delivery_attempts: match command.max_delivery_attempts {
            0 => limits::DELIVERY_ATTEMPTS_DEFAULT,
            given => given.min(limits::DELIVERY_ATTEMPTS_MAX),
        },
        reminders: command.reminders,
        escalate_agent: command.escalate_agent,
        trace_parent: command.trace_parent,
        submitted_by,
        ..Intent::default()
    }
}

fn submitted(intent: &Intent) -> Reply {
    reply(outcome::Outcome::Submitted(Submitted {
        intent_id: intent.intent_id.clone(),
        // As it was born: a later identical call reads the first answer, whatever happened since.
        status: if intent.gate_generation == 0 {
            Status::Delivered.into()
        } else {
            Status::Waiting.into()
        },
        created_at_ms: intent.created_at_ms,
    }))
}

/// The id exists: the same create again (its reservation led here twice) or somebody else's id.
fn submitted_before(existing: &Intent, command: SubmitIntent) -> Outcome {
    let new = new_intent(command);
    let same = existing.workspace_id == new.workspace_id
        && existing.submitted_by == new.submitted_by
        && existing.intent_type == new.intent_type
        && existing.to_agent == new.to_agent
        && !existing.scenario_parent
        && existing.step.is_none();
    if same {
        Ok(idempotency::replayed(&submitted(existing)))
    } else {
        Err(reject(
            ErrorCode::Conflict,
            "intent id exists already; mint a new one",
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::Effect;
    use crate::testing::{Replica, START_MS, agent, intent_id, refusal, submit};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        GetIntent, IdempotencyClaim, ListMailbox, Status, query, query_reply, reply,
    };
    use bytes::Bytes;

    fn claim(key: &'static [u8], request: &'static [u8]) -> Option<IdempotencyClaim> {
        Some(IdempotencyClaim {
            key_hash: Bytes::from_static(key),
            request_hash: Bytes::from_static(request),
            in_intent_slot: false,
        })
    }

    #[test]
    fn one_commit_delivers() {
        let mut replica = Replica::new(1, 1);
        let reply = replica.run(Body::Submit(submit("worker", 1)));
        let Some(reply::Outcome::Submitted(answer)) = reply.outcome else {
            panic!("refused")
        };
        assert_eq!(answer.status(), Status::Delivered);
        let id = intent_id(&agent("worker"), 1);
        let events = replica.events(intent_id(&agent("worker"), 1));
        let statuses: Vec<_> = events.iter().map(|e| (e.seq, e.status())).collect();
        assert_eq!(
            statuses,
            [
                (1, Status::Created),
                (2, Status::Submitted),
                (3, Status::Delivered)
            ]
        );
        assert_eq!(
            replica.last.effects,
            [Effect::Deliver {
                agent_key: agent("worker").key,
                cursor: START_MS * 1_000,
                intent_id: id
            }]
        );
        let q = GetIntent {
            intent_id: id.to_bytes(),
            with_payload: true,
        };
        let query_reply::Outcome::Intent(view) = replica.ask(query::Body::GetIntent(q)) else {
            panic!("not found")
        };
        assert_eq!(&view.payload.unwrap().data[..], b"{\"amount\":1}");
    }

    #[test]
    fn cursors_of_one_log_time_keep_their_stride() {
        let mut replica = Replica::new(1, 1);
        for n in 0..3 {
            replica.run(Body::Submit(submit("worker", n)));
        }
        let q = ListMailbox {
            agent: Some(agent("worker")),
            ..ListMailbox::default()
        };
        let query_reply::Outcome::Mailbox(page) = replica.ask(query::Body::ListMailbox(q)) else {
            panic!("refused")
        };
        let cursors: Vec<_> = page.items.iter().map(|i| i.cursor - START_MS * 1_000).collect();
        assert_eq!(cursors, [0, 2, 4]);
    }

    #[test]
    fn same_key_answers_once_and_other_body_conflicts() {
        let mut replica = Replica::new(1, 1);
        let mut first = submit("worker", 1);
        first.idempotency = claim(b"key", b"body");
        let answer = replica.run(Body::Submit(first));
        let mut again = submit("worker", 2);
        again.idempotency = claim(b"key", b"body");
        let replay = replica.run(Body::Submit(again));
        assert!(replay.replayed);
        assert_eq!(replay.outcome, answer.outcome);
        let mut other = submit("other", 3);
        other.idempotency = claim(b"key", b"other body");
        let before = replica.hash();
        let conflict = replica.run(Body::Submit(other));
        assert_eq!(refusal(&conflict), Some(ErrorCode::IdempotencyConflict));
        assert_eq!(replica.hash(), before, "a refusal leaves nothing behind");
    }

    #[test]
    fn a_key_per_recipient_lives_beside_the_intent() {
        let mut replica = Replica::new(1, 1);
        // A hash of another slot: the record must not go there.
        let beside = |request| {
            claim(b"\xff\xf0 key", request).map(|c| IdempotencyClaim {
                in_intent_slot: true,
                ..c
            })
        };
        let mut first = submit("worker", 1);
        first.idempotency = beside(b"body");
        let answer = replica.run(Body::Submit(first));
        let id = intent_id(&agent("worker"), 1);
        let here = crate::keys::idempotency(id.slot(), b"\xff\xf0 key");
        assert!(replica.tables.rows().any(|(key, _)| key == here));
        let mut again = submit("worker", 2);
        again.idempotency = beside(b"body");
        let replay = replica.run(Body::Submit(again));
        assert!(replay.replayed);
        assert_eq!(replay.outcome, answer.outcome);
        let mut other = submit("worker", 3);
        other.idempotency = beside(b"other body");
        let refused = replica.run(Body::Submit(other));
        assert_eq!(refusal(&refused), Some(ErrorCode::IdempotencyConflict));
    }

    #[test]
    fn an_id_is_used_once() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let before = replica.hash();
        assert!(replica.run(Body::Submit(submit("worker", 1))).replayed);
        let mut foreign = submit("worker", 1);
        foreign.actor.as_mut().unwrap().workspace_id = "w2".into();
        assert_eq!(
            refusal(&replica.run(Body::Submit(foreign))),
            Some(ErrorCode::Conflict)
        );
        assert_eq!(replica.hash(), before);
    }

    #[test]
    fn old_reservations_and_foreign_slots_are_refused() {
        let mut replica = Replica::new(1, 1);
        let mut late = submit("worker", 1);
        late.reserved_at_ms = START_MS - replica.ctx.settings.idempotency_retention_ms / 2 - 1;
        assert_eq!(
            refusal(&replica.run(Body::Submit(late))),
            Some(ErrorCode::CommandExpired)
        );
        let mut foreign = submit("worker", 1);
        foreign.intent_id = intent_id(&agent("other"), 1).to_bytes();
        assert_eq!(
            refusal(&replica.run(Body::Submit(foreign))),
            Some(ErrorCode::InvalidArgument)
        );
        let mut elsewhere = Replica::new(0, 1);
        let reply = elsewhere.run(Body::Submit(submit("worker", 1)));
        assert_eq!(refusal(&reply), Some(ErrorCode::InvalidArgument));
    }
}
