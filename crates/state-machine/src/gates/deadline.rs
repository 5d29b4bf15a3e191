//! What happens to a gate that nobody answers: reminders, escalation, its deadline.

use super::{add_deadline, close, find_open, watch};
use crate::intents;
use crate::keys;
use crate::lifecycle::{self, SCHEDULER};
use crate::notices;
use crate::reminders;
use crate::rows;
use crate::scenario_gates;
use crate::transaction::{Stop, Transaction};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{EventDetails, Gate, Intent, NoticeKind, Status, Timer, TimerKind};

/// The open gate that a timer was armed for.
fn guarded(tx: &Transaction<'_, '_>, id: IntentId, generation: u64) -> Result<Option<(Intent, Gate)>, Stop> {
    let Some(intent) = intents::intent(&*tx.tables, id)? else {
        return Ok(None);
    };
    let gate = find_open(&*tx.tables, id, &intent)?.filter(|gate| gate.generation == generation);
    Ok(gate.map(|gate| (intent, gate)))
}

/// Fires the reminder timer of a gate.
pub(crate) fn remind(tx: &mut Transaction<'_, '_>, id: IntentId, timer: &Timer) -> Result<(), Stop> {
    let Some((mut intent, mut gate)) = guarded(tx, id, timer.guard)? else {
        return Ok(());
    };
    let mut progress = gate.reminded.take().unwrap_or_default();
    if progress.next_at_ms != timer.due_ms {
        return Ok(());
    }
    let before = progress.clone();
    reminders::fire(tx, &mut intent, &watch(&gate), &mut progress)?;
    let escalated = progress.escalated_to != before.escalated_to;
    gate.reminded = Some(progress);
    rows::write(tx.tables, keys::gate(id), &gate);
    notices::of_task(tx, &mut intent, &gate, NoticeKind::TaskReminder)?;
    if escalated {
        notices::of_task(tx, &mut intent, &gate, NoticeKind::TaskEscalated)?;
    }
    lifecycle::save(tx, &intent)
}

/// Fires the deadline of a gate. One that was not escalated yet, and can be, gets the same time once more; otherwise it
/// closes unanswered.
pub(crate) fn expire(tx: &mut Transaction<'_, '_>, id: IntentId, timer: &Timer) -> Result<(), Stop> {
    let Some((mut intent, mut gate)) = guarded(tx, id, timer.guard)? else {
        return Ok(());
    };
    if gate.due_at_ms != timer.due_ms {
        return Ok(());
    }
    let mut progress = gate.reminded.take().unwrap_or_default();
    if reminders::may_escalate(gate.reminders.as_ref(), &progress) {
        reminders::disarm(tx, id, TimerKind::GateReminder, &mut progress);
        reminders::escalate(tx, &mut intent, &watch(&gate), &mut progress)?;
        let span_ms = gate.due_at_ms.saturating_sub(gate.assigned_at_ms);
        gate.due_at_ms = tx.now_ms.saturating_add(span_ms);
        gate.reminded = Some(progress);
        add_deadline(tx, id, &gate);
        rows::write(tx.tables, keys::gate(id), &gate);
        notices::of_task(tx, &mut intent, &gate, NoticeKind::TaskEscalated)?;
        return lifecycle::save(tx, &intent);
    }
    close(tx, &mut intent, None)?;
    if intent.scenario_parent {
        scenario_gates::expired(tx, &mut intent)?;
    } else {
        let details = EventDetails {
            deadline_at_ms: gate.due_at_ms,
            ..EventDetails::default()
        };
        lifecycle::finish(tx, &mut intent, Status::TimedOut, SCHEDULER, details)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::next_due_ms;
    use crate::testing::{Replica, START_MS, actor, ask, intent_id_in, refusal, submit, transition};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        AnswerTask, EventType, HumanTask, KeyKind, Pulse, Reminders, ResolveIntent, Status, SubmitIntent,
    };

    fn every(after: u32, interval: u32, max: u32, escalate_to: &str) -> Option<Reminders> {
        Some(Reminders {
            remind_after_seconds: after,
            remind_interval_seconds: interval,
            max_reminders: max,
            escalate_to: escalate_to.into(),
        })
    }

    fn asked(reminders: Option<Reminders>, deadline_ms: u64) -> Replica {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(SubmitIntent {
            reminders,
            deadline_at_ms: deadline_ms,
            ..ask(HumanTask::default(), 1)
        }));
        replica
    }

    /// Fires every timer at its own time; the events and the seconds they came at.
    fn fire_all(replica: &mut Replica) -> Vec<(u64, EventType)> {
        let mut seen = Vec::new();
        while let Some(due_ms) = next_due_ms(&replica.tables).unwrap() {
            replica.now_ms = replica.now_ms.max(due_ms);
            replica.run(Body::Pulse(Pulse {}));
            let events = replica.last.events.iter();
            seen.extend(events.map(|e| ((e.at_ms - START_MS) / 1_000, e.r#type())));
        }
        seen
    }

    #[test]
    fn reminders_come_at_start_plus_n_intervals() {
        use EventType::{Escalated, Reminder, TimedOut};
        for (reminders, deadline_s, expected) in [
            (
                every(30, 30, 3, ""),
                180,
                vec![(30, Reminder), (60, Reminder), (90, Reminder), (180, TimedOut)],
            ),
            (
                every(10, 0, 0, ""),
                0,
                vec![(10, Reminder), (20, Reminder), (30, Reminder)],
            ),
            (
                every(5, 7, 2, "ops"),
                0,
                vec![(5, Reminder), (12, Reminder), (12, Escalated)],
            ),
            (every(5, 5, 3, "ops"), 6, vec![(5, Reminder), (6, TimedOut)]),
            (every(0, 5, 3, "ops"), 0, vec![]),
            (None, 0, vec![]),
        ] {
            let deadline_ms = if deadline_s == 0 {
                0
            } else {
                START_MS + deadline_s * 1_000
            };
            let mut with_task = asked(reminders.clone(), deadline_ms);
            assert_eq!(fire_all(&mut with_task), expected, "{reminders:?}");
            // An intent that waits for an agent is reminded of alike.
            let mut plain = Replica::new(1, 1);
            plain.run(Body::Submit(SubmitIntent {
                reminders: reminders.clone(),
                deadline_at_ms: deadline_ms,
                ..submit("worker", 1)
            }));
            assert_eq!(fire_all(&mut plain), expected, "{reminders:?}");
        }
    }

    #[test]
    fn what_was_due_while_nobody_led_fires_once_each_in_order() {
        let mut replica = asked(every(30, 30, 3, "ops"), 0);
        replica.now_ms += 3_600_000;
        let mut seen = Vec::new();
        for _ in 0..5 {
            replica.run(Body::Pulse(Pulse {}));
            let counts = replica.last.events.iter();
            seen.extend(counts.map(|e| (e.r#type(), e.details.as_ref().unwrap().remind_count)));
        }
        assert_eq!(
            seen,
            [
                (EventType::Reminder, 1),
                (EventType::Reminder, 2),
                (EventType::Reminder, 3),
                (EventType::Escalated, 0)
            ]
        );
        let gate = replica.view(intent_id_in(7, 1)).unwrap().gate.unwrap();
        let progress = gate.reminded.unwrap();
        assert_eq!((progress.sent, progress.escalated_to.as_str()), (3, "ops"));
    }

    #[test]
    fn the_escalation_target_may_answer_from_then_on() {
        let mut replica = asked(every(1, 1, 1, "ops"), 0);
        let answer = || {
            Body::AnswerTask(AnswerTask {
                actor: Some(actor(KeyKind::Agent, "ops")),
                intent_id: intent_id_in(7, 1).to_bytes(),
                generation: 1,
                outcome: "rejected".into(),
                ..AnswerTask::default()
            })
        };
        assert!(refusal(&replica.run(answer())).is_some());
        replica.now_ms += 1_000;
        replica.run(Body::Pulse(Pulse {}));
        let done = transition(replica.run(answer())).unwrap();
        assert_eq!(done.intent.unwrap().status(), Status::Completed);
    }

    #[test]
    fn the_end_takes_reminders_and_deadline_back() {
        let mut replica = asked(every(30, 30, 3, "ops"), START_MS + 100_000);
        let cancel = ResolveIntent {
            intent_id: intent_id_in(7, 1).to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        };
        replica.run(Body::Resolve(cancel));
        let retention_ms = replica.ctx.settings.terminal_retention_ms;
        assert_eq!(
            next_due_ms(&replica.tables).unwrap(),
            Some(START_MS + retention_ms)
        );
        replica.now_ms += retention_ms;
        replica.run(Body::Pulse(Pulse {}));
        assert_eq!(replica.view(intent_id_in(7, 1)), None);
        let left = replica
            .tables
            .rows()
            .filter(|(key, _)| matches!(key[0], 0x28 | 0x29))
            .count();
        assert_eq!(left, 0);
    }
}
