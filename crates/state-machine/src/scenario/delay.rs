//! Steps that let time pass. The timer also serves the wait before a failed step runs again.

use super::{compiled_step, current_mut, hold_by_runtime};
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::rows;
use crate::timers;
use crate::transaction::{Stop, Transaction};
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{
    CompiledStep, Delay, EventDetails, EventType, Intent, Scenario, Status, StepFinished, TimerKind,
    WaitingReason,
};

/// Waits; a step deadline that comes first ends the wait.
pub(super) fn start(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    delay: &Delay,
) -> Result<(), Stop> {
    let Some(step) = compiled_step(scenario, scenario.current) else {
        return Ok(());
    };
    let seconds = deadline_before(&step, delay).unwrap_or(delay.seconds);
    wait(tx, parent, scenario, Phase::Running, seconds, "")
}

fn deadline_before(step: &CompiledStep, delay: &Delay) -> Option<u32> {
    let deadline = step.step_deadline_seconds;
    (deadline != 0 && deadline < delay.seconds).then_some(deadline)
}

/// How a delay ended whose timer has fired.
pub(super) fn elapsed(step: &CompiledStep, delay: &Delay) -> StepFinished {
    let status = match deadline_before(step, delay) {
        Some(_) => Status::TimedOut,
        None => Status::Completed,
    };
    StepFinished {
        step_id: step.step_id.clone(),
        status: status.into(),
        ..StepFinished::default()
    }
}

/// Arms the timer of the current step, which goes to `phase`, and shows the wait.
pub(super) fn wait(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    phase: Phase,
    seconds: u32,
    reason: &str,
) -> Result<(), Stop> {
    let id = rows::id_of(parent)?;
    let due_ms = tx.now_ms.saturating_add(u64::from(seconds) * 1_000);
    let step_id = super::current(scenario).map_or_else(String::new, |(step, _)| step.step_id.clone());
    let Some(state) = current_mut(scenario) else {
        return Ok(());
    };
    state.phase = phase.into();
    state.status = Status::Waiting.into();
    state.due_ms = due_ms;
    let guard = u64::from(state.run);
    timers::add(tx, due_ms, id.slot(), TimerKind::Step, id.as_bytes(), guard);
    hold_by_runtime(parent);
    let entry = Entry::new(EventType::Waiting, Status::Waiting, SCHEDULER)
        .waiting(WaitingReason::Time)
        .details(EventDetails {
            step_id,
            reason: reason.to_owned(),
            due_at_ms: due_ms,
            ..EventDetails::default()
        });
    lifecycle::append(tx, parent, entry)?;
    Ok(())
}

/// Disarms the timer of the current step, if one is armed.
pub(super) fn disarm(
    tx: &mut Transaction<'_, '_>,
    parent: &Intent,
    scenario: &mut Scenario,
) -> Result<(), Stop> {
    let id = rows::id_of(parent)?;
    let Some(state) = current_mut(scenario) else {
        return Ok(());
    };
    let due_ms = std::mem::take(&mut state.due_ms);
    if due_ms != 0 {
        timers::remove(tx, due_ms, id.slot(), TimerKind::Step, id.as_bytes());
    }
    Ok(())
}
