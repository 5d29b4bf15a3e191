//! Escalation steps: the event names who was called in, a mail address is told, and the scenario goes on.

use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::notices;
use crate::transaction::{Stop, Transaction};
use baton_protocol::proto::internal::{CompiledStep, Escalation, EventDetails, EventType, Intent};

pub(super) fn record(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    step: &CompiledStep,
    escalation: &Escalation,
) -> Result<(), Stop> {
    let entry = Entry::new(EventType::Escalated, parent.status(), SCHEDULER)
        .waiting(parent.waiting_reason())
        .details(EventDetails {
            step_id: step.step_id.clone(),
            escalated_to: escalation.escalate_to.clone(),
            ..EventDetails::default()
        });
    lifecycle::append(tx, parent, entry)?;
    notices::of_escalation(tx, parent, &escalation.escalate_to, &step.step_id)
}
