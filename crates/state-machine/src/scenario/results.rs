//! What steps hand on: their results, to the steps after them and to whoever asked for the scenario.

use super::embeddable;
use crate::json::{self, Object};
use baton_protocol::proto::internal::compiled_step::Internal;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{CompiledStep, Payload, Scenario, StepState};

/// Results of all steps of a scenario together; above it the oldest are forgotten and read as `null`. Keeps step
/// payloads below the size of a log entry.
const RESULTS_BYTES_MAX: usize = 384 * 1024;

/// Whether somebody outside answers this step. What the runtime does itself has no result.
pub(super) fn has_result(step: &CompiledStep) -> bool {
    match step.internal {
        Some(Internal::Gate(_)) => true,
        Some(Internal::Delay(_) | Internal::Notification(_) | Internal::Escalation(_)) => false,
        None => !step.internal_noop,
    }
}

/// `{step_id: result, …}` of every step that succeeded.
pub(super) fn of_all(scenario: &Scenario) -> Vec<u8> {
    let steps = scenario.compiled.as_ref().map_or(&[][..], |c| &c.steps);
    let mut object = Object::new();
    for (step, state) in steps.iter().zip(&scenario.steps) {
        if state.phase() == Phase::Succeeded {
            object = match &state.result {
                Some(result) => object.document(&step.step_id, embeddable(Some(result))),
                None if has_result(step) => object.document(&step.step_id, b"null"),
                None => object.document(&step.step_id, b"{}"),
            };
        }
    }
    object.finish()
}

/// Forgets the results of other steps, in order, until what is kept fits.
pub(super) fn trim(scenario: &mut Scenario, keep: usize) {
    let size = |s: &StepState| s.result.as_ref().map_or(0, |r| r.data.len());
    let mut total: usize = scenario.steps.iter().map(size).sum();
    for (index, state) in scenario.steps.iter_mut().enumerate() {
        if total > RESULTS_BYTES_MAX && index != keep {
            total -= size(state);
            state.result = None;
        }
    }
}

/// `{"steps": {…}, "result": …}`; the members of the last result also stand at the top, for those who read only them.
pub(super) fn of_scenario(scenario: &Scenario) -> Payload {
    let last = (scenario.last_succeeded as usize)
        .checked_sub(1)
        .and_then(|index| scenario.steps.get(index)?.result.as_ref());
    let last = embeddable(last);
    let data = Object::new()
        .document("steps", &of_all(scenario))
        .document("result", last)
        .members(json::object_members(last))
        .finish();
    Payload {
        data: data.into(),
        content_type: String::new(),
    }
}
