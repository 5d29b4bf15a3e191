//! What kind of thing an intent or an entry is.

use baton_protocol::address::{AGENT_CORE, canonical};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{Batch, Intent, Status, WaitingReason};

/// Whether an open intent is in a mailbox.
pub(super) fn deliverable(intent: &Intent) -> bool {
    let core = canonical("acme", "prod", AGENT_CORE);
    let outside = intent.status() == Status::Waiting && intent.waiting_reason() == WaitingReason::Tool;
    !intent.scenario_parent
        && !intent.gate_open
        && !outside
        && intent.holder().is_some_and(|h| h.address != core)
}

/// Whether a batch holds only commands that are recognised by their id.
pub(crate) fn is_repeatable(batch: &Batch) -> bool {
    batch.commands.iter().all(|c| {
        c.origin != 0
            && !matches!(
                c.body,
                None | Some(
                    Body::Pulse(_)
                        | Body::FailAttempt(_)
                        | Body::Redeliver(_)
                        | Body::FinishAttempt(_)
                        | Body::StartAttempt(_)
                        | Body::AcknowledgeAttempt(_)
                        | Body::RecordReplay(_)
                        | Body::DisableCallback(_)
                        | Body::ReportNotice(_)
                        | Body::Deliver(_)
                        | Body::Acknowledge(_)
                )
            )
    })
}
