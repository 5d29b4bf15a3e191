//! The page of an open task, and the pages of everything else that a link may lead to.

use axum::http::StatusCode;
use axum::response::Response;
use baton_protocol::human_task::due_at_ms;
use baton_protocol::limits::TASK_COMMENT_CHARS_MAX;
use baton_protocol::proto::internal::{HumanTask, TaskAnswer};
use maud::{Markup, html};

use super::form::{self, Filled};
use super::layout::page;
use super::words::{answer_class, answer_label, outcome_label, time};
use crate::forms::{Field, FieldKind, Place, Posted, Problem};

use crate::links::TaskLink;
use crate::service::LinkedTask;

/// An open task as it is shown.
pub(super) struct OpenTask<'t> {
    pub(super) link: &'t TaskLink,
    pub(super) linked: &'t LinkedTask,
    pub(super) task: &'t HumanTask,
    pub(super) fields: &'t [Field],
    /// Whether there is a place for evidence.
    pub(super) evidence: bool,
    /// What was sent and not accepted.
    pub(super) posted: Option<&'t Posted>,
    pub(super) problems: &'t [Problem],
    /// The answer that the link suggests.
    pub(super) suggested: Option<&'t str>,
}

/// What is wrong, by where.
pub(super) struct Mistakes<'m> {
    fields: &'m [Field],
    problems: &'m [Problem],
}

impl Mistakes<'_> {
    pub(super) fn of_field(&self, field: &Field) -> Option<&str> {
        let found = self.problems.iter().find(|problem| match &problem.place {
            Place::Field(pointer) => {
                field_at(self.fields, pointer).is_some_and(|at| at.number == field.number)
            }
            Place::Outcome | Place::Comment | Place::Evidence => false,
        });
        found.map(|problem| problem.message.as_str())
    }

    fn at(&self, place: &Place) -> Option<&str> {
        let found = self.problems.iter().find(|problem| problem.place == *place);
        found.map(|problem| problem.message.as_str())
    }
}

/// Where on the page something is, for the order in which it is said.
pub(super) fn position(fields: &[Field], place: &Place) -> usize {
    match place {
        Place::Field(pointer) => field_at(fields, pointer).map_or(0, |field| field.number),
        Place::Comment => usize::MAX - 2,
        Place::Evidence => usize::MAX - 1,
        Place::Outcome => usize::MAX,
    }
}

/// The innermost field that holds what a pointer points to.
fn field_at<'f>(fields: &'f [Field], pointer: &str) -> Option<&'f Field> {
    let field = fields.iter().find(|field| {
        let rest = pointer.strip_prefix(field.pointer.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })?;
    if let FieldKind::Group(inner) = &field.kind
        && let Some(inner) = field_at(inner, pointer)
    {
        return Some(inner);
    }
    Some(field)
}

/// The question with everything that answers it.
pub(super) fn open(status: StatusCode, shown: &OpenTask<'_>) -> Response {
    let title = if shown.problems.is_empty() {
        shown.task.title.clone()
    } else {
        format!("Not accepted yet: {}", shown.task.title)
    };
    page(status, &title, &article(shown))
}

fn article(shown: &OpenTask<'_>) -> Markup {
    let mistakes = Mistakes {
        fields: shown.fields,
        problems: shown.problems,
    };
    let filled = Filled { posted: shown.posted };
    html! {
        h1 { (shown.task.title) }
        (summary(shown))
        @if !shown.task.description.is_empty() { p class="said" { (shown.task.description) } }
        (facts(shown))
        // The schema decides, in words of ours; a browser's own checks would stop a button before that.
        form method="post" novalidate {
            // The first button is what the Enter key in a text field would press: better none than an answer.
            button type="submit" disabled hidden {}
            (form::fields(shown.fields, filled, &mistakes))
            (comment(shown, filled, &mistakes))
            @if shown.evidence { (evidence(shown, filled, &mistakes)) }
            (answers(shown, &mistakes))
        }
    }
}

fn facts(shown: &OpenTask<'_>) -> Markup {
    let (intent, gate) = (&shown.linked.intent, &shown.linked.gate);
    let due_ms = match due_at_ms(intent, gate) {
        0 => shown.link.expires_at_ms,
        due => due.min(shown.link.expires_at_ms),
    };
    let asked_by = if intent.from_agent.is_empty() {
        &intent.submitted_by
    } else {
        &intent.from_agent
    };
    html! {
        dl {
            dt { "Asked by" } dd { (asked_by) }
            dt { "Asked of" } dd { (shown.link.recipient) }
            dt { "Answer by" } dd { (time(due_ms)) }
        }
    }
}

/// Where everything that is wrong is said first, with the way to it.
fn summary(shown: &OpenTask<'_>) -> Markup {
    if shown.problems.is_empty() {
        return html! {};
    }
    html! {
        div class="problems" role="alert" tabindex="-1" autofocus {
            h2 { "Your answer is not complete yet" }
            ul {
                @for problem in shown.problems {
                    li { (summary_line(shown, problem)) }
                }
            }
        }
    }
}

fn summary_line(shown: &OpenTask<'_>, problem: &Problem) -> Markup {
    let (target, name) = match &problem.place {
        Place::Outcome => (Some("answers".to_owned()), None),
        Place::Comment => (Some("comment".to_owned()), Some("Comment")),
        Place::Evidence => (Some("evidence".to_owned()), Some("Evidence")),
        Place::Field(pointer) => match field_at(shown.fields, pointer) {
            Some(field) => (Some(form::id(field)), Some(field.label.as_str())),
            None => (None, None),
        },
    };
    let said = html! { @if let Some(name) = name { (name) ": " } (problem.message) };
    match target {
        Some(target) => html! { a href=(format!("#{target}")) { (said) } },
        None => said,
    }
}

fn comment(shown: &OpenTask<'_>, filled: Filled<'_>, mistakes: &Mistakes<'_>) -> Markup {
    let required = shown.task.needs_comment();
    let hint = format!("At most {TASK_COMMENT_CHARS_MAX} characters.");
    let label = html! { "Comment" @if !required { span class="soft" { " (optional)" } } };
    let problem = mistakes.at(&Place::Comment);
    area(
        "comment",
        &label,
        required.then_some(hint.as_str()),
        problem,
        filled,
    )
}

fn evidence(shown: &OpenTask<'_>, filled: Filled<'_>, mistakes: &Mistakes<'_>) -> Markup {
    let required = shown.task.evidence_required;
    let hint = "What your answer rests on: links, numbers, names of documents.";
    area(
        "evidence",
        &html! { "Evidence" @if !required { span class="soft" { " (optional)" } } },
        Some(hint),
        mistakes.at(&Place::Evidence),
        filled,
    )
}

fn area(name: &str, label: &Markup, hint: Option<&str>, problem: Option<&str>, filled: Filled<'_>) -> Markup {
    let (hint_id, problem_id) = (format!("{name}-hint"), format!("{name}-problem"));
    let described: Vec<&str> = [
        hint.map(|_| hint_id.as_str()),
        problem.map(|_| problem_id.as_str()),
    ]
    .into_iter()
    .flatten()
    .collect();
    html! {
        div class=(if problem.is_some() { "field wrong" } else { "field" }) {
            label for=(name) { (label) }
            @if let Some(hint) = hint { p class="hint" id=(hint_id) { (hint) } }
            @if let Some(problem) = problem { p class="problem" id=(problem_id) { (problem) } }
            textarea class="line" id=(name) name=(name) rows="3" aria-invalid=[problem.map(|_| "true")]
                aria-describedby=[(!described.is_empty()).then(|| described.join(" "))] { "\n" (filled.named(name)) }
        }
    }
}

/// One button for each answer: one press is the answer.
fn answers(shown: &OpenTask<'_>, mistakes: &Mistakes<'_>) -> Markup {
    let problem = mistakes.at(&Place::Outcome);
    html! {
        @if let Some(problem) = problem { p class="problem" id="answers-problem" { (problem) } }
        div class="answers" id="answers" role="group" aria-label="Your answer"
            aria-describedby=[problem.map(|_| "answers-problem")] {
            @for outcome in shown.task.outcomes() {
                @let suggested = shown.problems.is_empty() && shown.suggested == Some(outcome);
                button type="submit" name="outcome" value=(outcome) class=(answer_class(outcome)) autofocus[suggested] {
                    (answer_label(outcome))
                }
            }
        }
    }
}

/// A page that only says something.
pub(super) fn message(status: StatusCode, title: &str, said: &Markup) -> Response {
    page(status, title, &html! { h1 { (title) } (said) })
}

pub(super) fn thanks(linked: &LinkedTask, outcome: &str) -> Response {
    let title = linked.gate.task.as_ref().map_or("", |task| task.title.as_str());
    message(
        StatusCode::OK,
        "Thank you",
        &html! {
            p { "Your answer to " strong { (title) } " has been recorded:" }
            p { strong { (outcome_label(outcome)) } }
            p class="soft" { "You can close this page." }
        },
    )
}

/// Who answered is told only to that person: others were asked, and need not know each other.
pub(super) fn answered(
    status: StatusCode,
    link: &TaskLink,
    linked: &LinkedTask,
    answer: &TaskAnswer,
) -> Response {
    let by_them = answer.answered_by == link.recipient;
    let title = linked.gate.task.as_ref().map_or("", |task| task.title.as_str());
    message(
        status,
        "Already answered",
        &html! {
            p { strong { (title) } " has been answered. The first answer counts, so nothing was changed." }
            dl {
                dt { "Answer" } dd { (outcome_label(&answer.outcome)) }
                @if by_them { dt { "By" } dd { (answer.answered_by) } }
                dt { "At" } dd { (time(answer.at_ms)) }
            }
        },
    )
}

pub(super) fn closed(status: StatusCode) -> Response {
    let said = html! { p { "This question does not wait for an answer any more. It was closed, or another one took its place." } };
    message(status, "No longer open", &said)
}

pub(super) fn expired(link: &TaskLink) -> Response {
    let said = html! {
        p { "This link could be used until " (time(link.expires_at_ms)) "." }
        p { "The question itself may still be open: ask whoever sent you here for a new link." }
    };
    message(StatusCode::GONE, "This link has expired", &said)
}

pub(super) fn unknown() -> Response {
    let said = html! { p { "Nothing is here. Check that the whole link was copied, or open it from the message you got." } };
    message(StatusCode::NOT_FOUND, "This link is not valid", &said)
}

pub(super) fn gone() -> Response {
    let said = html! { p { "What this link led to is over and has been removed." } };
    message(StatusCode::GONE, "No longer available", &said)
}
