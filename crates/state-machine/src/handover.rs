//! Handing an intent to another agent, as the group of the intent does it.
//!
//! The delivery to an agent of this group is a row of its mailbox here. For an agent of another group it is a reference
//! there ([`crate::references`]), opened and closed by messages that name the handler generation.

use crate::commands::fail_attempt;
use crate::intents;
use crate::keys;
use crate::lifecycle::{self, Entry};
use crate::mailbox;
use crate::outbox;
use crate::references::{self, BACKLOG_FULL};
use crate::rows;
use crate::scenario;
use crate::transaction::{Appended, Stop, Transaction, invalid, reject};
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::reference_update::Kind;
use baton_protocol::proto::internal::{
    AgentRef, EventDetails, EventType, Intent, Payload, ReferenceReport, ReferenceUpdate, Status,
    WaitingReason, outbox_message,
};
use baton_protocol::{ErrorCode, GroupId, IntentId};
use bytes::Bytes;

/// Messages that may wait for a group before nothing more is handed to its agents: each handover is a copy of the payload, which
/// stays here until that group has taken it.
pub(crate) const HANDOVERS_WAITING_MAX: u64 = 1_024;

/// The group that delivers an intent of this one, when it is another.
pub(crate) fn away(tx: &Transaction<'_, '_>, intent: &Intent) -> Option<GroupId> {
    let transferred = intent.handler_generation > 0 && !intent.reference;
    let holder = intent
        .holder()
        .filter(|_| transferred && mailbox::is_deliverable(intent))?;
    Some(tx.group_of(slot_of(holder))).filter(|group| *group != tx.ctx.group)
}

/// Hands the intent to `next`, who has all attempts before it. The caller saves the header.
pub(crate) fn transfer(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    next: &AgentRef,
    actor: &str,
    reason: &str,
) -> Result<Appended, Stop> {
    let next = mailbox::require_agent(Some(next), "next_handler")?;
    if intent.scenario_parent {
        return Err(invalid(
            "a scenario cannot be transferred; transfer its step intent",
        ));
    }
    refuse_flood(tx, next)?;
    let id = rows::id_of(intent)?;
    let left = away(tx, intent).map(|group| (group, carried(intent)));
    mailbox::remove(tx, intent)?;
    forget_receipt(tx, id, intent);
    intent.handler = Some(next.clone());
    intent.handler_generation = intent.handler_generation.saturating_add(1);
    intent.failed_attempts = 0;
    intent.pending_with = None;
    intent.taken_from = None;
    let details = EventDetails {
        next_handler: next.address.clone(),
        reason: reason.to_owned(),
        ..EventDetails::default()
    };
    scenario::tell_parent(tx, intent, EventType::Transfer, &details)?;
    let entry = Entry::new(EventType::Transfer, Status::Waiting, actor)
        .waiting(WaitingReason::Agent)
        .details(details);
    let event = lifecycle::append(tx, intent, entry)?;
    let now_at = away(tx, intent);
    // Within one group, the new reference takes the place of the old one.
    if let Some((group, header)) = left.filter(|(group, _)| Some(*group) != now_at) {
        send(tx, group, Kind::Moved, header, None)?;
    }
    match now_at {
        Some(group) => open_in(tx, group, id, intent)?,
        None if mailbox::is_deliverable(intent) => {
            mailbox::enqueue(tx, intent)?;
            tx.tables.put(keys::recipient(next, id), Vec::new());
        }
        None => {}
    }
    Ok(event)
}

/// Refuses a handover to a group that takes no messages.
fn refuse_flood(tx: &Transaction<'_, '_>, next: &AgentRef) -> Result<(), Stop> {
    let target = tx.group_of(slot_of(next));
    if target != tx.ctx.group && outbox::waiting(tx, target)? >= HANDOVERS_WAITING_MAX {
        return Err(reject(
            ErrorCode::BacklogFull,
            "too much waits for the group of this agent; retry when it has caught up",
        ));
    }
    Ok(())
}

/// Takes the intent out of the inbox of a handler of this group that it was handed to. It stays in that of the agent it was
/// sent to.
pub(crate) fn forget_receipt(tx: &mut Transaction<'_, '_>, id: IntentId, intent: &Intent) {
    let sent_to = intent.to_agent.as_ref().map(|agent| &agent.key);
    if let Some(handler) = &intent.handler
        && intent.handler_generation > 0
        && Some(&handler.key) != sent_to
        && references::is_near(tx, handler)
    {
        tx.tables.delete(keys::recipient(handler, id));
    }
}

/// Tells the group of the handler that somebody works on the intent.
pub(crate) fn started(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Result<(), Stop> {
    tell(tx, intent, Kind::Started)
}

/// Tells the group of the handler that the intent is over.
pub(crate) fn ended(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Result<(), Stop> {
    tell(tx, intent, Kind::Ended)
}

/// The handler waits for something outside: its delivery is taken back. Before the status says so.
pub(crate) fn suspend(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Result<(), Stop> {
    tell(tx, intent, Kind::Moved)
}

/// Delivers to the same handler what was taken back, under a generation of its own. The caller saves the header.
pub(crate) fn deliver_again(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    if let Some(group) = away(tx, intent) {
        intent.handler_generation = intent.handler_generation.saturating_add(1);
        let id = rows::id_of(intent)?;
        return open_in(tx, group, id, intent);
    }
    if mailbox::is_deliverable(intent) {
        mailbox::enqueue(tx, intent)?;
    }
    Ok(())
}

/// Tells the group of the handler what the envelope bounds now.
pub(crate) fn limited(tx: &mut Transaction<'_, '_>, intent: &Intent) -> Result<(), Stop> {
    tell(tx, intent, Kind::Limited)
}

/// Says something to the group that delivers the intent, when it is another.
fn tell(tx: &mut Transaction<'_, '_>, intent: &Intent, kind: Kind) -> Result<(), Stop> {
    match away(tx, intent) {
        Some(group) => send(tx, group, kind, carried(intent), None),
        None => Ok(()),
    }
}

/// Opens a reference in `group`, with the payload.
fn open_in(tx: &mut Transaction<'_, '_>, group: GroupId, id: IntentId, intent: &Intent) -> Result<(), Stop> {
    let row = intents::row(&*tx.tables, id)?.unwrap_or_default();
    let payload = intents::payload(&*tx.tables, id, &row)?;
    send(tx, group, Kind::Open, carried(intent), payload)
}

/// What a delivery shows of an intent.
fn carried(intent: &Intent) -> Intent {
    Intent {
        controls: Bytes::new(),
        grants: Bytes::new(),
        envelope: Bytes::new(),
        push: None,
        timed: None,
        taken_from: None,
        mailbox_cursor: 0,
        ..intent.clone()
    }
}

fn send(
    tx: &mut Transaction<'_, '_>,
    group: GroupId,
    kind: Kind,
    header: Intent,
    payload: Option<Payload>,
) -> Result<(), Stop> {
    let update = ReferenceUpdate {
        kind: kind.into(),
        intent: Some(header),
        payload,
    };
    outbox::send(tx, group, outbox_message::Body::ReferenceUpdate(update))?;
    Ok(())
}

/// Tells the group of the intent how the attempts at a reference stand; with a reason when there are no more.
pub(crate) fn report(
    tx: &mut Transaction<'_, '_>,
    reference: &Intent,
    given_up: Option<&str>,
) -> Result<(), Stop> {
    let id = rows::id_of(reference)?;
    let report = ReferenceReport {
        intent_id: reference.intent_id.clone(),
        handler_generation: reference.handler_generation,
        failed_attempts: reference.failed_attempts,
        given_up: given_up.is_some(),
        reason: given_up.unwrap_or_default().to_owned(),
        in_progress: reference.status() == Status::InProgress,
    };
    let body = outbox_message::Body::ReferenceReport(report);
    outbox::send(tx, tx.group_of(id.slot()), body)?;
    Ok(())
}

/// Takes in a [`report`]. One about a handler who has it no more is old news.
pub(crate) fn reported(tx: &mut Transaction<'_, '_>, report: &ReferenceReport) -> Result<(), Stop> {
    let Some(id) = IntentId::from_slice(&report.intent_id) else {
        return Ok(());
    };
    let current = intents::intent(&*tx.tables, id)?.filter(|intent| {
        !intent.status().is_terminal() && intent.handler_generation == report.handler_generation
    });
    let Some(mut intent) = current.filter(|intent| away(tx, intent).is_some()) else {
        return Ok(());
    };
    intent.failed_attempts = intent.failed_attempts.max(report.failed_attempts);
    if report.given_up {
        return given_up(tx, intent, report);
    }
    lifecycle::save(tx, &intent)
}

/// There will be no more attempts elsewhere. The intent ends, unless something else can still be done.
fn given_up(tx: &mut Transaction<'_, '_>, mut intent: Intent, report: &ReferenceReport) -> Result<(), Stop> {
    // Somebody began, which was not known there: that handler is asked anew.
    if intent.status() == Status::InProgress && !report.in_progress {
        intent.failed_attempts = 0;
        deliver_again(tx, &mut intent)?;
        return lifecycle::save(tx, &intent);
    }
    // An escalation to somebody who takes nothing must not cost the one who could still answer.
    if let Some(former) = intent
        .taken_from
        .clone()
        .filter(|_| report.reason == BACKLOG_FULL)
    {
        let mut back = intent.clone();
        let taken =
            tx.atomically(|tx| transfer(tx, &mut back, &former, lifecycle::SCHEDULER, BACKLOG_FULL))?;
        if taken.is_ok() {
            return lifecycle::save(tx, &back);
        }
    }
    fail_attempt::give_up(tx, &mut intent, &report.reason)
}

#[cfg(test)]
mod tests;
