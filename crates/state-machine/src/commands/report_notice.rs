//! `ReportNotice`: what an attempt to tell somebody came to.

use crate::commands::fail_attempt::stale;
use crate::intents;
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::notices;
use crate::pushes::RETRY_DELAY_MS_MAX;
use crate::transaction::{Outcome, Stop, Transaction, done};
use baton_protocol::IntentId;
use baton_protocol::limits::NOTICE_ATTEMPTS_MAX;
use baton_protocol::proto::internal::report_notice::Outcome as Came;
use baton_protocol::proto::internal::{EventDetails, EventType, Intent, Notice, ReportNotice};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &ReportNotice) -> Outcome {
    let id = IntentId::from_slice(&command.intent_id).ok_or_else(stale)?;
    let intent = intents::intent(&*tx.tables, id)?.ok_or_else(stale)?;
    let mut notice = notices::stored(&*tx.tables, id, command.number)?
        .filter(|notice| notice.attempts.saturating_add(1) == command.attempt)
        .ok_or_else(stale)?;
    notices::remove(tx, id, &notice);
    notice.attempts = command.attempt;
    notice.last_error.clone_from(&command.error);
    match command.outcome() {
        Came::Sent => {}
        Came::Failed if notice.attempts < NOTICE_ATTEMPTS_MAX => {
            notices::plan(tx, id, &mut notice, command.delay_ms.min(RETRY_DELAY_MS_MAX));
        }
        Came::Failed | Came::GivenUp | Came::Unspecified => give_up(tx, intent, &notice)?,
    }
    Ok(done())
}

/// Says on the intent that somebody does not know. Nothing follows the end of an intent, so one that is over stays
/// silent.
fn give_up(tx: &mut Transaction<'_, '_>, mut intent: Intent, notice: &Notice) -> Result<(), Stop> {
    if intent.status().is_terminal() {
        return Ok(());
    }
    let entry = Entry::new(EventType::NotificationFailed, intent.status(), SCHEDULER)
        .waiting(intent.waiting_reason())
        .details(EventDetails {
            step_id: notice.step_id.clone(),
            reason: notice.last_error.clone(),
            recipient: notice.to.clone(),
            notice_attempts: notice.attempts,
            ..EventDetails::default()
        });
    lifecycle::append(tx, &mut intent, entry)?;
    lifecycle::save(tx, &intent)
}

#[cfg(test)]
mod tests {
    use crate::Effect;
    use crate::next_due_ms;
    use crate::testing::{Replica, START_MS, actor, ask, intent_id_in, refusal};
    use baton_protocol::ErrorCode;
    use baton_protocol::limits::{NOTICE_ATTEMPTS_MAX, TASK_LINK_MS};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::report_notice::Outcome as Came;
    use baton_protocol::proto::internal::{
        AnswerTask, EventType, HumanTask, KeyKind, ListNotices, Notice, NoticeKind, Pulse, Reminders,
        ReportNotice, ResolveIntent, Status, SubmitIntent, query, query_reply,
    };

    fn task() -> HumanTask {
        HumanTask {
            title: "Ship it?".into(),
            assignees: ["boss@example.com", "ops", "BOSS@example.com"]
                .map(String::from)
                .into(),
            notify_email: "desk@example.com".into(),
            ..HumanTask::default()
        }
    }

    fn asked(reminders: Option<Reminders>, deadline_at_ms: u64) -> Replica {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(SubmitIntent {
            reminders,
            deadline_at_ms,
            ..ask(task(), 1)
        }));
        replica
    }

    fn waiting(replica: &Replica) -> Vec<Notice> {
        let q = query::Body::ListNotices(ListNotices { limit: 0 });
        let query_reply::Outcome::Notices(page) = replica.ask(q) else {
            panic!("refused")
        };
        page.notices
            .into_iter()
            .map(|view| view.notice.unwrap())
            .collect()
    }

    fn who(replica: &Replica) -> Vec<(NoticeKind, String)> {
        let notices = waiting(replica).into_iter();
        notices.map(|n| (n.kind(), n.to)).collect()
    }

    fn report(number: u32, attempt: u32, outcome: Came) -> Body {
        Body::ReportNotice(ReportNotice {
            intent_id: intent_id_in(7, 1).to_bytes(),
            number,
            attempt,
            outcome: outcome.into(),
            error: "no answer in time".into(),
            delay_ms: 10_000,
        })
    }

    #[test]
    fn opening_a_task_tells_every_mail_address_once() {
        let replica = asked(None, 0);
        assert!(replica.last.effects.contains(&Effect::Notice));
        let told =
            ["desk@example.com", "boss@example.com"].map(|to| (NoticeKind::TaskAssigned, to.to_owned()));
        assert_eq!(who(&replica), told);
        let first = &waiting(&replica)[0];
        assert_eq!(
            (first.number, first.generation, first.expires_at_ms),
            (1, 1, START_MS + TASK_LINK_MS)
        );
        let soon = asked(None, START_MS + 5_000);
        assert_eq!(
            waiting(&soon)[0].expires_at_ms,
            START_MS + 5_000,
            "the deadline is sooner"
        );
        let q = query::Body::ListNotices(ListNotices { limit: 0 });
        for kind in [KeyKind::Agent, KeyKind::Workspace, KeyKind::Operator] {
            let reply = replica.ask_as(Some(actor(kind, "root")), q.clone());
            assert!(matches!(reply, query_reply::Outcome::Rejected(_)));
        }
    }

    #[test]
    fn a_sent_notice_is_gone_and_reports_are_fenced() {
        let mut replica = asked(None, 0);
        assert_eq!(
            refusal(&replica.run(report(1, 2, Came::Sent))),
            Some(ErrorCode::StaleAttempt)
        );
        assert_eq!(
            refusal(&replica.run(report(9, 1, Came::Sent))),
            Some(ErrorCode::StaleAttempt)
        );
        assert_eq!(refusal(&replica.run(report(1, 1, Came::Sent))), None);
        assert_eq!(
            refusal(&replica.run(report(1, 1, Came::Sent))),
            Some(ErrorCode::StaleAttempt)
        );
        assert_eq!(
            who(&replica),
            [(NoticeKind::TaskAssigned, "boss@example.com".into())]
        );
        assert!(replica.last.events.is_empty());
    }

    #[test]
    fn failures_are_tried_again_until_the_attempts_are_used_up() {
        let mut replica = asked(None, 0);
        for attempt in 1..=NOTICE_ATTEMPTS_MAX {
            assert_eq!(refusal(&replica.run(report(1, attempt, Came::Failed))), None);
            if attempt < NOTICE_ATTEMPTS_MAX {
                let later = waiting(&replica).pop().unwrap();
                assert_eq!((later.number, later.attempts), (1, attempt));
                assert_eq!(later.next_attempt_at_ms, replica.now_ms + 10_000);
                assert!(replica.last.events.is_empty());
            }
        }
        let event = &replica.last.events[0];
        assert_eq!(
            (event.r#type(), event.status()),
            (EventType::NotificationFailed, Status::Waiting)
        );
        let details = event.details.clone().unwrap();
        assert_eq!(
            (
                details.recipient.as_str(),
                details.reason.as_str(),
                details.notice_attempts
            ),
            ("desk@example.com", "no answer in time", NOTICE_ATTEMPTS_MAX)
        );
        replica.run(report(2, 1, Came::GivenUp));
        assert_eq!(replica.last.events.len(), 1);
        assert!(waiting(&replica).is_empty());
    }

    #[test]
    fn reminders_and_escalations_are_told_and_newer_ones_take_the_place_of_older() {
        let every = Reminders {
            remind_after_seconds: 5,
            remind_interval_seconds: 5,
            max_reminders: 2,
            escalate_to: "chief@example.com".into(),
        };
        let mut replica = asked(Some(every), 0);
        replica.run(report(1, 1, Came::Sent));
        let fire = |replica: &mut Replica| {
            replica.now_ms = next_due_ms(&replica.tables).unwrap().unwrap();
            replica.run(Body::Pulse(Pulse {}));
        };
        fire(&mut replica);
        let reminded = [
            (NoticeKind::TaskReminder, "desk@example.com".to_owned()),
            (NoticeKind::TaskReminder, "boss@example.com".to_owned()),
        ];
        assert_eq!(
            who(&replica),
            reminded,
            "the first notice to the boss was never sent"
        );
        assert_eq!(waiting(&replica)[0].remind_count, 1);
        fire(&mut replica);
        assert_eq!(
            who(&replica),
            [
                (NoticeKind::TaskReminder, "boss@example.com".to_owned()),
                (NoticeKind::TaskEscalated, "desk@example.com".to_owned()),
                (NoticeKind::TaskEscalated, "chief@example.com".to_owned()),
            ]
        );
        assert_eq!(waiting(&replica)[2].escalated_to, "chief@example.com");
        replica.run(Body::AnswerTask(AnswerTask {
            actor: Some(actor(KeyKind::Workspace, "sender")),
            intent_id: intent_id_in(7, 1).to_bytes(),
            generation: 1,
            outcome: "approved".into(),
            ..AnswerTask::default()
        }));
        assert!(waiting(&replica).is_empty(), "an answered task is told to nobody");
    }

    #[test]
    fn the_end_of_an_intent_leaves_no_notice() {
        let mut replica = asked(None, 0);
        replica.run(Body::Resolve(ResolveIntent {
            intent_id: intent_id_in(7, 1).to_bytes(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        }));
        assert!(waiting(&replica).is_empty());
        let left = replica
            .tables
            .rows()
            .filter(|(key, _)| matches!(key[0], 0x2a | 0x2b));
        assert_eq!(left.count(), 0);
    }
}
