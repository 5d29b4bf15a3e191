//! Steps that ask a person, and the approval of what an agent did. The question stands on the parent.

use super::{current, current_mut, hold_by_runtime};
use crate::gates::{self, NewGate};
use crate::transaction::{Stop, Transaction};
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{Intent, Scenario, Status, StepGate};

/// Asks, and waits in `phase`. The deadline of the step counts from when the step began; an approval has the same time
/// for itself, however long the agent took.
pub(super) fn open(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    gate: &StepGate,
    phase: Phase,
) -> Result<(), Stop> {
    let Some((step, state)) = current(scenario) else {
        return Ok(());
    };
    let begun_at_ms = if phase == Phase::Approval {
        tx.now_ms
    } else {
        state.started_at_ms
    };
    let due_at_ms = match step.step_deadline_seconds {
        0 => 0,
        seconds => begun_at_ms.saturating_add(u64::from(seconds) * 1_000),
    };
    let question = NewGate {
        task: gate.task.clone().unwrap_or_default(),
        pending_with: gate.pending_with.clone(),
        reminders: gate.reminders.clone(),
        due_at_ms,
        step_id: step.step_id.clone(),
    };
    if let Some(state) = current_mut(scenario) {
        state.phase = phase.into();
        state.status = Status::Waiting.into();
    }
    hold_by_runtime(parent);
    gates::open(tx, parent, question)
}
