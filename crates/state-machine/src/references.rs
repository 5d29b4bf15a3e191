//! References: open deliveries of intents that live in another group, to an agent of this one.
//!
//! A reference is a copy of the intent, header and payload, in the group of its handler. Mailbox cursor, attempts and push
//! state are its own; everything else it only shows. The group of the intent opens and closes it ([`receive`], the other side is
//! [`crate::handover`]) and is told how the attempts stand. Messages of one group arrive in order and once, so a
//! reference is as new as the last of them; what goes the other way is fenced by the handler generation.
//!
//! Open: in the mailbox. Closed: in none, kept for the inbox and for push records until its retention is over.

use crate::apply::Effect;
use crate::envelope;
use crate::handover;
use crate::intents;
use crate::keys;
use crate::lifecycle;
use crate::mailbox;
use crate::pushes;
use crate::retention;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, Transaction, invalid};
use baton_protocol::IntentId;
use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::reference_update::Kind;
use baton_protocol::proto::internal::{
    AgentRef, Intent, IntentRow, Payload, PushState, ReferenceUpdate, Timer, TimerKind,
};
use prost::Message;

/// `reason` of an intent whose new handler has too many open deliveries.
pub(crate) const BACKLOG_FULL: &str = "backlog_full";

/// The row of an intent that lives here, or of the reference to one.
pub(crate) fn row(tables: &dyn Tables, id: IntentId) -> Result<Option<IntentRow>, TableError> {
    match intents::row(tables, id)? {
        Some(row) => Ok(Some(row)),
        None => rows::read(tables, &keys::reference(id)),
    }
}

/// The row, and its header decoded.
pub(crate) fn both(tables: &dyn Tables, id: IntentId) -> Result<Option<(IntentRow, Intent)>, TableError> {
    let Some(row) = row(tables, id)? else {
        return Ok(None);
    };
    let header = rows::decode(&keys::reference(id), row.intent.clone())?;
    Ok(Some((row, header)))
}

/// The header of an intent that lives here, or of the reference to one.
pub(crate) fn header(tables: &dyn Tables, id: IntentId) -> Result<Option<Intent>, TableError> {
    Ok(both(tables, id)?.map(|(_, header)| header))
}

/// Writes a header that [`header`] read.
pub(crate) fn save(tx: &mut Transaction<'_, '_>, header: &Intent) -> Result<(), Stop> {
    if !header.reference {
        return lifecycle::save(tx, header);
    }
    let key = keys::reference(rows::id_of(header)?);
    let mut row: IntentRow = rows::read(&*tx.tables, &key)?.unwrap_or_default();
    row.intent = header.encode_to_vec().into();
    rows::write(tx.tables, key, &row);
    Ok(())
}

/// Whether a header is that of a reference which is in no mailbox any more.
pub(crate) fn is_closed(header: &Intent) -> bool {
    header.reference && header.mailbox_cursor == 0
}

/// Takes in what the group of the intent says.
pub(crate) fn receive(tx: &mut Transaction<'_, '_>, update: &ReferenceUpdate) -> Result<(), Stop> {
    let header = update
        .intent
        .as_ref()
        .ok_or_else(|| invalid("the header is missing"))?;
    let id =
        IntentId::from_slice(&header.intent_id).ok_or_else(|| invalid("intent id must have 16 bytes"))?;
    let holder = mailbox::require_agent(header.holder(), "handler")?.clone();
    tx.require_slot(slot_of(&holder))?;
    let known = stored(tx, id)?;
    if update.kind() == Kind::Open {
        let newer = known
            .as_ref()
            .is_none_or(|k| k.handler_generation < header.handler_generation);
        return match newer && tx.group_of(id.slot()) != tx.ctx.group {
            true => open(tx, id, known, header, update.payload.as_ref()),
            false => Ok(()),
        };
    }
    let Some(known) = known.filter(|k| k.handler_generation == header.handler_generation) else {
        return Ok(());
    };
    match update.kind() {
        Kind::Started => started(tx, id, known, header),
        Kind::Limited => envelope::limited(tx, known, header),
        Kind::Moved => moved(tx, id, known),
        Kind::Ended => ended(tx, id, known, header),
        Kind::Open | Kind::Unspecified => Ok(()),
    }
}

fn stored(tx: &Transaction<'_, '_>, id: IntentId) -> Result<Option<Intent>, TableError> {
    let key = keys::reference(id);
    let Some(row) = rows::read::<IntentRow>(&*tx.tables, &key)? else {
        return Ok(None);
    };
    rows::decode(&key, row.intent).map(Some)
}

/// Puts the delivery in the mailbox of its handler, in place of the one to an earlier handler.
fn open(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    known: Option<Intent>,
    header: &Intent,
    payload: Option<&Payload>,
) -> Result<(), Stop> {
    let mut reference = Intent {
        reference: true,
        mailbox_cursor: 0,
        updated_at_ms: tx.now_ms,
        ..header.clone()
    };
    if let Some(mut known) = known {
        leave(tx, id, &mut known)?;
        // Records of pushes to earlier handlers go when this row goes.
        reference.push = known.push.map(|_| PushState::default());
    }
    let full = tx.atomically(|tx| mailbox::enqueue(tx, &mut reference))?.is_err();
    let row = IntentRow {
        intent: reference.encode_to_vec().into(),
        payload: payload.map(|payload| payload.encode_to_vec().into()),
        ..IntentRow::default()
    };
    rows::write(tx.tables, keys::reference(id), &row);
    if let Some(holder) = reference.holder() {
        tx.tables.put(keys::recipient(holder, id), Vec::new());
    }
    if full {
        handover::report(tx, &reference, Some(BACKLOG_FULL))?;
    }
    Ok(())
}

/// The handler has begun, as the group of the intent knows.
fn started(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    mut known: Intent,
    header: &Intent,
) -> Result<(), Stop> {
    known.status = header.status;
    known.waiting_reason = header.waiting_reason;
    known.last_seq = header.last_seq;
    known.updated_at_ms = tx.now_ms;
    tx.push_effect(Effect::PickedUp { intent_id: id });
    save(tx, &known)
}

/// Another handler has it: this one sees it no more.
fn moved(tx: &mut Transaction<'_, '_>, id: IntentId, mut known: Intent) -> Result<(), Stop> {
    leave(tx, id, &mut known)?;
    if known.push.is_none() {
        tx.tables.delete(keys::reference(id));
        return Ok(());
    }
    known.updated_at_ms = tx.now_ms;
    retire(tx, id, &known)?;
    save(tx, &known)
}

/// It is over: its handler keeps seeing how it ended.
fn ended(tx: &mut Transaction<'_, '_>, id: IntentId, mut known: Intent, last: &Intent) -> Result<(), Stop> {
    mailbox::remove(tx, &mut known)?;
    let reference = Intent {
        reference: true,
        mailbox_cursor: 0,
        push: known.push,
        failed_attempts: known.failed_attempts,
        updated_at_ms: tx.now_ms,
        ..last.clone()
    };
    retire(tx, id, &reference)?;
    save(tx, &reference)
}

/// Takes the delivery out of the mailbox and the inbox of its handler. The caller saves the header.
fn leave(tx: &mut Transaction<'_, '_>, id: IntentId, known: &mut Intent) -> Result<(), Stop> {
    mailbox::remove(tx, known)?;
    if let Some(holder) = known.holder() {
        tx.tables.delete(keys::recipient(holder, id));
    }
    Ok(())
}

/// Attempts are used up: what happens now is for the group of the intent to say.
pub(crate) fn give_up(tx: &mut Transaction<'_, '_>, mut reference: Intent) -> Result<(), Stop> {
    mailbox::remove(tx, &mut reference)?;
    handover::report(tx, &reference, Some(lifecycle::DELIVERY_FAILED))?;
    save(tx, &reference)
}

/// Files a closed reference for removal.
fn retire(tx: &mut Transaction<'_, '_>, id: IntentId, reference: &Intent) -> Result<(), Stop> {
    let kind = TimerKind::ReferenceRetention;
    let (workspace_id, since_ms) = (&reference.workspace_id, tx.now_ms);
    let guard = reference.handler_generation;
    let filed = retention::file(tx, workspace_id, since_ms, id.slot(), kind, id.as_bytes(), guard);
    Ok(filed?)
}

/// Removes a closed reference, unless it was opened again meanwhile.
pub(crate) fn expire(tx: &mut Transaction<'_, '_>, id: IntentId, timer: &Timer) -> Result<(), Stop> {
    let closed = stored(tx, id)?.filter(|k| is_closed(k) && k.handler_generation == timer.guard);
    let Some(reference) = closed else {
        return Ok(());
    };
    pushes::erase(tx, &reference)?;
    if let Some(holder) = reference.holder() {
        tx.tables.delete(keys::recipient(holder, id));
    }
    tx.tables.delete(keys::reference(id));
    Ok(())
}

/// Whether the agent is in this group.
pub(crate) fn is_near(tx: &Transaction<'_, '_>, agent: &AgentRef) -> bool {
    tx.group_of(slot_of(agent)) == tx.ctx.group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::BACKLOG_DELIVERIES_MAX;
    use crate::testing::{Replica, actor, agent, intent_id, settle, submit};
    use crate::write_batch::WriteBatch;
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{AgentState, EventType, KeyKind, ResumeIntent, resume_intent};

    #[test]
    fn a_full_mailbox_elsewhere_ends_the_intent_and_says_why() {
        let mut groups: Vec<_> = (0..=2).map(|g| Replica::new(g, 2)).collect();
        let map = groups[0].ctx.map;
        let home = |name: &str| map.group_of(slot_of(&agent(name))).0 as usize;
        let far = (0..99).map(|n| format!("far{n}"));
        let far = far.into_iter().find(|name| home(name) != home("worker")).unwrap();
        let full = AgentState {
            last_cursor: 7,
            open_deliveries: BACKLOG_DELIVERIES_MAX,
        };
        let changes = {
            let mut batch = WriteBatch::new(&groups[home(&far)].tables);
            rows::write(&mut batch, keys::agent(&agent(&far)), &full);
            batch.finish().unwrap()
        };
        groups[home(&far)].tables.commit(changes);
        let at = home("worker");
        let id = intent_id(&agent("worker"), 1);
        groups[at].run(Body::Submit(submit("worker", 1)));
        groups[at].run(Body::Resume(ResumeIntent {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: id.to_bytes(),
            kind: resume_intent::Kind::Control.into(),
            approve: true,
            next_handler: Some(agent(&far)),
            ..ResumeIntent::default()
        }));
        settle(&mut groups);
        let events = groups[at].events(id);
        let kinds: Vec<_> = events.iter().skip(3).map(|e| e.r#type()).collect();
        use EventType::{DeliveryFailed, Failed, Transfer};
        assert_eq!(kinds, [Transfer, DeliveryFailed, Failed]);
        assert_eq!(events[5].details.as_ref().unwrap().reason, BACKLOG_FULL);
        let state: Option<AgentState> =
            rows::read(&groups[home(&far)].tables, &keys::agent(&agent(&far))).unwrap();
        assert_eq!(state.unwrap().open_deliveries, BACKLOG_DELIVERIES_MAX);
    }
}
