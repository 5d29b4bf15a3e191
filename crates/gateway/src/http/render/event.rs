//! Lifecycle events (surface 2.3).

use baton_protocol::proto::internal::{
    Event, EventDetails, EventType, Notification, PendingWith, Status, pending_with,
};

use super::task::{TaskForm, human_task_json};
use super::{Object, payload_json, uuid_text};
use crate::http::time::render_ms;

/// Which fields an event shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventForm {
    /// Everything, with a copy of the result at the top.
    Full,
    /// The closed set of the resolve answer.
    Closed,
    /// Without result and error, for a frame they would not fit in.
    Brief,
}

pub(crate) fn event_json(event: &Event, form: EventForm) -> Vec<u8> {
    let mut out = Object::new();
    out.text("intent_id", &uuid_text(&event.intent_id));
    out.number("seq", event.seq.into());
    out.text("event_type", event.r#type().wire_name());
    out.text("status", event.status().wire_name());
    out.text_or_null(
        "waiting_reason",
        event.waiting_reason().wire_name().unwrap_or_default(),
    );
    out.text_or_null("handler", &event.handler);
    match &event.pending_with {
        Some(pending) => out.raw("pending_with", &pending_json(pending)),
        None => out.raw("pending_with", b"null"),
    }
    out.text(
        "actor",
        if event.actor.is_empty() {
            "gateway"
        } else {
            &event.actor
        },
    );
    out.time("at", event.at_ms);
    let details = event.details.clone().unwrap_or_default();
    out.raw("details", &details_json(event, &details, form));
    if form == EventForm::Full
        && event.status() == Status::Completed
        && let Some(result) = &details.result
    {
        out.raw("result", &payload_json(result));
    }
    if let Some(task) = details.human_task.as_ref().filter(|_| form != EventForm::Closed) {
        out.raw("human_task", &human_task_json(task, task_form(form)));
    }
    out.finish()
}

fn task_form(form: EventForm) -> TaskForm {
    match form {
        EventForm::Brief => TaskForm::Brief,
        EventForm::Full | EventForm::Closed => TaskForm::Full,
    }
}

fn details_json(event: &Event, details: &EventDetails, form: EventForm) -> Vec<u8> {
    let mut out = Object::new();
    let kind = event.r#type();
    if form == EventForm::Brief {
        if details.result.is_some() || details.error.is_some() {
            out.flag("truncated", true);
        }
    } else {
        match &details.result {
            Some(result) => out.raw("result", &payload_json(result)),
            None if kind == EventType::Completed => out.raw("result", b"{}"),
            None => {}
        }
        match &details.error {
            Some(error) => out.raw("error", &payload_json(error)),
            None if kind == EventType::Failed => out.raw("error", b"{}"),
            None => {}
        }
    }
    if kind == EventType::Canceled {
        out.text_or_null("reason", &details.reason);
    } else {
        out.text_if("reason", &details.reason);
    }
    if details.deadline_at_ms != 0 {
        out.text("deadline_at", &render_ms(details.deadline_at_ms));
    }
    out.text_if("step_id", &details.step_id);
    if !details.step_intent_id.is_empty() {
        out.text("step_intent_id", &uuid_text(&details.step_intent_id));
    }
    if details.delivery_attempt != 0 || kind == EventType::DeliveryFailed {
        // Clients read a string here.
        out.text("delivery_attempt", &details.delivery_attempt.to_string());
    }
    out.number_if("max_delivery_attempts", details.max_delivery_attempts.into());
    out.text_if("next_handler", &details.next_handler);
    out.text_if("escalated_to", &details.escalated_to);
    out.number_if("remind_count", details.remind_count.into());
    if let Some(task) = &details.human_task {
        out.raw("human_task", &human_task_json(task, task_form(form)));
    }
    if details.due_at_ms != 0 {
        out.text("due_at", &render_ms(details.due_at_ms));
    }
    if !details.recipient.is_empty() {
        out.text("recipient", &details.recipient);
        out.number("attempts", details.notice_attempts.into());
    }
    if details.by_link {
        out.flag("by_link", true);
    }
    if let Some(notification) = &details.notification {
        out.raw("notification", &notification_json(notification));
    }
    out.finish()
}

fn notification_json(notification: &Notification) -> Vec<u8> {
    let mut out = Object::new();
    out.texts("channels", notification.channels.iter().map(String::as_str));
    out.text("subject", &notification.subject);
    out.text("body", &notification.body);
    out.finish()
}

pub(super) fn pending_json(pending: &PendingWith) -> Vec<u8> {
    let mut out = Object::new();
    out.text(
        "type",
        match pending.kind() {
            pending_with::Kind::Human => "human",
            pending_with::Kind::Internal => "internal",
            pending_with::Kind::Agent | pending_with::Kind::Unspecified => "agent",
        },
    );
    out.text("ref", &pending.r#ref);
    out.text(
        "name",
        if pending.name.is_empty() {
            &pending.r#ref
        } else {
            &pending.name
        },
    );
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::internal::{Payload, WaitingReason};

    fn event(kind: EventType, status: Status, details: EventDetails) -> Event {
        Event {
            intent_id: vec![7; 16].into(),
            seq: 4,
            r#type: kind.into(),
            status: status.into(),
            actor: "gateway".into(),
            at_ms: 1_777_629_600_123,
            details: Some(details),
            ..Event::default()
        }
    }

    fn text(event: &Event, form: EventForm) -> String {
        String::from_utf8(event_json(event, form)).unwrap()
    }

    #[test]
    fn waiting_event_is_golden() {
        let mut waiting = event(
            EventType::Waiting,
            Status::Waiting,
            EventDetails {
                step_id: "process_payment".into(),
                ..EventDetails::default()
            },
        );
        waiting.waiting_reason = WaitingReason::Agent.into();
        waiting.handler = "agent://o/w/pay".into();
        waiting.pending_with = Some(PendingWith {
            kind: pending_with::Kind::Agent.into(),
            r#ref: "agent://o/w/pay".into(),
            name: "Pay".into(),
        });
        assert_eq!(
            text(&waiting, EventForm::Full),
            r#"{"intent_id":"07070707-0707-0707-0707-070707070707","seq":4,"event_type":"intent.waiting","status":"WAITING","waiting_reason":"WAITING_FOR_AGENT","handler":"agent://o/w/pay","pending_with":{"type":"agent","ref":"agent://o/w/pay","name":"Pay"},"actor":"gateway","at":"2026-05-01T10:00:00.123Z","details":{"step_id":"process_payment"}}"#
        );
    }

    #[test]
    fn terminal_details_follow_the_type() {
        let result = Some(Payload {
            data: "{\"x\":1}".into(),
            ..Payload::default()
        });
        let completed = event(
            EventType::Completed,
            Status::Completed,
            EventDetails {
                result,
                ..EventDetails::default()
            },
        );
        assert!(
            text(&completed, EventForm::Full).ends_with(r#""details":{"result":{"x":1}},"result":{"x":1}}"#)
        );
        assert!(text(&completed, EventForm::Closed).ends_with(r#""details":{"result":{"x":1}}}"#));
        assert!(text(&completed, EventForm::Brief).ends_with(r#""details":{"truncated":true}}"#));
        for (kind, status, expected) in [
            (EventType::Completed, Status::Completed, r#"{"result":{}}"#),
            (EventType::Failed, Status::Failed, r#"{"error":{}}"#),
            (EventType::Canceled, Status::Canceled, r#"{"reason":null}"#),
        ] {
            let bare = event(kind, status, EventDetails::default());
            assert!(text(&bare, EventForm::Closed).ends_with(&format!("\"details\":{expected}}}")));
        }
    }

    #[test]
    fn delivery_attempt_is_a_string() {
        let failed = event(
            EventType::DeliveryFailed,
            Status::Delivered,
            EventDetails {
                delivery_attempt: 3,
                max_delivery_attempts: 3,
                ..EventDetails::default()
            },
        );
        let text = text(&failed, EventForm::Full);
        assert!(
            text.contains(r#"{"delivery_attempt":"3","max_delivery_attempts":3}"#),
            "{text}"
        );
    }
}
