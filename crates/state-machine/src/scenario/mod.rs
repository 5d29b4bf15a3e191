//! Scenarios: a parent intent that walks through compiled steps, one at a time.
//!
//! [`engine`] enters steps and ends the parent, [`outcome`] takes in how a step ended. A step that waits stands in
//! its own file: an agent works ([`agent`]), a person is asked ([`gate`]), time passes ([`delay`]). The others are done the
//! moment they are entered: [`notification`], [`escalation`].

mod agent;
mod delay;
mod engine;
mod escalation;
mod gate;
mod note;
mod notification;
mod outcome;
mod results;
#[cfg(test)]
mod tests;

pub(crate) use agent::send_cancel;
pub(crate) use engine::{parent_ended, run_from};
pub(crate) use note::{noted, tell_parent};
pub(crate) use outcome::{record, step_finished, timer};

use crate::intents;
use crate::keys;
use crate::rows;
use crate::transaction::{Stop, Transaction};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{
    AgentRef, CompiledStep, CompletionQueued, Intent, Payload, PendingWith, Scenario, StepState,
};

/// Address of the internal runtime: sender of step intents, holder of the parent while an internal step runs.
const RUNTIME: &str = "agent://agent_core";

/// How far a scenario got: the completion that was queued when its parent ended.
pub(crate) type Progress = Result<Option<CompletionQueued>, Stop>;

/// The step that runs or waits to be run again.
pub(crate) fn current(scenario: &Scenario) -> Option<(&CompiledStep, &StepState)> {
    let index = scenario.current as usize;
    let step = scenario.compiled.as_ref()?.steps.get(index)?;
    Some((step, scenario.steps.get(index)?))
}

fn current_mut(scenario: &mut Scenario) -> Option<&mut StepState> {
    let index = scenario.current as usize;
    scenario.steps.get_mut(index)
}

fn compiled_step(scenario: &Scenario, index: u32) -> Option<CompiledStep> {
    scenario.compiled.as_ref()?.steps.get(index as usize).cloned()
}

fn save(tx: &mut Transaction<'_, '_>, parent: &Intent, scenario: &Scenario) -> Result<(), Stop> {
    let id = rows::id_of(parent)?;
    rows::write(tx.tables, keys::scenario(id), scenario);
    Ok(())
}

/// A parent that is not over, with its progress.
pub(crate) fn open(
    tx: &Transaction<'_, '_>,
    parent_id: IntentId,
) -> Result<Option<(Intent, Scenario)>, Stop> {
    let parent = intents::intent(&*tx.tables, parent_id)?.filter(|p| !p.status().is_terminal());
    let Some(parent) = parent else {
        return Ok(None);
    };
    let scenario = rows::scenario(&*tx.tables, parent_id)?;
    Ok(scenario.map(|scenario| (parent, scenario)))
}

/// The parent is with the internal runtime now.
fn hold_by_runtime(parent: &mut Intent) {
    let runtime = AgentRef {
        address: RUNTIME.into(),
        ..AgentRef::default()
    };
    parent.pending_with = Some(PendingWith::on(&runtime, ""));
    parent.handler = Some(runtime);
}

fn is_json(payload: &Payload) -> bool {
    let kind = payload.content_type.as_str();
    kind.is_empty() || kind.starts_with("application/json")
}

/// A stored document as it can be embedded; what is not JSON reads as `null`.
fn embeddable(payload: Option<&Payload>) -> &[u8] {
    match payload {
        None => b"{}",
        Some(payload) if is_json(payload) => &payload.data,
        Some(_) => b"null",
    }
}
