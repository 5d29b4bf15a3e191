//! `StartAttempt`: a listener or worker took a delivery whose attempts may only take so long.

use crate::commands::fail_attempt::fenced;
use crate::envelope;
use crate::references;
use crate::transaction::{Outcome, Transaction, done};
use baton_protocol::proto::internal::StartAttempt;

/// The first time counts: whoever takes the same delivery later does not get more time.
pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &StartAttempt) -> Outcome {
    let mut intent = fenced(tx, &command.intent_id, command.cursor)?;
    let before = intent.timed;
    envelope::begin(tx, &mut intent)?;
    if intent.timed != before {
        references::save(tx, &intent)?;
    }
    Ok(done())
}
