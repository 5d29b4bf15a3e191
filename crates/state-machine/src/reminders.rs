//! Reminders of something that waits, and its escalation (surface 2.5): at start + after + n × interval. A reminder that
//! became due while nobody led fires once, late, and the next one follows it.

use crate::handover;
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::mailbox;
use crate::notices;
use crate::scenario;
use crate::timers;
use crate::transaction::{Stop, Transaction};
use baton_protocol::proto::internal::{
    EventDetails, EventType, Intent, ReminderProgress, Reminders, Status, Timer, TimerKind,
};
use baton_protocol::{IntentId, limits};

/// What is reminded of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch<'w> {
    /// Absent = no reminders.
    pub(crate) settings: Option<&'w Reminders>,
    pub(crate) started_at_ms: u64,
    pub(crate) step_id: &'w str,
    pub(crate) kind: TimerKind,
    pub(crate) guard: u64,
}

/// The reminders of an intent as a whole.
pub(crate) fn of_intent<'w>(settings: Option<&'w Reminders>, intent: &Intent) -> Watch<'w> {
    Watch {
        settings,
        started_at_ms: intent.created_at_ms,
        step_id: "",
        kind: TimerKind::IntentReminder,
        guard: 0,
    }
}

fn reminders_max(settings: &Reminders) -> u32 {
    match settings.max_reminders {
        0 => limits::REMINDERS_DEFAULT,
        given => given.min(limits::REMINDERS_MAX),
    }
}

/// When the reminder after `sent` ones is due; 0 when there is none.
fn due_ms(watch: &Watch<'_>, sent: u32) -> u64 {
    let Some(settings) = watch.settings.filter(|s| s.remind_after_seconds > 0) else {
        return 0;
    };
    if sent >= reminders_max(settings) {
        return 0;
    }
    let after = u64::from(settings.remind_after_seconds);
    let interval = match settings.remind_interval_seconds {
        0 => after,
        given => u64::from(given),
    };
    let seconds = after.saturating_add(interval.saturating_mul(sent.into()));
    watch.started_at_ms.saturating_add(seconds.saturating_mul(1_000))
}

/// Arms the next reminder, if there is one.
pub(crate) fn arm(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    watch: &Watch<'_>,
    progress: &mut ReminderProgress,
) {
    progress.next_at_ms = due_ms(watch, progress.sent);
    if progress.next_at_ms != 0 {
        let due_ms = progress.next_at_ms;
        timers::add(tx, due_ms, id.slot(), watch.kind, id.as_bytes(), watch.guard);
    }
}

/// Takes the next reminder back.
pub(crate) fn disarm(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    kind: TimerKind,
    progress: &mut ReminderProgress,
) {
    let due_ms = std::mem::take(&mut progress.next_at_ms);
    if due_ms != 0 {
        timers::remove(tx, due_ms, id.slot(), kind, id.as_bytes());
    }
}

/// Sends the reminder that is due; the last one escalates. The caller saves header and progress.
pub(crate) fn fire(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    watch: &Watch<'_>,
    progress: &mut ReminderProgress,
) -> Result<(), Stop> {
    progress.sent = progress.sent.saturating_add(1);
    let details = EventDetails {
        step_id: watch.step_id.to_owned(),
        remind_count: progress.sent,
        ..EventDetails::default()
    };
    note(tx, intent, EventType::Reminder, details)?;
    let id = crate::rows::id_of(intent)?;
    arm(tx, id, watch, progress);
    if progress.next_at_ms == 0 && may_escalate(watch.settings, progress) {
        escalate(tx, intent, watch, progress)?;
    }
    Ok(())
}

/// Whether there is somebody to escalate to who was not asked yet.
pub(crate) fn may_escalate(settings: Option<&Reminders>, progress: &ReminderProgress) -> bool {
    settings.is_some_and(|s| !s.escalate_to.is_empty()) && progress.escalated_to.is_empty()
}

/// Asks the escalation target too. The caller saves header and progress.
pub(crate) fn escalate(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    watch: &Watch<'_>,
    progress: &mut ReminderProgress,
) -> Result<(), Stop> {
    progress.escalated_to = watch.settings.map_or_else(String::new, |s| s.escalate_to.clone());
    let details = EventDetails {
        step_id: watch.step_id.to_owned(),
        escalated_to: progress.escalated_to.clone(),
        ..EventDetails::default()
    };
    note(tx, intent, EventType::Escalated, details)?;
    if !intent.gate_open {
        notices::of_escalation(tx, intent, &progress.escalated_to, watch.step_id)?;
    }
    take_over(tx, intent)
}

/// What an agent left undone goes to the agent that was called in. A question to people stays where it is.
fn take_over(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    let Some(next) = intent.escalate_agent.clone() else {
        return Ok(());
    };
    let former = intent.holder().cloned();
    let same = former.as_ref().is_some_and(|holder| holder.key == next.key);
    // Whoever has begun goes on; the agent that was called in may answer too.
    let begun = intent.status() == Status::InProgress;
    if same || begun || !mailbox::is_deliverable(intent) {
        return Ok(());
    }
    // What was said so far stands when that agent's mailbox is full.
    lifecycle::save(tx, intent)?;
    let mut moved = intent.clone();
    if tx
        .atomically(|tx| handover::transfer(tx, &mut moved, &next, SCHEDULER, "escalated"))?
        .is_ok()
    {
        *intent = moved;
        intent.taken_from = former;
    }
    Ok(())
}

/// Whether the deadline of a step calls somebody in who was not asked yet, and so gives the same time once more. Not
/// when the envelope set it: its end is the end. The caller saves the header.
pub(crate) fn escalates_at_deadline(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    intent: &mut Intent,
) -> Result<bool, Stop> {
    let mut progress = intent.reminded.take().unwrap_or_default();
    let settings = intent.reminders.clone();
    let limits = intent.limits.unwrap_or_default();
    let moves = limits.deadline_ms(intent.created_at_ms).is_none();
    let escalates = moves && intent.step.is_some() && may_escalate(settings.as_ref(), &progress);
    if escalates {
        disarm(tx, id, TimerKind::IntentReminder, &mut progress);
        let span_ms = intent.deadline_at_ms.saturating_sub(intent.created_at_ms);
        let due_ms = tx.now_ms.saturating_add(span_ms);
        intent.deadline_at_ms = due_ms;
        timers::add_deadline(tx, id, due_ms);
        let watch = of_intent(settings.as_ref(), intent);
        escalate(tx, intent, &watch, &mut progress)?;
    }
    let reminded = progress != ReminderProgress::default();
    intent.reminded = reminded.then_some(progress);
    Ok(escalates)
}

/// An event that changes nothing about the status.
fn note(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    kind: EventType,
    details: EventDetails,
) -> Result<(), Stop> {
    if !intent.gate_open {
        scenario::tell_parent(tx, intent, kind, &details)?;
    }
    let entry = Entry::new(kind, intent.status(), SCHEDULER)
        .waiting(intent.waiting_reason())
        .details(details);
    lifecycle::append(tx, intent, entry)?;
    Ok(())
}

/// Fires the reminder timer of an intent.
pub(crate) fn remind_intent(tx: &mut Transaction<'_, '_>, id: IntentId, timer: &Timer) -> Result<(), Stop> {
    let Some(mut intent) = crate::intents::intent(&*tx.tables, id)? else {
        return Ok(());
    };
    let mut progress = intent.reminded.clone().unwrap_or_default();
    if intent.status().is_terminal() || progress.next_at_ms != timer.due_ms {
        return Ok(());
    }
    let settings = intent.reminders.clone();
    let watch = of_intent(settings.as_ref(), &intent);
    fire(tx, &mut intent, &watch, &mut progress)?;
    intent.reminded = Some(progress);
    lifecycle::save(tx, &intent)
}
