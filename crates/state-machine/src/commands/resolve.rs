//! `ResolveIntent`: a caller ends an intent.

use crate::controls;
use crate::idempotency;
use crate::lifecycle;
use crate::transaction::{Outcome, Transaction, invalid};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::{EventDetails, ResolveIntent, Status};
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &ResolveIntent) -> Outcome {
    let actor = command.actor.as_ref();
    if let Some(answer) = idempotency::answered(tx, &command.intent_id, command.idempotency.as_ref())? {
        return Ok(answer);
    }
    let (id, mut intent) = visibility::load(&*tx.tables, actor, &command.intent_id, Operation::Resolve)?;
    let status = command.status();
    if !matches!(status, Status::Completed | Status::Failed | Status::Canceled) {
        return Err(invalid("status must be COMPLETED, FAILED or CANCELED"));
    }
    let claim = command.idempotency.as_ref();
    idempotency::once(tx, id.slot(), claim, &Bytes::new(), |tx| {
        lifecycle::require_open(&intent)?;
        controls::require_generation(&intent, command.expected_policy_generation)?;
        let details = EventDetails {
            result: command.result.clone(),
            error: command.error.clone(),
            reason: command.reason.clone(),
            ..EventDetails::default()
        };
        let finished = lifecycle::finish(tx, &mut intent, status, visibility::label(actor), details)?;
        Ok(lifecycle::transitioned(
            intent,
            tx.event(finished.event).cloned(),
            true,
            finished.completion,
        ))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id, refusal, submit, transition};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{IdempotencyClaim, KeyKind, ResolveIntent, Status, SubmitIntent};
    use bytes::Bytes;

    fn resolve(status: Status) -> ResolveIntent {
        ResolveIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            status: status.into(),
            ..ResolveIntent::default()
        }
    }

    fn submitted() -> Replica {
        let mut replica = Replica::new(1, 1);
        let command = SubmitIntent {
            reply_to: Some(agent("owner")),
            ..submit("worker", 1)
        };
        replica.run(Body::Submit(command));
        replica
    }

    #[test]
    fn terminal_is_final_but_a_replay_is_answered() {
        let mut replica = submitted();
        let mut first = resolve(Status::Completed);
        first.idempotency = Some(IdempotencyClaim {
            key_hash: Bytes::from_static(b"key"),
            request_hash: Bytes::from_static(b"body"),
            in_intent_slot: false,
        });
        let answer = transition(replica.run(Body::Resolve(first.clone()))).unwrap();
        assert_eq!(answer.event.as_ref().unwrap().seq, 4);
        assert_eq!(answer.completion.as_ref().unwrap().outbox_seq, 1);
        let replay = replica.run(Body::Resolve(first));
        assert!(replay.replayed);
        assert_eq!(transition(replay), Some(answer));
        let second = replica.run(Body::Resolve(resolve(Status::Canceled)));
        assert_eq!(refusal(&second), Some(ErrorCode::IntentTerminal));
    }

    #[test]
    fn only_three_statuses_are_accepted() {
        let mut replica = submitted();
        for status in Status::ALL {
            let wanted = matches!(status, Status::Completed | Status::Failed | Status::Canceled);
            let reply = replica.clone().run(Body::Resolve(resolve(status)));
            assert_eq!(refusal(&reply).is_none(), wanted, "{status:?}");
        }
        let unknown = ResolveIntent {
            intent_id: Bytes::from_static(b"short"),
            ..resolve(Status::Failed)
        };
        assert_eq!(
            refusal(&replica.run(Body::Resolve(unknown))),
            Some(ErrorCode::NotFound)
        );
    }

    #[test]
    fn strangers_and_observers_may_not_act_and_other_workspaces_see_nothing() {
        let replica = submitted();
        let refused = |kind, name: &str, workspace: &str| {
            let mut command = resolve(Status::Completed);
            let mut caller = actor(kind, name);
            caller.workspace_id = workspace.into();
            command.actor = Some(caller);
            refusal(&replica.clone().run(Body::Resolve(command)))
        };
        assert_eq!(
            refused(KeyKind::Agent, "stranger", "w1"),
            Some(ErrorCode::PolicyDenied)
        );
        assert_eq!(
            refused(KeyKind::Agent, "stranger", "w2"),
            Some(ErrorCode::NotFound)
        );
        assert_eq!(refused(KeyKind::Workspace, "x", "w2"), Some(ErrorCode::NotFound));
        assert_eq!(
            refused(KeyKind::Agent, "owner", "w1"),
            Some(ErrorCode::PolicyDenied)
        );
        assert_eq!(refused(KeyKind::Agent, "worker", "w1"), None);
        assert_eq!(refused(KeyKind::Agent, "sender", "w1"), None);
        assert_eq!(refused(KeyKind::Operator, "x", "w2"), None);
    }
}
