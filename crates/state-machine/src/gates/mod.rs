//! Human tasks. A gate is one question to a person that an intent waits with; `answer_task` answers it, and whatever
//! ends the intent closes it. An intent has at most one open gate; its row stays as a record until the intent goes.

mod deadline;
pub(crate) mod list;

pub(crate) use deadline::{expire, remind};

use crate::keys;
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::notices;
use crate::reminders::{self, Watch};
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::timers;
use crate::transaction::{Stop, Transaction, reject};
use baton_protocol::proto::internal::pending_with::Kind;
use baton_protocol::proto::internal::{
    EventDetails, EventType, Gate, HumanTask, Intent, NoticeKind, PendingWith, ReminderProgress, Reminders,
    Status, TaskAnswer, TimerKind, WaitingReason,
};
use baton_protocol::{ErrorCode, IntentId};

/// A question to open.
#[derive(Debug, Default)]
pub(crate) struct NewGate {
    pub(crate) task: HumanTask,
    /// Who is asked; absent = the first assignee, or any human.
    pub(crate) pending_with: Option<PendingWith>,
    pub(crate) reminders: Option<Reminders>,
    /// Log time in milliseconds; 0 = no deadline of its own.
    pub(crate) due_at_ms: u64,
    /// The step of a scenario that asks; empty for a direct intent.
    pub(crate) step_id: String,
}

/// The latest gate of an intent.
pub(crate) fn find(tables: &dyn Tables, id: IntentId, intent: &Intent) -> Result<Option<Gate>, TableError> {
    if intent.gate_generation == 0 {
        return Ok(None);
    }
    rows::read(tables, &keys::gate(id))
}

/// The gate that waits for its answer.
pub(crate) fn find_open(
    tables: &dyn Tables,
    id: IntentId,
    intent: &Intent,
) -> Result<Option<Gate>, TableError> {
    if intent.gate_open {
        find(tables, id, intent)
    } else {
        Ok(None)
    }
}

/// Opens a gate: the intent waits for a human, its reminders and deadline start now. The caller saves the header.
pub(crate) fn open(tx: &mut Transaction<'_, '_>, intent: &mut Intent, new: NewGate) -> Result<(), Stop> {
    refuse_while_open(intent)?;
    let id = rows::id_of(intent)?;
    let pending_with = new.pending_with.unwrap_or_else(|| asked(&new.task));
    let mut gate = Gate {
        generation: intent.gate_generation.saturating_add(1),
        task: Some(new.task.clone()),
        pending_with: Some(pending_with.clone()),
        assigned_at_ms: tx.now_ms,
        due_at_ms: new.due_at_ms,
        reminders: new.reminders,
        step_id: new.step_id.clone(),
        ..Gate::default()
    };
    intent.gate_generation = gate.generation;
    intent.gate_open = true;
    intent.pending_with = Some(pending_with);
    if gate.due_at_ms != 0 {
        add_deadline(tx, id, &gate);
    }
    let mut progress = ReminderProgress::default();
    reminders::arm(tx, id, &watch(&gate), &mut progress);
    gate.reminded = Some(progress);
    rows::write(tx.tables, keys::gate(id), &gate);
    notices::of_task(tx, intent, &gate, NoticeKind::TaskAssigned)?;
    tx.tables
        .insert(keys::open_task(&intent.workspace_id, id), Vec::new());
    let waits = |kind, details| {
        Entry::new(kind, Status::Waiting, SCHEDULER)
            .waiting(WaitingReason::Human)
            .details(details)
    };
    let asking = EventDetails {
        step_id: new.step_id,
        ..EventDetails::default()
    };
    lifecycle::append(tx, intent, waits(EventType::Waiting, asking.clone()))?;
    let assigned = EventDetails {
        human_task: Some(new.task),
        deadline_at_ms: gate.due_at_ms,
        ..asking
    };
    lifecycle::append(tx, intent, waits(EventType::HumanTaskAssigned, assigned))?;
    Ok(())
}

/// Closes the open gate, with the answer if it got one. The caller saves the header.
pub(crate) fn close(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    answer: Option<TaskAnswer>,
) -> Result<(), Stop> {
    let id = rows::id_of(intent)?;
    let Some(mut gate) = find_open(&*tx.tables, id, intent)? else {
        return Ok(());
    };
    intent.gate_open = false;
    intent.pending_with = None;
    tx.tables.delete(keys::open_task(&intent.workspace_id, id));
    remove_deadline(tx, id, &gate);
    notices::drop_of_tasks(tx, id, intent)?;
    if let Some(progress) = &mut gate.reminded {
        reminders::disarm(tx, id, TimerKind::GateReminder, progress);
    }
    gate.answer = answer;
    rows::write(tx.tables, keys::gate(id), &gate);
    Ok(())
}

/// Removes what is left of the gates of an intent that is erased.
pub(crate) fn erase(tx: &mut Transaction<'_, '_>, id: IntentId, intent: &Intent) {
    if intent.gate_generation != 0 {
        tx.tables.delete(keys::gate(id));
    }
}

/// Nothing but the answer, or the end of the intent, passes an open gate.
pub(crate) fn refuse_while_open(intent: &Intent) -> Result<(), Stop> {
    if intent.gate_open {
        return Err(reject(
            ErrorCode::Conflict,
            "the intent waits for a human task; answer it with task_result, or resolve the intent",
        ));
    }
    Ok(())
}

/// Who is asked when nobody is named.
fn asked(task: &HumanTask) -> PendingWith {
    let name = task.assignees.first().map_or("human", String::as_str);
    PendingWith {
        kind: Kind::Human.into(),
        r#ref: name.to_owned(),
        name: name.to_owned(),
    }
}

fn watch(gate: &Gate) -> Watch<'_> {
    Watch {
        settings: gate.reminders.as_ref(),
        started_at_ms: gate.assigned_at_ms,
        step_id: &gate.step_id,
        kind: TimerKind::GateReminder,
        guard: gate.generation,
    }
}

fn add_deadline(tx: &mut Transaction<'_, '_>, id: IntentId, gate: &Gate) {
    let (due_ms, slot) = (gate.due_at_ms, id.slot());
    timers::add(
        tx,
        due_ms,
        slot,
        TimerKind::GateDeadline,
        id.as_bytes(),
        gate.generation,
    );
}

fn remove_deadline(tx: &mut Transaction<'_, '_>, id: IntentId, gate: &Gate) {
    if gate.due_at_ms != 0 {
        timers::remove(
            tx,
            gate.due_at_ms,
            id.slot(),
            TimerKind::GateDeadline,
            id.as_bytes(),
        );
    }
}
