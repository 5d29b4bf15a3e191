//! Agent steps: a step intent goes to the agent's group, and the parent waits for what becomes of it.

use super::{RUNTIME, compiled_step, embeddable, results};
use crate::intents;
use crate::json::Object;
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::outbox;
use crate::rows;
use crate::transaction::{Stop, Transaction};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{
    AgentRef, CancelIntent, CompiledStep, EventDetails, EventType, Intent, Payload, PendingWith, Scenario,
    StartStep, Status, StepLink, StepState, WaitingReason, outbox_message,
};
use baton_protocol::{IntentId, Slot};
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

/// Sends the current step to its agent.
pub(super) fn start(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    scenario: &mut Scenario,
) -> Result<(), Stop> {
    let Some(step) = compiled_step(scenario, scenario.current) else {
        return Ok(());
    };
    let agent = step.agent.clone().unwrap_or_default();
    let slot = slot_of(&agent);
    let payload = payload(tx, parent, scenario, &step)?;
    let Some(state) = super::current_mut(scenario) else {
        return Ok(());
    };
    let id = step_intent_id(tx.now_ms, slot, parent, &step.step_id, state.run);
    *state = StepState {
        phase: Phase::Running.into(),
        step_intent_id: id.to_bytes(),
        status: Status::Delivered.into(),
        ..state.clone()
    };
    let intent = step_intent(tx.now_ms, id, parent, &step, &agent, state.run);
    let message = StartStep {
        intent: Some(intent),
        payload: Some(payload),
    };
    outbox::send(tx, tx.group_of(slot), outbox_message::Body::StartStep(message))?;
    parent.pending_with = Some(PendingWith::on(&agent, &step.display_name));
    parent.handler = Some(agent);
    let details = EventDetails {
        step_id: step.step_id,
        step_intent_id: id.to_bytes(),
        ..EventDetails::default()
    };
    let entry = Entry::new(EventType::Waiting, Status::Waiting, SCHEDULER)
        .waiting(WaitingReason::Agent)
        .details(details);
    lifecycle::append(tx, parent, entry)?;
    Ok(())
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
        reminders: step.reminders.clone(),
        escalate_agent: step.escalate_agent.clone(),
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

fn payload(
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
        .document("previous_results", &results::of_all(scenario))
        .finish();
    Ok(Payload {
        data: data.into(),
        content_type: String::new(),
    })
}

/// Asks the group of a step intent to cancel it. Behind the message that creates it in the same queue, so that a step
/// which was only just started is canceled too.
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
