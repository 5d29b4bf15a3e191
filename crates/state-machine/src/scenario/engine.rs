//! The walk: enters steps until one waits, and ends the parent when there is none left.

use super::{
    Progress, agent, compiled_step, current_mut, delay, escalation, gate, notification, results, save,
};
use crate::lifecycle::{self, SCHEDULER};
use crate::transaction::{Stop, Transaction};
use baton_protocol::limits::SCENARIO_STARTS_MAX;
use baton_protocol::proto::internal::compiled_step::Internal;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{EventDetails, Intent, Scenario, Status, StepState};

/// `reason` of a parent whose steps lead in a circle for too long.
const WORKFLOW_LOOP: &str = "workflow_loop";

/// What entering a step came to.
enum Entered {
    /// It waits for somebody or for time.
    Waits,
    /// It was done at once.
    Done,
}

/// Runs from step `index` until a step waits or the workflow ends. Saves parent and scenario.
pub(crate) fn run_from(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    mut index: u32,
) -> Progress {
    // Steps that finish at once may form a circle: no more of them in a row than there are steps.
    for _ in 0..=scenario.steps.len() {
        scenario.current = index;
        if let Some(state) = current_mut(scenario) {
            state.retries = 0;
        }
        if scenario.starts >= SCENARIO_STARTS_MAX {
            break;
        }
        match enter(tx, parent, scenario)? {
            Entered::Waits => return pause(tx, parent, scenario),
            Entered::Done => {}
        }
        if let Some(state) = current_mut(scenario) {
            state.phase = Phase::Succeeded.into();
            state.status = Status::Completed.into();
        }
        let next = compiled_step(scenario, index).map_or(0, |step| step.on_success);
        match next.checked_sub(1) {
            Some(next) => index = next,
            None => return complete(tx, parent, scenario),
        }
    }
    give_up(tx, parent, scenario)
}

/// Runs the current step once more.
pub(super) fn rerun(tx: &mut Transaction<'_, '_>, parent: &mut Intent, scenario: &mut Scenario) -> Progress {
    if scenario.starts >= SCENARIO_STARTS_MAX {
        return give_up(tx, parent, scenario);
    }
    enter(tx, parent, scenario)?;
    pause(tx, parent, scenario)
}

/// Writes what is waiting.
pub(super) fn pause(tx: &mut Transaction<'_, '_>, parent: &mut Intent, scenario: &Scenario) -> Progress {
    save(tx, parent, scenario)?;
    lifecycle::save(tx, parent)?;
    Ok(None)
}

fn enter(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
) -> Result<Entered, Stop> {
    let now_ms = tx.now_ms;
    let Some(step) = compiled_step(scenario, scenario.current) else {
        return Ok(Entered::Done);
    };
    scenario.starts = scenario.starts.saturating_add(1);
    if let Some(state) = current_mut(scenario) {
        *state = StepState {
            run: if state.started_at_ms == 0 {
                0
            } else {
                state.run.saturating_add(1)
            },
            started_at_ms: now_ms,
            retries: state.retries,
            ..StepState::default()
        };
    }
    match &step.internal {
        Some(Internal::Delay(waits)) => delay::start(tx, parent, scenario, waits)?,
        Some(Internal::Notification(message)) => {
            notification::record(tx, parent, &step, message)?;
            return Ok(Entered::Done);
        }
        Some(Internal::Escalation(target)) => {
            escalation::record(tx, parent, &step, target)?;
            return Ok(Entered::Done);
        }
        Some(Internal::Gate(question)) => gate::open(tx, parent, scenario, question, Phase::Running)?,
        None if step.internal_noop => return Ok(Entered::Done),
        None => agent::start(tx, parent, scenario)?,
    }
    Ok(Entered::Waits)
}

/// Ends the parent with the results of its steps.
pub(super) fn complete(tx: &mut Transaction<'_, '_>, parent: &mut Intent, scenario: &Scenario) -> Progress {
    let details = EventDetails {
        result: Some(results::of_scenario(scenario)),
        ..EventDetails::default()
    };
    end(tx, parent, scenario, Status::Completed, details)
}

pub(super) fn end(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &Scenario,
    status: Status,
    details: EventDetails,
) -> Progress {
    save(tx, parent, scenario)?;
    Ok(lifecycle::finish(tx, parent, status, SCHEDULER, details)?.completion)
}

fn give_up(tx: &mut Transaction<'_, '_>, parent: &mut Intent, scenario: &mut Scenario) -> Progress {
    let step_id = compiled_step(scenario, scenario.current).map_or_else(String::new, |step| step.step_id);
    let details = EventDetails {
        step_id,
        reason: WORKFLOW_LOOP.into(),
        ..EventDetails::default()
    };
    if let Some(state) = current_mut(scenario) {
        state.phase = Phase::Failed.into();
        state.status = Status::Failed.into();
    }
    end(tx, parent, scenario, Status::Failed, details)
}

/// The parent ended: what its current step still has under way has no purpose any more.
pub(crate) fn parent_ended(tx: &mut Transaction<'_, '_>, parent: &Intent, actor: &str) -> Result<(), Stop> {
    let id = crate::rows::id_of(parent)?;
    let Some(mut scenario) = crate::rows::scenario(&*tx.tables, id)? else {
        return Ok(());
    };
    delay::disarm(tx, parent, &mut scenario)?;
    let Some(state) = current_mut(&mut scenario) else {
        return Ok(());
    };
    let was = state.phase();
    let step_intent_id = state.step_intent_id.clone();
    if matches!(was, Phase::Running | Phase::RetryWait | Phase::Approval) {
        state.phase = Phase::Failed.into();
        state.status = Status::Canceled.into();
    }
    save(tx, parent, &scenario)?;
    if was == Phase::Running && !step_intent_id.is_empty() {
        let reason = format!("parent intent is {}", parent.status().wire_name());
        agent::send_cancel(tx, step_intent_id, &reason, actor)?;
    }
    Ok(())
}
