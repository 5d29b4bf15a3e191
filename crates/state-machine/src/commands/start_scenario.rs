//! `StartScenario`: creates the parent intent and starts the entry step.

use crate::commands::submit;
use crate::idempotency;
use crate::intents;
use crate::lifecycle;
use crate::mailbox::require_agent;
use crate::scenario;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject, reply};
use baton_protocol::proto::internal::{
    CompiledScenario, Intent, Scenario, ScenarioStarted, StartScenario, StepState, reply as outcome,
};
use baton_protocol::{ErrorCode, limits};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &StartScenario) -> Outcome {
    let parent = command
        .parent
        .as_ref()
        .ok_or_else(|| invalid("a scenario needs a parent intent"))?;
    let compiled = command
        .scenario
        .as_ref()
        .ok_or_else(|| invalid("a scenario needs its compiled steps"))?;
    let id = submit::intent_id(tx, parent)?;
    require_agent(parent.to_agent.as_ref(), "to_agent")?;
    validate(compiled)?;
    let claim = parent.idempotency.as_ref();
    idempotency::once(
        tx,
        submit::claim_slot(parent, id),
        claim,
        &parent.intent_id,
        |tx| {
            if let Some(existing) = intents::intent(&*tx.tables, id)? {
                return started_before(existing, &submit::new_intent(parent.clone()), compiled);
            }
            submit::require_fresh_reservation(tx, parent)?;
            let intent = Intent {
                scenario_parent: true,
                scenario_id: compiled.scenario_id.clone(),
                compile_id: compiled.compile_id.clone(),
                ..submit::new_intent(parent.clone())
            };
            let mut intent = lifecycle::create(tx, intent, parent.payload.as_ref())?;
            let mut progress = Scenario {
                steps: vec![StepState::default(); compiled.steps.len()],
                current: compiled.entry,
                compiled: Some(compiled.clone()),
                ..Scenario::default()
            };
            scenario::run_from(tx, &mut intent, &mut progress, compiled.entry)?;
            Ok(started(intent))
        },
    )
}

fn started(intent: Intent) -> baton_protocol::proto::internal::Reply {
    reply(outcome::Outcome::ScenarioStarted(ScenarioStarted {
        compile_id: intent.compile_id.clone(),
        intent: Some(intent),
    }))
}

fn started_before(existing: Intent, new: &Intent, compiled: &CompiledScenario) -> Outcome {
    let same = existing.scenario_parent
        && existing.workspace_id == new.workspace_id
        && existing.submitted_by == new.submitted_by
        && existing.scenario_id == compiled.scenario_id;
    if same {
        Ok(idempotency::replayed(&started(existing)))
    } else {
        Err(reject(
            ErrorCode::Conflict,
            "intent id exists already; mint a new one",
        ))
    }
}

fn validate(compiled: &CompiledScenario) -> Result<(), Stop> {
    let count = compiled.steps.len();
    if count == 0 || count > limits::BUNDLE_STEPS_MAX {
        return Err(invalid(format!(
            "a workflow must have 1 to {} steps",
            limits::BUNDLE_STEPS_MAX
        )));
    }
    if compiled.entry as usize >= count {
        return Err(invalid("entry step does not exist"));
    }
    for (index, step) in compiled.steps.iter().enumerate() {
        if step.on_success as usize > count || step.on_failure as usize > count {
            return Err(invalid(format!(
                "step '{}' leads to a step that does not exist",
                step.step_id
            )));
        }
        if !step.internal_noop && step.internal.is_none() {
            require_agent(step.agent.as_ref(), &format!("agent of step '{}'", step.step_id))?;
        }
        if compiled.steps[..index].iter().any(|s| s.step_id == step.step_id) {
            return Err(invalid(format!("step id '{}' is used twice", step.step_id)));
        }
    }
    Ok(())
}
