//! The life of an intent: birth, transitions, the end, and removal after retention.

use crate::gates::{self, NewGate};
use crate::handover;
use crate::intents;
use crate::keys;
use crate::mailbox;
use crate::notices;
use crate::outbox;
use crate::pushes;
use crate::reminders;
use crate::rows;
use crate::scenario;
use crate::tables::TableError;
use crate::timers;
use crate::transaction::{Appended, Stop, Transaction, reject, reply};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::{
    CompletionNotice, CompletionQueued, Event, EventDetails, EventType, HumanTask, Intent, Payload,
    PendingWith, ReminderProgress, Reply, Status, StepFinished, TimerKind, Transitioned, WaitingReason,
    outbox_message, reply as outcome,
};
use baton_protocol::{ErrorCode, IntentId};
use std::borrow::Cow;

/// Events of a submit. They are expanded from the header, never stored.
pub(crate) const BIRTH_EVENTS: u32 = 3;
/// Results up to this size travel with the completion notice.
const NOTICE_RESULT_BYTES_MAX: usize = 64 * 1024;
/// `actor` of events that a gateway causes.
const GATEWAY: &str = "gateway";
/// `actor` of events that timers and failed deliveries cause.
pub(crate) const SCHEDULER: &str = "scheduler";

/// The first three events of an intent: created, submitted, delivered.
#[must_use]
pub fn birth_events(intent: &Intent) -> Vec<Event> {
    let sender = [intent.from_agent.as_str(), &intent.submitted_by, GATEWAY]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or(GATEWAY);
    let event = |seq, kind: EventType, status: Status, actor: &str| Event {
        intent_id: intent.intent_id.clone(),
        seq,
        r#type: kind.into(),
        status: status.into(),
        actor: actor.to_owned(),
        at_ms: intent.created_at_ms,
        ..Event::default()
    };
    let mut delivered = event(3, EventType::Delivered, Status::Delivered, GATEWAY);
    if let Some(agent) = &intent.to_agent {
        delivered.handler = agent.address.clone();
        delivered.pending_with = Some(PendingWith::on(agent, ""));
    }
    vec![
        event(1, EventType::Created, Status::Created, sender),
        event(2, EventType::Submitted, Status::Submitted, GATEWAY),
        delivered,
    ]
}

/// Writes a new intent: header, payload, mailbox entry, indexes, deadline. The caller has filled in who and what.
pub(crate) fn create(
    tx: &mut Transaction<'_, '_>,
    intent: Intent,
    payload: Option<&Payload>,
) -> Result<Intent, Stop> {
    birth(tx, intent, payload, false)
}

/// [`create`] of an intent that asks a person at once. Its reminders are those of the task, and it is delivered to nobody.
pub(crate) fn create_asking(
    tx: &mut Transaction<'_, '_>,
    intent: Intent,
    payload: Option<&Payload>,
    task: HumanTask,
) -> Result<Intent, Stop> {
    let mut intent = birth(tx, intent, payload, true)?;
    let gate = NewGate {
        task,
        reminders: intent.reminders.clone(),
        ..NewGate::default()
    };
    gates::open(tx, &mut intent, gate)?;
    save(tx, &intent)?;
    Ok(intent)
}

fn birth(
    tx: &mut Transaction<'_, '_>,
    mut intent: Intent,
    payload: Option<&Payload>,
    asks: bool,
) -> Result<Intent, Stop> {
    let id = rows::id_of(&intent)?;
    intent.status = Status::Delivered.into();
    intent.last_seq = BIRTH_EVENTS;
    intent.created_at_ms = tx.now_ms;
    intent.updated_at_ms = tx.now_ms;
    intent.handler = None;
    intent.pending_with = None;
    intent.payload_bytes = payload.map_or(0, |p| p.data.len() as u64);
    if mailbox::is_deliverable(&intent) {
        if !asks {
            mailbox::enqueue(tx, &mut intent)?;
        }
        if let Some(agent) = &intent.to_agent {
            tx.tables.insert(keys::recipient(agent, id), Vec::new());
        }
    }
    timers::add_deadline(tx, id, intent.deadline_at_ms);
    if !asks && let Some(settings) = intent.reminders.clone() {
        let mut progress = ReminderProgress::default();
        reminders::arm(
            tx,
            id,
            &reminders::of_intent(Some(&settings), &intent),
            &mut progress,
        );
        intent.reminded = (progress.next_at_ms != 0).then_some(progress);
    }
    intents::insert(tx.tables, id, &intent, payload);
    tx.count_born();
    Ok(intent)
}

/// Writes the header, and what was appended since it was last written.
pub(crate) fn save(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Result<(), Stop> {
    let id = rows::id_of(intent)?;
    Ok(tx.save_intent(id, intent)?)
}

/// Brings the number of intents up to date, for everything that the entry created and removed.
pub(crate) fn count(tx: &mut Transaction<'_, '_>) -> Result<(), TableError> {
    let (born, erased) = tx.take_counts();
    if born != erased {
        let before = rows::read_u64(&*tx.tables, &keys::intent_count())?.unwrap_or(0);
        let after = before.saturating_add(born).saturating_sub(erased);
        rows::write_u64(tx.tables, keys::intent_count(), after);
    }
    Ok(())
}

/// One event to append, with the status the intent has after it.
#[derive(Debug)]
pub(crate) struct Entry<'e> {
    pub(crate) kind: EventType,
    pub(crate) status: Status,
    pub(crate) waiting: WaitingReason,
    pub(crate) actor: &'e str,
    pub(crate) details: Option<EventDetails>,
}

impl<'e> Entry<'e> {
    pub(crate) fn new(kind: EventType, status: Status, actor: &'e str) -> Self {
        Self {
            kind,
            status,
            waiting: WaitingReason::Unspecified,
            actor,
            details: None,
        }
    }

    pub(crate) fn waiting(mut self, reason: WaitingReason) -> Self {
        self.waiting = reason;
        self
    }

    pub(crate) fn details(mut self, details: EventDetails) -> Self {
        self.details = Some(details);
        self
    }
}

/// Refuses any call on an intent that is over.
pub(crate) fn require_open(intent: &Intent) -> Result<(), Stop> {
    if intent.status().is_terminal() {
        return Err(reject(
            ErrorCode::IntentTerminal,
            format!("intent is already {}", intent.status().wire_name()),
        ));
    }
    Ok(())
}

/// Appends one event and moves the header with it. Both are stored when the caller saves the header.
pub(crate) fn append(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    entry: Entry<'_>,
) -> Result<Appended, Stop> {
    require_open(intent)?;
    let from = intent.status();
    if entry.status != from && !from.may_become(entry.status) {
        return Err(reject(
            ErrorCode::Conflict,
            format!(
                "an intent cannot go from {} to {}",
                from.wire_name(),
                entry.status.wire_name()
            ),
        ));
    }
    intent.last_seq = intent.last_seq.saturating_add(1);
    intent.status = entry.status.into();
    intent.waiting_reason = entry.waiting.into();
    intent.updated_at_ms = tx.now_ms;
    let event = Event {
        intent_id: intent.intent_id.clone(),
        seq: intent.last_seq,
        r#type: entry.kind.into(),
        status: entry.status.into(),
        waiting_reason: entry.waiting.into(),
        handler: intent.holder().map_or_else(String::new, |a| a.address.clone()),
        pending_with: intent.pending().map(Cow::into_owned),
        actor: entry.actor.to_owned(),
        at_ms: tx.now_ms,
        details: entry.details,
    };
    Ok(tx.append_event(event))
}

/// Appends `intent.in_progress` unless the intent is in progress already. An empty `reason` is none.
pub(crate) fn start_work(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    actor: &str,
    reason: &str,
) -> Result<Option<Appended>, Stop> {
    let details = (!reason.is_empty()).then(|| EventDetails {
        reason: reason.to_owned(),
        ..EventDetails::default()
    });
    begin(tx, intent, actor, details)
}

/// [`start_work`] with what there is to say about it.
pub(crate) fn begin(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    actor: &str,
    details: Option<EventDetails>,
) -> Result<Option<Appended>, Stop> {
    if intent.status() == Status::InProgress {
        return Ok(None);
    }
    if intent.waiting_reason() == WaitingReason::Tool {
        intent.pending_with = None;
    }
    let entry = Entry {
        details,
        ..Entry::new(EventType::InProgress, Status::InProgress, actor)
    };
    append(tx, intent, entry).map(Some)
}

/// How an intent ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) event: Appended,
    pub(crate) completion: Option<CompletionQueued>,
}

/// Ends an intent: terminal event, mailbox and timers, completion to `reply_to` or the parent. Saves the header.
pub(crate) fn finish(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    status: Status,
    actor: &str,
    details: EventDetails,
) -> Result<Finished, Stop> {
    require_open(intent)?;
    let id = rows::id_of(intent)?;
    let before = intent.status();
    let kind = EventType::for_status(status).unwrap_or(EventType::Unspecified);
    gates::close(tx, intent, None)?;
    if let Some(progress) = &mut intent.reminded {
        reminders::disarm(tx, id, TimerKind::IntentReminder, progress);
    }
    intent.pending_with = None;
    let event = append(
        tx,
        intent,
        Entry::new(kind, status, actor).details(details.clone()),
    )?;
    mailbox::remove(tx, intent)?;
    handover::ended(tx, intent)?;
    timers::remove_deadline(tx, id, intent.deadline_at_ms);
    timers::retire_for(
        tx,
        &intent.workspace_id,
        id.slot(),
        TimerKind::IntentRetention,
        id.to_bytes(),
    );
    let completion = notify_reply_to(tx, intent, &details)?;
    notify_parent(tx, intent, before, details)?;
    if intent.scenario_parent {
        scenario::parent_ended(tx, intent, actor)?;
    }
    save(tx, intent)?;
    Ok(Finished { event, completion })
}

fn notify_reply_to(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    details: &EventDetails,
) -> Result<Option<CompletionQueued>, Stop> {
    let Some(owner) = intent.reply_to.clone() else {
        return Ok(None);
    };
    let notice = CompletionNotice {
        intent_id: intent.intent_id.clone(),
        from_agent: intent.from_agent.clone(),
        to_agent: mailbox::recipient_address(intent),
        intent_type: intent.intent_type.clone(),
        status: intent.status,
        created_at_ms: intent.created_at_ms,
        result: details
            .result
            .clone()
            .filter(|r| r.data.len() <= NOTICE_RESULT_BYTES_MAX),
        owner: Some(owner.clone()),
    };
    let target = tx.group_of(slot_of(&owner));
    let outbox_seq = outbox::send(tx, target, outbox_message::Body::Completion(notice))?;
    intent.completion_queued = true;
    Ok(Some(CompletionQueued {
        reply_to: Some(owner),
        target_group: target.0,
        outbox_seq,
    }))
}

fn notify_parent(
    tx: &mut Transaction<'_, '_>,
    intent: &Intent,
    before: Status,
    details: EventDetails,
) -> Result<(), Stop> {
    let Some(step) = &intent.step else {
        return Ok(());
    };
    let Some(parent) = IntentId::from_slice(&step.parent_intent_id) else {
        return Ok(());
    };
    let exhausted =
        intent.failed_attempts >= intent.max_delivery_attempts && details.reason == DELIVERY_FAILED;
    // Picking up is soft state of the leader; a step that never left DELIVERED counts as not picked up.
    let unseen = intent.status() == Status::TimedOut && before == Status::Delivered;
    let message = StepFinished {
        parent_intent_id: step.parent_intent_id.clone(),
        step_id: step.step_id.clone(),
        run: step.run,
        step_intent_id: intent.intent_id.clone(),
        status: intent.status,
        result: details.result.or(details.error),
        reason: details.reason,
        delivery_failed: exhausted || unseen,
        delivery_attempt: intent.failed_attempts,
        max_delivery_attempts: intent.max_delivery_attempts,
    };
    let target = tx.group_of(parent.slot());
    outbox::send(tx, target, outbox_message::Body::StepFinished(message))?;
    Ok(())
}

/// `reason` of an intent that ran out of delivery attempts.
pub(crate) const DELIVERY_FAILED: &str = "delivery_failed";

/// Removes every row of a terminal intent.
pub(crate) fn erase(tx: &mut Transaction<'_, '_>, id: IntentId) -> Result<(), Stop> {
    let Some(intent) = intents::intent(&*tx.tables, id)?.filter(|i| i.status().is_terminal()) else {
        return Ok(());
    };
    if let Some(agent) = &intent.to_agent {
        tx.tables.delete(keys::recipient(agent, id));
    }
    handover::forget_receipt(tx, id, &intent);
    if intent.scenario_parent {
        tx.tables.delete(keys::scenario(id));
    }
    pushes::erase(tx, &intent)?;
    gates::erase(tx, id, &intent);
    notices::erase(tx, id, &intent)?;
    intents::erase(tx.tables, id, intent.last_seq)?;
    tx.count_erased();
    Ok(())
}

/// The last event of an intent whose header is saved.
pub(crate) fn last_event(tx: &Transaction<'_, '_>, intent: &Intent) -> Result<Option<Event>, Stop> {
    let id = rows::id_of(intent)?;
    match intents::row(&*tx.tables, id)? {
        Some(row) => Ok(intents::event(&*tx.tables, id, &row, intent.last_seq)?),
        None => Ok(None),
    }
}

/// Answer of resolve, resume, controls and policy.
pub(crate) fn transitioned(
    intent: Intent,
    event: Option<Event>,
    applied: bool,
    completion: Option<CompletionQueued>,
) -> Reply {
    reply(outcome::Outcome::Transitioned(Transitioned {
        policy_generation: intent.policy_generation,
        intent: Some(intent),
        event,
        applied,
        completion,
    }))
}
