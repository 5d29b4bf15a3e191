//! `RedeliverIntent`: a fresh cursor for an open delivery, at no cost in attempts.

use crate::commands::fail_attempt::fenced;
use crate::mailbox;
use crate::references;
use crate::transaction::{Outcome, Transaction, done};
use baton_protocol::proto::internal::RedeliverIntent;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &RedeliverIntent) -> Outcome {
    let mut intent = fenced(tx, &command.intent_id, command.cursor)?;
    mailbox::requeue(tx, &mut intent)?;
    references::save(tx, &intent)?;
    Ok(done())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, agent, intent_id, refusal, submit};
    use baton_protocol::ErrorCode;
    use baton_protocol::proto::internal::RedeliverIntent;
    use baton_protocol::proto::internal::command::Body;

    #[test]
    fn a_fresh_cursor_costs_no_attempt() {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        let before = replica.intent(id).unwrap();
        let command = RedeliverIntent {
            intent_id: id.to_bytes(),
            cursor: before.mailbox_cursor,
        };
        replica.run(Body::Redeliver(command.clone()));
        let after = replica.intent(id).unwrap();
        assert_eq!(after.failed_attempts, 0);
        assert_eq!(after.last_seq, before.last_seq);
        assert!(after.mailbox_cursor >= before.mailbox_cursor + 2);
        assert_eq!(
            refusal(&replica.run(Body::Redeliver(command))),
            Some(ErrorCode::StaleAttempt)
        );
    }
}
