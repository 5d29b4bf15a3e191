//! Scenarios: a parent intent that walks through compiled steps, one step intent at a time.

use crate::intents;
use crate::json::{self, Object};
use crate::keys;
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::outbox;
use crate::rows;
use crate::timers;
use crate::transaction::{Stop, Transaction};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{
    AgentRef, CancelIntent, CompiledStep, CompletionQueued, EventDetails, EventType, Intent, Payload,
    PendingWith, Scenario, StartStep, Status, StepFinished, StepLink, StepState, TimerKind, WaitingReason,
    outbox_message,
};
use baton_protocol::{IntentId, Slot};
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// Sender of step intents.
const RUNTIME: &str = "agent://agent_core";
/// Results of all steps of a scenario together; above it the oldest are forgotten and read as `null`. Keeps step
/// payloads below the size of a log entry.
const RESULTS_BYTES_MAX: usize = 384 * 1024;
/// How far a scenario got: the completion that was queued when its parent ended.
pub(crate) type Progress = Result<Option<CompletionQueued>, Stop>;

const STEP_TIMEOUT: &str = "step_timeout";

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

pub(crate) fn save(tx: &mut Transaction<'_, '_>, parent: &Intent, scenario: &Scenario) -> Result<(), Stop> {
    let id = rows::id_of(parent)?;
    rows::write(tx.tables, keys::scenario(id), scenario);
    Ok(())
}

fn compiled_step(scenario: &Scenario, index: u32) -> Option<CompiledStep> {
    scenario.compiled.as_ref()?.steps.get(index as usize).cloned()
}

/// Runs from step `index` until a step waits for its agent or the workflow ends. Saves parent and scenario.
pub(crate) fn run_from(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    mut index: u32,
) -> Progress {
    // Steps that finish at once may form a circle: no more of them in a row than there are steps.
    for _ in 0..=scenario.steps.len() {
        let Some(step) = compiled_step(scenario, index) else {
            break;
        };
        scenario.current = index;
        if !step.internal_noop {
            return start_step(tx, parent, scenario, &step);
        }
        if let Some(state) = current_mut(scenario) {
            state.phase = Phase::Succeeded.into();
            state.status = Status::Completed.into();
            state.result = None;
        }
        if step.on_success == 0 {
            return complete(tx, parent, scenario);
        }
        index = step.on_success - 1;
    }
    save(tx, parent, scenario)?;
    let details = EventDetails {
        reason: "workflow_loop".into(),
        ..EventDetails::default()
    };
    Ok(lifecycle::finish(tx, parent, Status::Failed, SCHEDULER, details)?.completion)
}

/// Starts the current step: a step intent goes to the agent's group, the parent waits for the agent.
fn start_step(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    step: &CompiledStep,
) -> Progress {
    let agent = step.agent.clone().unwrap_or_default();
    let slot = slot_of(&agent);
    let Some(state) = current_mut(scenario) else {
        return Ok(None);
    };
    if !state.step_intent_id.is_empty() {
        state.run = state.run.saturating_add(1);
    }
    let run = state.run;
    let id = step_intent_id(tx.now_ms, slot, parent, &step.step_id, run);
    *state = StepState {
        phase: Phase::Running.into(),
        run,
        step_intent_id: id.to_bytes(),
        status: Status::Delivered.into(),
        retries: state.retries,
        result: None,
    };
    let payload = step_payload(tx, parent, scenario, step)?;
    let intent = step_intent(tx.now_ms, id, parent, step, &agent, run);
    let message = StartStep {
        intent: Some(intent),
        payload: Some(payload),
    };
    outbox::send(tx, tx.group_of(slot), outbox_message::Body::StartStep(message))?;
    parent.pending_with = Some(PendingWith::on(&agent, &step.display_name));
    parent.handler = Some(agent);
    let details = EventDetails {
        step_id: step.step_id.clone(),
        step_intent_id: id.to_bytes(),
        ..EventDetails::default()
    };
    let entry = Entry::new(EventType::Waiting, Status::Waiting, SCHEDULER)
        .waiting(WaitingReason::Agent)
        .details(details);
    lifecycle::append(tx, parent, entry)?;
    save(tx, parent, scenario)?;
    lifecycle::save(tx, parent)?;
    Ok(None)
}

/// Same on every replica: the id is drawn from what is being started.
fn step_intent_id(now_ms: u64, slot: Slot, parent: &Intent, step_id: &str, run: u32) -> IntentId {
    let mut hash = Xxh3::new();
    hash.update(&parent.intent_id);
    hash.update(step_id.as_bytes());
    hash.update(&run.to_be_bytes());
    IntentId::new(now_ms, slot, hash.digest())
}

fn step_intent(
    now_ms: u64,
    id: IntentId,
    parent: &Intent,
    step: &CompiledStep,
    agent: &AgentRef,
    run: u32,
) -> Intent {
    let deadline_at_ms = match step.step_deadline_seconds {
        0 => 0,
        seconds => now_ms.saturating_add(u64::from(seconds) * 1_000),
    };
    Intent {
        intent_id: id.to_bytes(),
        org_id: parent.org_id.clone(),
        workspace_id: parent.workspace_id.clone(),
        intent_type: parent.intent_type.clone(),
        correlation_id: parent.correlation_id.clone(),
        from_agent: RUNTIME.into(),
        to_agent: Some(agent.clone()),
        deadline_at_ms,
        max_delivery_attempts: parent.max_delivery_attempts,
        step: Some(StepLink {
            parent_intent_id: parent.intent_id.clone(),
            step_id: step.step_id.clone(),
            run,
            scenario_id: parent.scenario_id.clone(),
        }),
        trace_parent: parent.trace_parent.clone(),
        submitted_by: parent.submitted_by.clone(),
        ..Intent::default()
    }
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

fn step_payload(
    tx: &Transaction<'_, '_>,
    parent: &Intent,
    scenario: &Scenario,
    step: &CompiledStep,
) -> Result<Payload, Stop> {
    let parent_id = rows::id_of(parent)?;
    let row = intents::row(&*tx.tables, parent_id)?.unwrap_or_default();
    let parent_payload = intents::payload(&*tx.tables, parent_id, &row)?;
    let data = Object::new()
        .document("parent_payload", embeddable(parent_payload.as_ref()))
        .string("parent_intent_id", &parent_id.to_string())
        .string("step_id", &step.step_id)
        .string("tool_id", &step.tool_id)
        .document("input", &step.input)
        .document("previous_results", &results(scenario))
        .finish();
    Ok(Payload {
        data: data.into(),
        content_type: String::new(),
    })
}

/// `{step_id: result, …}` of every step that succeeded.
fn results(scenario: &Scenario) -> Vec<u8> {
    let steps = scenario.compiled.as_ref().map_or(&[][..], |c| &c.steps);
    let mut object = Object::new();
    for (step, state) in steps.iter().zip(&scenario.steps) {
        if state.phase() == Phase::Succeeded {
            object = match &state.result {
                Some(result) => object.document(&step.step_id, embeddable(Some(result))),
                None if step.internal_noop => object.document(&step.step_id, b"{}"),
                None => object.document(&step.step_id, b"null"),
            };
        }
    }
    object.finish()
}

/// Forgets the results of other steps, in order, until what is kept fits.
fn trim_results(scenario: &mut Scenario, keep: usize) {
    let size = |s: &StepState| s.result.as_ref().map_or(0, |r| r.data.len());
    let mut total: usize = scenario.steps.iter().map(size).sum();
    for (index, state) in scenario.steps.iter_mut().enumerate() {
        if total > RESULTS_BYTES_MAX && index != keep {
            total -= size(state);
            state.result = None;
        }
    }
}

/// Ends the parent with the results of its steps; the members of the last one also stand at the top.
fn complete(tx: &mut Transaction<'_, '_>, parent: &mut Intent, scenario: &Scenario) -> Progress {
    save(tx, parent, scenario)?;
    let last = (scenario.last_succeeded as usize)
        .checked_sub(1)
        .and_then(|index| scenario.steps.get(index)?.result.as_ref());
    let last = embeddable(last);
    let data = Object::new()
        .document("steps", &results(scenario))
        .document("result", last)
        .members(json::object_members(last))
        .finish();
    let details = EventDetails {
        result: Some(Payload {
            data: data.into(),
            content_type: String::new(),
        }),
        ..EventDetails::default()
    };
    Ok(lifecycle::finish(tx, parent, Status::Completed, SCHEDULER, details)?.completion)
}

/// Takes in the outcome of a step intent. Anything that is not the run being waited for is old news.
pub(crate) fn step_finished(tx: &mut Transaction<'_, '_>, message: &StepFinished) -> Result<(), Stop> {
    let Some(id) = IntentId::from_slice(&message.parent_intent_id) else {
        return Ok(());
    };
    let Some(mut parent) = intents::intent(&*tx.tables, id)?.filter(|p| !p.status().is_terminal()) else {
        return Ok(());
    };
    let Some(mut scenario) = rows::scenario(&*tx.tables, id)? else {
        return Ok(());
    };
    let awaited = current(&scenario).is_some_and(|(step, state)| {
        state.phase() == Phase::Running
            && state.run == message.run
            && step.step_id == message.step_id
            && state.step_intent_id == message.step_intent_id
    });
    if !awaited {
        return Ok(());
    }
    record(tx, &mut parent, &mut scenario, message)?;
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
    let index = scenario.current as usize;
    let Some(state) = current_mut(scenario) else {
        return Ok(None);
    };
    state.status = outcome.status;
    if outcome.status() == Status::Completed {
        state.phase = Phase::Succeeded.into();
        state.result = outcome.result.clone();
        state.retries = 0;
        scenario.last_succeeded = scenario.current.saturating_add(1);
        trim_results(scenario, index);
        return match step.on_success.checked_sub(1) {
            Some(next) => run_from(tx, parent, scenario, next),
            None => complete(tx, parent, scenario),
        };
    }
    // A canceled step was stopped on purpose: trying it again would undo that.
    if state.retries < step.max_retries && outcome.status() != Status::Canceled {
        return wait_for_retry(tx, parent, scenario, &step);
    }
    state.phase = Phase::Failed.into();
    match step.on_failure.checked_sub(1) {
        Some(next) => run_from(tx, parent, scenario, next),
        None => fail(tx, parent, scenario, outcome),
    }
}

fn wait_for_retry(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
    step: &CompiledStep,
) -> Progress {
    let id = rows::id_of(parent)?;
    let Some(state) = current_mut(scenario) else {
        return Ok(None);
    };
    state.phase = Phase::RetryWait.into();
    state.retries = state.retries.saturating_add(1);
    let guard = u64::from(state.run);
    let due_ms = tx
        .now_ms
        .saturating_add(u64::from(step.retry_delay_seconds) * 1_000);
    timers::add(tx, due_ms, id.slot(), TimerKind::StepRetry, id.as_bytes(), guard);
    parent.pending_with = Some(PendingWith::on(
        &AgentRef {
            address: RUNTIME.into(),
            ..AgentRef::default()
        },
        "",
    ));
    let entry = Entry::new(EventType::Waiting, Status::Waiting, SCHEDULER)
        .waiting(WaitingReason::Time)
        .details(EventDetails {
            step_id: step.step_id.clone(),
            reason: "step_retry".into(),
            ..EventDetails::default()
        });
    lifecycle::append(tx, parent, entry)?;
    save(tx, parent, scenario)?;
    lifecycle::save(tx, parent)?;
    Ok(None)
}

fn fail(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &Scenario,
    outcome: &StepFinished,
) -> Progress {
    save(tx, parent, scenario)?;
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
    let reason = match outcome.status() {
        Status::TimedOut => STEP_TIMEOUT,
        Status::Canceled if outcome.reason.is_empty() => "step_canceled",
        Status::Unspecified
        | Status::Created
        | Status::Submitted
        | Status::Delivered
        | Status::Acknowledged
        | Status::InProgress
        | Status::Waiting
        | Status::Completed
        | Status::Failed
        | Status::Canceled => match outcome.reason.as_str() {
            "" => "step_failed",
            given => given,
        },
    };
    let details = EventDetails {
        step_id: outcome.step_id.clone(),
        step_intent_id: outcome.step_intent_id.clone(),
        reason: reason.to_owned(),
        error: outcome.result.clone(),
        ..EventDetails::default()
    };
    Ok(lifecycle::finish(tx, parent, Status::Failed, SCHEDULER, details)?.completion)
}

/// Fires the retry timer of a step.
pub(crate) fn retry(tx: &mut Transaction<'_, '_>, parent_id: IntentId, guard: u64) -> Result<(), Stop> {
    let Some(mut parent) = intents::intent(&*tx.tables, parent_id)?.filter(|p| !p.status().is_terminal())
    else {
        return Ok(());
    };
    let Some(mut scenario) = rows::scenario(&*tx.tables, parent_id)? else {
        return Ok(());
    };
    let waiting = current(&scenario)
        .is_some_and(|(_, state)| state.phase() == Phase::RetryWait && u64::from(state.run) == guard);
    if !waiting {
        return Ok(());
    }
    let index = scenario.current;
    run_from(tx, &mut parent, &mut scenario, index)?;
    Ok(())
}

/// The parent ended: the step intent that still runs has no purpose any more.
pub(crate) fn cancel_running_step(
    tx: &mut Transaction<'_, '_>,
    parent: &Intent,
    actor: &str,
) -> Result<(), Stop> {
    let id = rows::id_of(parent)?;
    let Some(mut scenario) = rows::scenario(&*tx.tables, id)? else {
        return Ok(());
    };
    let Some(state) = current_mut(&mut scenario).filter(|s| s.phase() == Phase::Running) else {
        return Ok(());
    };
    state.phase = Phase::Failed.into();
    state.status = Status::Canceled.into();
    let step_intent_id = state.step_intent_id.clone();
    save(tx, parent, &scenario)?;
    let reason = format!("parent intent is {}", parent.status().wire_name());
    send_cancel(tx, step_intent_id, &reason, actor)
}

/// Asks the group of a step intent to cancel it.
pub(crate) fn send_cancel(
    tx: &mut Transaction<'_, '_>,
    step_intent_id: Bytes,
    reason: &str,
    actor: &str,
) -> Result<(), Stop> {
    let Some(id) = IntentId::from_slice(&step_intent_id) else {
        return Ok(());
    };
    let message = CancelIntent {
        intent_id: step_intent_id,
        reason: reason.to_owned(),
        actor: actor.to_owned(),
    };
    outbox::send(tx, tx.group_of(id.slot()), outbox_message::Body::Cancel(message))?;
    Ok(())
}
