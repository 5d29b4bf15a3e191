//! `RedeliverIntent`: a fresh cursor for an open delivery, at no cost in attempts.

use crate::commands::fail_attempt::fenced;
use crate::lifecycle;
use crate::mailbox;
use crate::transaction::{Outcome, Transaction, done};
use baton_protocol::proto::internal::RedeliverIntent;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &RedeliverIntent) -> Outcome {
    let mut intent = fenced(tx, &command.intent_id, command.cursor)?;
    mailbox::requeue(tx, &mut intent)?;
    lifecycle::save(tx, &intent)?;
    Ok(done())
}
