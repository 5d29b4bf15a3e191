//! What the envelope of an intent bounds: attempts, their pauses, their time, and the life of the intent.

use crate::apply::Effect;
use crate::commands::fail_attempt;
use crate::handover;
use crate::lifecycle::DELIVERY_FAILED;
use crate::pushes;
use crate::references;
use crate::rows;
use crate::timers;
use crate::transaction::{Stop, Transaction, reject};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{
    DeliveryState, EnvelopeLimits, Intent, TimedAttempt, Timer, TimerKind,
};

/// What the record of a push shows when its agent took the delivery and gave no result in time.
const NO_RESULT: &str = "no result within the time that the envelope gives";

/// Sets limits on an open intent. The caller saves the header, unless the intent has ended over it.
///
/// # Errors
/// `InvalidArgument` for a value out of bounds.
pub(crate) fn limit(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    patch: &EnvelopeLimits,
) -> Result<(), Stop> {
    patch.check().map_err(|wrong| reject(wrong.code, wrong.message))?;
    let mut limits = intent.limits.unwrap_or_default();
    limits.merge(patch);
    intent.limits = Some(limits);
    if patch.ttl_seconds.is_some() || patch.expires_at_ms.is_some() {
        move_deadline(tx, intent, &limits)?;
    }
    if patch.execution_timeout_seconds.is_some() {
        time_again(tx, intent)?;
    }
    if let Some(retries) = patch.max_retry_count {
        intent.max_delivery_attempts = retries.saturating_add(1);
        let used_up = intent.failed_attempts >= intent.max_delivery_attempts;
        // An attempt that is under way may still succeed; one that waits for its time is none.
        if used_up && pushes::waiting(intent).is_some() {
            pushes::settle(tx, intent, DeliveryState::DeadLettered, None)?;
            return fail_attempt::give_up(tx, intent, DELIVERY_FAILED);
        }
    }
    handover::limited(tx, intent)
}

/// The same for the delivery of an intent of another group, which has checked the limits.
pub(crate) fn limited(
    tx: &mut Transaction<'_, '_>,
    mut reference: Intent,
    header: &Intent,
) -> Result<(), Stop> {
    reference.limits = header.limits;
    reference.deadline_at_ms = header.deadline_at_ms;
    reference.max_delivery_attempts = header.max_delivery_attempts;
    time_again(tx, &mut reference)?;
    let used_up = reference.failed_attempts >= reference.max_delivery_attempts;
    if used_up && pushes::waiting(&reference).is_some() {
        pushes::settle(tx, &reference, DeliveryState::DeadLettered, None)?;
        return references::give_up(tx, reference);
    }
    references::save(tx, &reference)
}

fn move_deadline(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    limits: &EnvelopeLimits,
) -> Result<(), Stop> {
    let Some(deadline_ms) = limits.deadline_ms(intent.created_at_ms) else {
        return Ok(());
    };
    let id = rows::id_of(intent)?;
    timers::remove_deadline(tx, id, intent.deadline_at_ms);
    intent.deadline_at_ms = deadline_ms;
    timers::add_deadline(tx, id, deadline_ms);
    Ok(())
}

/// Brings the time of the attempt that is under way in line with the limits, if they have one. Whether somebody works on a delivery that
/// was not pushed, only the leader knows: it is asked.
fn time_again(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    let cursor = intent.mailbox_cursor;
    let taken = intent.push.is_some_and(|push| push.taken_cursor == cursor);
    let limits = intent.limits.unwrap_or_default();
    if cursor == 0 || limits.execution_timeout_seconds.is_none() {
        return Ok(());
    }
    if let Some(timed) = intent.timed.filter(|timed| timed.cursor == cursor) {
        disarm(tx, intent)?;
        return arm(tx, intent, cursor, timed.started_at_ms);
    }
    if taken {
        return begin(tx, intent);
    }
    if let Some(agent) = intent.holder() {
        tx.push_effect(Effect::Limit {
            agent_key: agent.key.clone(),
            cursor,
            intent_id: rows::id_of(intent)?,
        });
    }
    Ok(())
}

/// Somebody took the open delivery: its time runs, if it has one. The caller saves the header.
pub(crate) fn begin(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    let cursor = intent.mailbox_cursor;
    if intent.timed.is_some_and(|timed| timed.cursor == cursor) {
        return Ok(());
    }
    let now_ms = tx.now_ms;
    arm(tx, intent, cursor, now_ms)
}

fn arm(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    cursor: u64,
    started_at_ms: u64,
) -> Result<(), Stop> {
    let limits = intent.limits.unwrap_or_default();
    let Some(seconds) = limits.execution_timeout_seconds.filter(|_| cursor != 0) else {
        return Ok(());
    };
    let due_at_ms = started_at_ms.saturating_add(u64::from(seconds) * 1_000);
    let id = rows::id_of(intent)?;
    timers::add(
        tx,
        due_at_ms,
        id.slot(),
        TimerKind::Attempt,
        id.as_bytes(),
        cursor,
    );
    intent.timed = Some(TimedAttempt {
        cursor,
        started_at_ms,
        due_at_ms,
    });
    Ok(())
}

fn disarm(tx: &mut Transaction<'_, '_>, intent: &mut Intent) -> Result<(), Stop> {
    if let Some(timed) = intent.timed.take() {
        let id = rows::id_of(intent)?;
        timers::remove(tx, timed.due_at_ms, id.slot(), TimerKind::Attempt, id.as_bytes());
    }
    Ok(())
}

/// Fires the timer of an attempt: it has failed, and the next one follows. A timer whose delivery is over does nothing.
pub(crate) fn attempt_over(tx: &mut Transaction<'_, '_>, id: IntentId, timer: &Timer) -> Result<(), Stop> {
    let running = references::header(&*tx.tables, id)?.filter(|intent| {
        let timed = intent.timed.unwrap_or_default();
        timed.cursor == timer.guard
            && timed.due_at_ms == timer.due_ms
            && intent.mailbox_cursor == timer.guard
            && !intent.status().is_terminal()
    });
    let Some(mut intent) = running else {
        return Ok(());
    };
    intent.timed = None;
    let push = intent.push.unwrap_or_default();
    if push.taken_cursor != timer.guard {
        // One that waits already has failed already.
        if push.waiting_cursor == timer.guard {
            return references::save(tx, &intent);
        }
        return fail_attempt::again_at_once(tx, intent).map(drop);
    }
    intent.failed_attempts = intent.failed_attempts.saturating_add(1);
    if intent.failed_attempts >= intent.max_delivery_attempts {
        pushes::settle(tx, &intent, DeliveryState::DeadLettered, Some((NO_RESULT, 0)))?;
        return fail_attempt::used_up(tx, intent).map(drop);
    }
    let pause_ms = pause_ms(&intent);
    let due_ms = tx.now_ms.saturating_add(pause_ms);
    pushes::settle(tx, &intent, DeliveryState::Pending, Some((NO_RESULT, due_ms)))?;
    fail_attempt::wait(tx, &mut intent, due_ms)?;
    fail_attempt::keep(tx, &intent).map(drop)
}

/// The pause before the next post to an agent that took the last one; none unless the envelope asks for it.
fn pause_ms(intent: &Intent) -> u64 {
    let limits = intent.limits.unwrap_or_default();
    let Some(schedule) = limits.retry_schedule_ms() else {
        return 0;
    };
    let step = (intent.failed_attempts.max(1) as usize - 1).min(schedule.len() - 1);
    schedule.get(step).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
