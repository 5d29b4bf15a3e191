//! What happens to a step intent while it runs, as its parent shows it: reminders, escalation, another handler.

use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::outbox;
use crate::transaction::{Stop, Transaction};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::step_state::Phase;
use baton_protocol::proto::internal::{
    EventDetails, EventType, Intent, PendingWith, Scenario, StepNote, outbox_message,
};

/// Tells the parent of a step intent about an event. Nothing for other intents.
pub(crate) fn tell_parent(
    tx: &mut Transaction<'_, '_>,
    intent: &Intent,
    kind: EventType,
    details: &EventDetails,
) -> Result<(), Stop> {
    let Some(step) = &intent.step else { return Ok(()) };
    let Some(parent) = IntentId::from_slice(&step.parent_intent_id) else {
        return Ok(());
    };
    let note = StepNote {
        step: Some(step.clone()),
        step_intent_id: intent.intent_id.clone(),
        r#type: kind.into(),
        details: Some(details.clone()),
        handler: intent.holder().cloned(),
    };
    let target = tx.group_of(parent.slot());
    outbox::send(tx, target, outbox_message::Body::StepNote(note))?;
    Ok(())
}

/// Takes in what [`tell_parent`] said. A note about a run that is over is old news.
pub(crate) fn noted(tx: &mut Transaction<'_, '_>, note: &StepNote) -> Result<(), Stop> {
    let parent_id = note
        .step
        .as_ref()
        .and_then(|step| IntentId::from_slice(&step.parent_intent_id));
    let Some(parent_id) = parent_id else { return Ok(()) };
    let Some((mut parent, scenario)) = super::open(tx, parent_id)? else {
        return Ok(());
    };
    if !is_current(&scenario, note) {
        return Ok(());
    }
    if let Some(handler) = &note.handler
        && parent.holder().is_none_or(|holder| holder.key != handler.key)
    {
        parent.pending_with = Some(PendingWith::on(handler, ""));
        parent.handler = Some(handler.clone());
    }
    let step = note.step.clone().unwrap_or_default();
    let details = EventDetails {
        step_id: step.step_id,
        step_intent_id: note.step_intent_id.clone(),
        ..note.details.clone().unwrap_or_default()
    };
    let entry = Entry::new(note.r#type(), parent.status(), SCHEDULER)
        .waiting(parent.waiting_reason())
        .details(details);
    lifecycle::append(tx, &mut parent, entry)?;
    lifecycle::save(tx, &parent)
}

fn is_current(scenario: &Scenario, note: &StepNote) -> bool {
    super::current(scenario).is_some_and(|(_, state)| {
        state.phase() == Phase::Running
            && note.step.as_ref().is_some_and(|step| step.run == state.run)
            && state.step_intent_id == note.step_intent_id
    })
}
