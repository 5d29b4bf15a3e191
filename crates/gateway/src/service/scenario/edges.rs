//! Where steps lead: named targets, what is never reached, and what leads back to itself.

use baton_protocol::limits::SCENARIO_STARTS_MAX;

use super::plan::{Plan, PlannedStep};
use super::{Bundle, Findings};

/// Edges of step `index` as (success, failure), each as index + 1; 0 = end.
pub(super) fn of_step(bundle: &Bundle, index: usize, findings: &mut Findings) -> (u32, u32) {
    let step = &bundle.steps[index];
    let mut edge = |field: &str, to: Option<&String>, default: u32| match to {
        None => default,
        Some(id) => position(bundle, id).map_or_else(
            || {
                findings.errors.push(format!(
                    "workflow.steps[{index}].{field} names no step of this workflow: {id}"
                ));
                0
            },
            |to| to + 1,
        ),
    };
    let following = if index + 1 < bundle.steps.len() {
        index as u32 + 2
    } else {
        0
    };
    (
        edge("on_success", step.on_success.as_ref(), following),
        edge("on_failure", step.on_failure.as_ref(), 0),
    )
}

/// The index of a step.
pub(super) fn position(bundle: &Bundle, step_id: &str) -> Option<u32> {
    bundle
        .steps
        .iter()
        .position(|s| s.step_id == step_id)
        .map(|i| i as u32)
}

/// Judges the graph of a plan whose edges are good.
pub(super) fn check(bundle: &Bundle, plan: &Plan, findings: &mut Findings) {
    let name = |index: usize| format!("workflow.steps[{index}] ({})", bundle.steps[index].step_id);
    let reached = reached_from(plan, plan.entry as usize);
    for (index, reached) in reached.iter().enumerate() {
        if !reached {
            findings
                .warnings
                .push(format!("{} is never reached", name(index)));
        }
    }
    if let Some(index) = instant_circle(plan) {
        findings.errors.push(format!(
            "{} leads back to itself without waiting for anything; put a delay or another wait on the way",
            name(index)
        ));
    } else if let Some(index) = circle(plan) {
        findings.warnings.push(format!(
            "{} may lead back to itself; a scenario that goes around for long fails with workflow_loop after \
             {SCENARIO_STARTS_MAX} steps",
            name(index)
        ));
    }
}

fn next(step: &PlannedStep) -> impl Iterator<Item = usize> {
    [step.on_success, step.on_failure]
        .into_iter()
        .filter_map(|to| (to as usize).checked_sub(1))
}

fn reached_from(plan: &Plan, start: usize) -> Vec<bool> {
    let mut seen = vec![false; plan.steps.len()];
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        if let Some(seen) = seen.get_mut(at)
            && !std::mem::replace(seen, true)
        {
            open.extend(next(&plan.steps[at]));
        }
    }
    seen
}

/// A step that can be reached from itself.
fn circle(plan: &Plan) -> Option<usize> {
    let leads_back = |start: usize| next(&plan.steps[start]).any(|to| reached_from(plan, to)[start]);
    (0..plan.steps.len()).find(|&start| leads_back(start))
}

/// A step that is reached from itself in the same moment: such a scenario could only spin.
fn instant_circle(plan: &Plan) -> Option<usize> {
    (0..plan.steps.len()).find(|&start| {
        let mut at = start;
        for _ in 0..plan.steps.len() {
            if !plan.steps[at].target.is_instant() {
                return false;
            }
            match (plan.steps[at].on_success as usize).checked_sub(1) {
                Some(next) if next == start => return true,
                Some(next) => at = next,
                None => return false,
            }
        }
        false
    })
}
