//! Messages to people: what a notice says, as text, as HTML for mails, and as JSON for an endpoint.

use baton_protocol::IntentId;
use baton_protocol::human_task::due_at_ms;
use baton_protocol::proto::internal::{Gate, HumanTask, Intent, Notice, NoticeKind, NoticeView};
use maud::{DOCTYPE, Markup, html};

use super::render::Object;
use super::task_page::words::{answer_label, instant};
use super::time::render_ms;
use crate::links::TaskLink;

/// A subject, in characters.
const SUBJECT_CHARS_MAX: usize = 200;

/// A message, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeText {
    /// The same for every attempt.
    pub id: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The page of the task it is about.
    pub link: Option<String>,
    /// One JSON object.
    pub json: Vec<u8>,
}

/// The links of one message.
struct Links {
    page: String,
    /// What a button says, and where it leads. Empty when one press is not enough.
    answers: Vec<(String, String, String)>,
}

/// Renders a notice; the same every time. `secret` signs its links, which begin with `public_url`. `None` for a notice
/// without an intent.
#[must_use]
pub fn notice_text(view: &NoticeView, secret: &[u8], public_url: &str) -> Option<NoticeText> {
    let notice = view.notice.as_ref()?;
    let intent = view.intent.as_ref()?;
    let id = IntentId::from_slice(&notice.intent_id)?;
    let gate = view
        .gate
        .as_ref()
        .filter(|gate| gate.generation == notice.generation);
    let asked = gate.and_then(|gate| gate.task.as_ref().map(|task| (gate, task)));
    let links = asked.map(|(_, task)| links(notice, id, task, secret, public_url));
    let said = Said::of(notice, intent, asked);
    Some(NoticeText {
        id: format!("{id}-{}", notice.number),
        to: notice.to.clone(),
        subject: one_line(&said.subject),
        text: text(&said, links.as_ref(), notice),
        html: markup(&said, links.as_ref(), notice).into_string(),
        json: json(id, notice, intent, asked, &said, links.as_ref()),
        link: links.map(|links| links.page),
    })
}

fn links(notice: &Notice, id: IntentId, task: &HumanTask, secret: &[u8], public_url: &str) -> Links {
    let link = TaskLink {
        intent_id: id,
        generation: notice.generation,
        expires_at_ms: notice.expires_at_ms,
        recipient: notice.to.clone(),
    };
    let page = format!("{}/t/{}", public_url.trim_end_matches('/'), link.token(secret));
    let at_once = task.form_schema.is_empty() && !task.needs_comment() && !task.evidence_required;
    let outcomes = if at_once { task.outcomes() } else { Vec::new() };
    let answers = outcomes.into_iter().map(|outcome| {
        let answer: String = form_urlencoded::byte_serialize(outcome.as_bytes()).collect();
        (
            outcome.to_owned(),
            answer_label(outcome),
            format!("{page}?answer={answer}"),
        )
    });
    Links {
        answers: answers.collect(),
        page,
    }
}

/// The words of a message.
struct Said {
    subject: String,
    intro: String,
    /// What it is about, and more of that.
    title: String,
    body: String,
    facts: Vec<(&'static str, String)>,
}

impl Said {
    fn of(notice: &Notice, intent: &Intent, asked: Option<(&Gate, &HumanTask)>) -> Self {
        if let Some(notification) = &notice.notification {
            return Self {
                subject: match notification.subject.as_str() {
                    "" => format!("Notification: {}", intent.intent_type),
                    subject => subject.to_owned(),
                },
                intro: String::new(),
                title: notification.subject.clone(),
                body: notification.body.clone(),
                facts: Vec::new(),
            };
        }
        let title = asked.map_or(intent.intent_type.as_str(), |(_, task)| &task.title);
        let mine = notice.to.eq_ignore_ascii_case(&notice.escalated_to);
        let (subject, intro) = match notice.kind() {
            NoticeKind::TaskReminder => (
                format!("Reminder {}: {title}", notice.remind_count),
                "A question still waits for your answer.".to_owned(),
            ),
            NoticeKind::TaskEscalated | NoticeKind::IntentEscalated if mine => (
                format!("Escalated to you: {title}"),
                "Nobody has answered in time, so this was handed to you.".to_owned(),
            ),
            NoticeKind::TaskEscalated | NoticeKind::IntentEscalated => (
                format!("Escalated: {title}"),
                format!(
                    "Nobody has answered in time, so {} was asked too.",
                    notice.escalated_to
                ),
            ),
            NoticeKind::TaskAssigned | NoticeKind::Notification | NoticeKind::Unspecified => (
                format!("Your answer is needed: {title}"),
                "A question waits for your answer.".to_owned(),
            ),
        };
        let intro = if asked.is_none() && mine {
            "Something that waits was handed to you.".to_owned()
        } else {
            intro
        };
        let sender = if intent.from_agent.is_empty() {
            &intent.submitted_by
        } else {
            &intent.from_agent
        };
        let mut facts = vec![("Asked by", sender.clone())];
        if let Some((gate, _)) = asked {
            let due = due_at_ms(intent, gate);
            facts.extend((due != 0).then(|| ("Answer by", instant(due))));
        }
        Self {
            subject,
            intro,
            title: title.to_owned(),
            body: asked.map_or_else(String::new, |(_, task)| task.description.clone()),
            facts,
        }
    }
}

/// Nothing in a subject may begin another header.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SUBJECT_CHARS_MAX).collect()
}

fn text(said: &Said, links: Option<&Links>, notice: &Notice) -> String {
    let mut parts = vec![said.intro.clone(), said.title.clone(), said.body.clone()];
    let facts: Vec<String> = said
        .facts
        .iter()
        .map(|(name, fact)| format!("{name}: {fact}"))
        .collect();
    parts.push(facts.join("\n"));
    if let Some(links) = links {
        let answers = links
            .answers
            .iter()
            .map(|(_, label, url)| format!("{label}:\n{url}"));
        parts.extend(answers);
        parts.push(format!("See the question:\n{}", links.page));
        parts.push(fine_print(notice));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n") + "\n"
}

fn fine_print(notice: &Notice) -> String {
    format!(
        "The links are for you alone: whoever opens one can answer. They work until {}, and the first answer counts.",
        instant(notice.expires_at_ms)
    )
}

fn markup(said: &Said, links: Option<&Links>, notice: &Notice) -> Markup {
    let button = "display:inline-block;padding:10px 18px;margin:0 8px 8px 0;border:2px solid #17692f;border-radius:8px;\
        color:#17692f;font-weight:bold;text-decoration:none";
    html! {
        (DOCTYPE)
        html lang="en" {
            body style="font-family:sans-serif;line-height:1.5" {
                @if !said.intro.is_empty() { p { (said.intro) } }
                @if !said.title.is_empty() { h1 style="font-size:20px" { (said.title) } }
                @if !said.body.is_empty() { p style="white-space:pre-wrap" { (said.body) } }
                @if !said.facts.is_empty() {
                    p { @for (name, fact) in &said.facts { (name) ": " (fact) br; } }
                }
                @if let Some(links) = links {
                    p {
                        @for (_, label, url) in &links.answers { a href=(url) style=(button) { (label) } }
                    }
                    p { a href=(links.page) { "See the question" } }
                    p style="font-size:13px" { (fine_print(notice)) }
                }
            }
        }
    }
}

fn json(
    id: IntentId,
    notice: &Notice,
    intent: &Intent,
    asked: Option<(&Gate, &HumanTask)>,
    said: &Said,
    links: Option<&Links>,
) -> Vec<u8> {
    let mut out = Object::new();
    out.text("type", kind_name(notice.kind()));
    out.text("notice_id", &format!("{id}-{}", notice.number));
    out.text("to", &notice.to);
    out.text("intent_id", &id.to_string());
    out.text("intent_type", &intent.intent_type);
    out.text("from_agent", &intent.from_agent);
    out.text("created_at", &render_ms(notice.created_at_ms));
    out.text_if("step_id", &notice.step_id);
    out.text("subject", &one_line(&said.subject));
    out.text("title", &said.title);
    out.text("body", &said.body);
    out.number_if("remind_count", notice.remind_count.into());
    out.text_if("escalated_to", &notice.escalated_to);
    if let Some((gate, task)) = asked {
        out.text("task_type", task.task_type().wire_name());
        out.time_if("due_at", due_at_ms(intent, gate));
    }
    if let Some(links) = links {
        out.text("link", &links.page);
        out.text("link_expires_at", &render_ms(notice.expires_at_ms));
        let mut answers = Object::new();
        for (outcome, _, url) in &links.answers {
            answers.text(outcome, url);
        }
        out.raw("answers", &answers.finish());
    }
    out.finish()
}

fn kind_name(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::TaskAssigned => "task.assigned",
        NoticeKind::TaskReminder => "task.reminder",
        NoticeKind::TaskEscalated => "task.escalated",
        NoticeKind::IntentEscalated => "intent.escalated",
        NoticeKind::Notification | NoticeKind::Unspecified => "notification",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;
    use baton_protocol::proto::internal::Notification;
    use serde_json::Value;

    const SECRET: &[u8] = &[7; 32];

    fn view(kind: NoticeKind, task: HumanTask) -> NoticeView {
        let id = IntentId::new(5, Slot::from_bits(9), 1);
        NoticeView {
            notice: Some(Notice {
                intent_id: id.to_bytes(),
                number: 2,
                kind: kind.into(),
                to: "boss@example.com".into(),
                generation: 1,
                created_at_ms: 1_777_629_600_123,
                expires_at_ms: 1_777_629_700_123,
                remind_count: 3,
                escalated_to: "boss@example.com".into(),
                ..Notice::default()
            }),
            intent: Some(Intent {
                intent_id: id.to_bytes(),
                intent_type: "deploy.v1".into(),
                from_agent: "agent://acme/prod/ci".into(),
                ..Intent::default()
            }),
            gate: Some(Gate {
                generation: 1,
                task: Some(task),
                due_at_ms: 1_777_629_660_000,
                ..Gate::default()
            }),
        }
    }

    fn task() -> HumanTask {
        HumanTask {
            title: "Ship <7>?\r\nBcc: x".into(),
            description: "It is green & small.".into(),
            allowed_outcomes: vec!["approved".into(), "not yet".into()],
            ..HumanTask::default()
        }
    }

    fn render(view: &NoticeView) -> NoticeText {
        notice_text(view, SECRET, "https://baton.example.com/").unwrap()
    }

    #[test]
    fn a_task_is_told_with_a_link_for_each_answer() {
        let view = view(NoticeKind::TaskAssigned, task());
        let told = render(&view);
        assert_eq!(told, render(&view), "the same for every attempt");
        assert_eq!(told.subject, "Your answer is needed: Ship <7>?  Bcc: x");
        let link = told.link.unwrap();
        let token = link.strip_prefix("https://baton.example.com/t/").unwrap();
        let read = TaskLink::read(token, SECRET).unwrap();
        assert_eq!(
            (read.recipient.as_str(), read.generation),
            ("boss@example.com", 1)
        );
        assert_eq!(read.expires_at_ms, 1_777_629_700_123);
        assert!(
            told.text.contains(&format!("Approve:\n{link}?answer=approved\n")),
            "{}",
            told.text
        );
        assert!(told.text.contains(&format!("Not yet:\n{link}?answer=not+yet\n")));
        assert!(told.text.contains("Answer by: 1 May 2026, 10:01 UTC"));
        assert!(told.html.contains("Ship &lt;7&gt;?"));
        assert!(told.html.contains("green &amp; small"));
        let json: Value = serde_json::from_slice(&told.json).unwrap();
        assert_eq!(json["type"], "task.assigned");
        assert_eq!(json["answers"]["approved"], format!("{link}?answer=approved"));
        assert_eq!(json["notice_id"], told.id);
    }

    #[test]
    fn what_needs_more_than_a_press_has_one_link() {
        for task in [
            HumanTask {
                required_comment: true,
                ..task()
            },
            HumanTask {
                evidence_required: true,
                ..task()
            },
            HumanTask {
                form_schema: "{}".into(),
                ..task()
            },
        ] {
            let told = render(&view(NoticeKind::TaskReminder, task));
            assert!(told.subject.starts_with("Reminder 3: "));
            assert!(!told.text.contains("?answer="));
            assert!(told.text.contains(&told.link.unwrap()));
        }
    }

    #[test]
    fn escalations_and_notifications_say_what_they_are() {
        let mut escalated = view(NoticeKind::TaskEscalated, task());
        assert!(render(&escalated).subject.starts_with("Escalated to you: "));
        escalated.notice.as_mut().unwrap().to = "desk@example.com".into();
        let told = render(&escalated);
        assert!(
            told.text.contains("so boss@example.com was asked too"),
            "{}",
            told.text
        );
        let mut plain = view(NoticeKind::IntentEscalated, task());
        plain.notice.as_mut().unwrap().generation = 0;
        let told = render(&plain);
        assert_eq!(
            (told.subject.as_str(), told.link),
            ("Escalated to you: deploy.v1", None)
        );
        let mut step = view(NoticeKind::Notification, task());
        let notice = step.notice.as_mut().unwrap();
        notice.generation = 0;
        notice.notification = Some(Notification {
            subject: "Deployed".into(),
            body: "All of it.".into(),
            ..Notification::default()
        });
        let told = render(&step);
        assert_eq!(
            (told.subject.as_str(), told.text.as_str()),
            ("Deployed", "Deployed\n\nAll of it.\n")
        );
        assert_eq!(notice_text(&NoticeView::default(), SECRET, ""), None);
    }
}
