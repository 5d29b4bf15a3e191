//! Messages to people outside. A notice is written in the commit that gives the reason for it and stays until the leader
//! has sent it, has given it up, or the reason is gone: the task was answered, or a newer notice says more.

use crate::apply::Effect;
use crate::gates;
use crate::intents;
use crate::keys;
use crate::query::page;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, Transaction, not_found};
use baton_protocol::human_task::{due_at_ms, is_mail_address};
use baton_protocol::proto::internal::pending_with::Kind;
use baton_protocol::proto::internal::{
    Actor, Gate, Intent, ListNotices, Notice, NoticeKind, NoticePage, NoticeView, Notification,
};
use baton_protocol::{IntentId, limits};

/// Tells everybody who is asked, as far as they have a mail address. The caller saves the header.
pub(crate) fn of_task(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    gate: &Gate,
    kind: NoticeKind,
) -> Result<(), Stop> {
    let latest_ms = tx.now_ms.saturating_add(limits::TASK_LINK_MS);
    let expires_at_ms = match due_at_ms(intent, gate) {
        0 => latest_ms,
        due => due.min(latest_ms),
    };
    let progress = gate.reminded.clone().unwrap_or_default();
    for to in recipients(gate, kind) {
        let notice = Notice {
            kind: kind.into(),
            to,
            generation: gate.generation,
            expires_at_ms,
            step_id: gate.step_id.clone(),
            remind_count: progress.sent,
            escalated_to: progress.escalated_to.clone(),
            ..Notice::default()
        };
        queue(tx, intent, notice)?;
    }
    Ok(())
}

/// Tells who was called in, if that is a mail address, where no task waits. The caller saves the header.
pub(crate) fn of_escalation(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    escalated_to: &str,
    step_id: &str,
) -> Result<(), Stop> {
    if !is_mail_address(escalated_to) {
        return Ok(());
    }
    let notice = Notice {
        kind: NoticeKind::IntentEscalated.into(),
        to: escalated_to.to_owned(),
        step_id: step_id.to_owned(),
        escalated_to: escalated_to.to_owned(),
        ..Notice::default()
    };
    queue(tx, intent, notice)
}

/// Hands a notification to each of its channels. The caller saves the header.
pub(crate) fn of_notification(
    tx: &mut Transaction<'_, '_>,
    intent: &mut Intent,
    notification: &Notification,
    step_id: &str,
) -> Result<(), Stop> {
    for channel in &notification.channels {
        let notice = Notice {
            kind: NoticeKind::Notification.into(),
            to: channel.clone(),
            step_id: step_id.to_owned(),
            notification: Some(notification.clone()),
            ..Notice::default()
        };
        queue(tx, intent, notice)?;
    }
    Ok(())
}

/// Who hears of a task: an escalation only concerns who is called in and who follows the task as a whole.
fn recipients(gate: &Gate, kind: NoticeKind) -> Vec<String> {
    let task = gate.task.clone().unwrap_or_default();
    let mut names = vec![task.notify_email];
    if kind == NoticeKind::TaskEscalated {
        names.extend(gate.reminded.iter().map(|progress| progress.escalated_to.clone()));
    } else {
        names.extend(task.assignees);
        let human = gate.pending_with.iter().filter(|p| p.kind() == Kind::Human);
        names.extend(human.map(|pending| pending.r#ref.clone()));
    }
    let mut recipients: Vec<String> = Vec::new();
    for name in names {
        if is_mail_address(&name) && !recipients.iter().any(|r| r.eq_ignore_ascii_case(&name)) {
            recipients.push(name);
        }
    }
    recipients
}

/// A newer notice about a task takes the place of one to the same recipient that was not sent yet.
fn queue(tx: &mut Transaction<'_, '_>, intent: &mut Intent, notice: Notice) -> Result<(), Stop> {
    let id = rows::id_of(intent)?;
    let waiting = if intent.last_notice == 0 {
        Vec::new()
    } else {
        of_intent(&*tx.tables, id)?
    };
    let mut left = waiting.len();
    for older in waiting {
        if notice.generation != 0 && older.generation == notice.generation && older.to == notice.to {
            remove(tx, id, &older);
            left -= 1;
        }
    }
    if left >= limits::NOTICES_PER_INTENT_MAX {
        return Ok(());
    }
    intent.last_notice = intent.last_notice.saturating_add(1);
    let mut notice = Notice {
        intent_id: intent.intent_id.clone(),
        number: intent.last_notice,
        created_at_ms: tx.now_ms,
        expires_at_ms: match notice.expires_at_ms {
            0 => tx.now_ms.saturating_add(limits::TASK_LINK_MS),
            given => given,
        },
        ..notice
    };
    plan(tx, id, &mut notice, 0);
    Ok(())
}

/// Writes a notice whose next attempt is due in `delay_ms`.
pub(crate) fn plan(tx: &mut Transaction<'_, '_>, id: IntentId, notice: &mut Notice, delay_ms: u64) {
    notice.next_attempt_at_ms = tx.now_ms.saturating_add(delay_ms);
    let due = keys::notice_due(notice.next_attempt_at_ms, id, notice.number);
    tx.tables.put(due, Vec::new());
    rows::write(tx.tables, keys::notice(id, notice.number), notice);
    tx.push_effect(Effect::Notice);
}

/// Takes a notice out of the queue and forgets it.
pub(crate) fn remove(tx: &mut Transaction<'_, '_>, id: IntentId, notice: &Notice) {
    tx.tables
        .delete(keys::notice_due(notice.next_attempt_at_ms, id, notice.number));
    tx.tables.delete(keys::notice(id, notice.number));
}

/// Forgets what was still to be said about tasks of an intent.
pub(crate) fn drop_of_tasks(tx: &mut Transaction<'_, '_>, id: IntentId, intent: &Intent) -> Result<(), Stop> {
    drop_where(tx, id, intent, |notice| notice.generation != 0)
}

/// Forgets every notice of an intent that is erased.
pub(crate) fn erase(tx: &mut Transaction<'_, '_>, id: IntentId, intent: &Intent) -> Result<(), Stop> {
    drop_where(tx, id, intent, |_| true)
}

fn drop_where(
    tx: &mut Transaction<'_, '_>,
    id: IntentId,
    intent: &Intent,
    which: impl Fn(&Notice) -> bool,
) -> Result<(), Stop> {
    if intent.last_notice == 0 {
        return Ok(());
    }
    for notice in of_intent(&*tx.tables, id)? {
        if which(&notice) {
            remove(tx, id, &notice);
        }
    }
    Ok(())
}

pub(crate) fn stored(tables: &dyn Tables, id: IntentId, number: u32) -> Result<Option<Notice>, TableError> {
    rows::read(tables, &keys::notice(id, number))
}

fn of_intent(tables: &dyn Tables, id: IntentId) -> Result<Vec<Notice>, TableError> {
    let rows = rows::list(tables, &keys::notices_of(id), usize::MAX)?;
    rows.into_iter()
        .map(|(key, value)| rows::decode(&key, value))
        .collect()
}

/// What waits to be sent; only for the system itself.
pub(crate) fn list(tables: &dyn Tables, actor: Option<&Actor>, q: &ListNotices) -> Result<NoticePage, Stop> {
    if actor.is_some() {
        return Err(not_found("notices"));
    }
    let limit = page(q.limit, limits::NOTICES_PAGE_MAX, limits::NOTICES_PAGE_MAX);
    let mut found = NoticePage::default();
    for (key, _) in rows::list(tables, &keys::notices_due(), limit)? {
        let Some((id, number)) = keys::notice_of_due(&key) else {
            continue;
        };
        let (Some(notice), Some(intent)) = (stored(tables, id, number)?, intents::intent(tables, id)?) else {
            continue;
        };
        found.notices.push(NoticeView {
            gate: gates::find(tables, id, &intent)?,
            notice: Some(notice),
            intent: Some(intent),
        });
    }
    Ok(found)
}
