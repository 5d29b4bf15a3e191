//! How a step ended, and where that leads: on, around again, or to the end of the parent.

use super::{Progress, compiled_step, current, current_mut, delay, engine, gate, results};
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::transaction::{Stop, Transaction};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::compiled_step::Internal;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{
    CompiledStep, EventDetails, EventType, Intent, Scenario, Status, StepFinished,
};

const STEP_TIMEOUT: &str = "step_timeout";
/// `reason` of a step to which a person said no.
pub(crate) const REJECTED: &str = "rejected";

/// Takes in the outcome of a step intent. Anything that is not the run being waited for is old news.
pub(crate) fn step_finished(tx: &mut Transaction<'_, '_>, message: &StepFinished) -> Result<(), Stop> {
    let Some(id) = IntentId::from_slice(&message.parent_intent_id) else {
        return Ok(());
    };
    let Some((mut parent, mut scenario)) = super::open(tx, id)? else {
        return Ok(());
    };
    let awaited = current(&scenario).is_some_and(|(step, state)| {
        state.phase() == Phase::Running
            && state.run == message.run
            && step.step_id == message.step_id
            && state.step_intent_id == message.step_intent_id
    });
    if awaited {
        record(tx, &mut parent, &mut scenario, message)?;
    }
    Ok(())
}

/// Fires the timer of a step: its delay is over, or it runs again. A timer of an earlier run is old news.
pub(crate) fn timer(tx: &mut Transaction<'_, '_>, parent_id: IntentId, guard: u64) -> Result<(), Stop> {
    let Some((mut parent, mut scenario)) = super::open(tx, parent_id)? else {
        return Ok(());
    };
    let Some((step, state)) = current(&scenario).filter(|(_, state)| u64::from(state.run) == guard) else {
        return Ok(());
    };
    match (state.phase(), &step.internal) {
        (Phase::RetryWait, _) => {
            engine::rerun(tx, &mut parent, &mut scenario)?;
        }
        (Phase::Running, Some(Internal::Delay(waits))) => {
            let outcome = delay::elapsed(step, waits);
            record(tx, &mut parent, &mut scenario, &outcome)?;
        }
        _ => {}
    }
    Ok(())
}

/// Records the outcome of the current step and goes on.
pub(crate) fn record(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    outcome: &StepFinished,
) -> Progress {
    let Some(step) = compiled_step(scenario, scenario.current) else {
        return Ok(None);
    };
    if let Some(state) = current_mut(scenario) {
        state.due_ms = 0;
        state.status = outcome.status;
    }
    if outcome.status() == Status::Completed {
        return succeed(tx, parent, scenario, &step, outcome);
    }
    if may_retry(&step, scenario, outcome) {
        return wait_for_retry(tx, parent, scenario, &step);
    }
    if let Some(state) = current_mut(scenario) {
        state.phase = Phase::Failed.into();
    }
    match step.on_failure.checked_sub(1) {
        Some(next) => engine::run_from(tx, parent, scenario, next),
        None => fail(tx, parent, scenario, outcome),
    }
}

/// A step that was canceled or rejected was stopped on purpose: trying it again would undo that.
fn may_retry(step: &CompiledStep, scenario: &Scenario, outcome: &StepFinished) -> bool {
    let retries = current(scenario).map_or(0, |(_, state)| state.retries);
    retries < step.max_retries && outcome.status() != Status::Canceled && outcome.reason != REJECTED
}

fn succeed(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    step: &CompiledStep,
    outcome: &StepFinished,
) -> Progress {
    let index = scenario.current;
    let was = current(scenario).map(|(_, state)| state.phase());
    if let Some(state) = current_mut(scenario) {
        // An approval adds nothing to what the agent found out.
        if was != Some(Phase::Approval) {
            state.result = outcome.result.clone();
        }
        if let (Some(Phase::Running), Some(approval)) = (was, &step.approval) {
            gate::open(tx, parent, scenario, approval, Phase::Approval)?;
            return engine::pause(tx, parent, scenario);
        }
        state.phase = Phase::Succeeded.into();
        state.retries = 0;
    }
    if results::has_result(step) {
        scenario.last_succeeded = index.saturating_add(1);
        results::trim(scenario, index as usize);
    }
    match step.on_success.checked_sub(1) {
        Some(next) => engine::run_from(tx, parent, scenario, next),
        None => engine::complete(tx, parent, scenario),
    }
}

fn wait_for_retry(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    step: &CompiledStep,
) -> Progress {
    if let Some(state) = current_mut(scenario) {
        state.retries = state.retries.saturating_add(1);
    }
    let seconds = step.retry_delay_seconds;
    delay::wait(tx, parent, scenario, Phase::RetryWait, seconds, "step_retry")?;
    engine::pause(tx, parent, scenario)
}

fn fail(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &Scenario,
    outcome: &StepFinished,
) -> Progress {
    if outcome.delivery_failed {
        let entry = Entry::new(EventType::DeliveryFailed, parent.status(), SCHEDULER)
            .waiting(parent.waiting_reason())
            .details(EventDetails {
                step_id: outcome.step_id.clone(),
                step_intent_id: outcome.step_intent_id.clone(),
                delivery_attempt: outcome.delivery_attempt,
                max_delivery_attempts: outcome.max_delivery_attempts,
                ..EventDetails::default()
            });
        lifecycle::append(tx, parent, entry)?;
    }
    let details = EventDetails {
        step_id: outcome.step_id.clone(),
        step_intent_id: outcome.step_intent_id.clone(),
        reason: reason(outcome).to_owned(),
        error: outcome.result.clone(),
        ..EventDetails::default()
    };
    engine::end(tx, parent, scenario, Status::Failed, details)
}

fn reason(outcome: &StepFinished) -> &str {
    match (outcome.status(), outcome.reason.as_str()) {
        (Status::TimedOut, _) => STEP_TIMEOUT,
        (Status::Canceled, "") => "step_canceled",
        (_, "") => "step_failed",
        (_, given) => given,
    }
}
