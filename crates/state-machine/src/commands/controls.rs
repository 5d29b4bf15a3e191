//! `UpdateControls`: merges a patch into the controls of an intent.

use crate::controls;
use crate::idempotency;
use crate::lifecycle;
use crate::transaction::{Outcome, Transaction, invalid};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::UpdateControls;
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &UpdateControls) -> Outcome {
    let actor = command.actor.as_ref();
    if let Some(answer) = idempotency::answered(tx, &command.intent_id, command.idempotency.as_ref())? {
        return Ok(answer);
    }
    let (id, mut intent) =
        visibility::load(&*tx.tables, actor, &command.intent_id, Operation::UpdateControls)?;
    idempotency::once(tx, id.slot(), command.idempotency.as_ref(), &Bytes::new(), |tx| {
        lifecycle::require_open(&intent)?;
        if command.patch.is_empty() {
            return Err(invalid("controls_patch must have at least one member"));
        }
        controls::require_generation(&intent, command.expected_policy_generation)?;
        intent.controls = controls::merge(&intent.controls, &command.patch)?;
        intent.policy_generation = intent.policy_generation.saturating_add(1);
        intent.updated_at_ms = tx.now_ms;
        lifecycle::save(tx, &intent)?;
        Ok(lifecycle::transitioned(intent, None, true, None))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, intent_id, refusal, submit, transition};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{KeyKind, Member, MemberList, UpdateControls};
    use bytes::Bytes;
    use prost::Message;

    fn patch(members: &[(&str, &'static str)]) -> Body {
        Body::Controls(UpdateControls {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: intent_id(&agent("worker"), 1).to_bytes(),
            patch: members
                .iter()
                .map(|(key, value)| Member {
                    key: (*key).to_owned(),
                    value: Bytes::from_static(value.as_bytes()),
                })
                .collect(),
            ..UpdateControls::default()
        })
    }

    #[test]
    fn members_merge_and_the_generation_counts() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        assert_eq!(
            refusal(&replica.run(patch(&[]))),
            Some(ErrorCode::InvalidArgument)
        );
        replica.run(patch(&[("a", "1"), ("b", "2")]));
        let answer = transition(replica.run(patch(&[("c", "3"), ("a", "9")]))).unwrap();
        assert_eq!(answer.policy_generation, 2);
        assert!(answer.event.is_none() && replica.last.events.is_empty());
        let stored = MemberList::decode(answer.intent.unwrap().controls).unwrap();
        let stored: Vec<_> = stored
            .members
            .iter()
            .map(|m| (m.key.as_str(), &m.value[..]))
            .collect();
        assert_eq!(stored, [("a", &b"9"[..]), ("b", b"2"), ("c", b"3")]);
    }
}
