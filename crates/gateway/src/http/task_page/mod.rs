//! The page of a human task: whoever holds its link reads the question and answers it, without an account or a script.
//!
//! - `GET` never changes anything: programs that check mails open the links in them.
//! - One press of a button is one `POST`, and the first answer counts.
//! - What is not signed by this cluster gets one and the same page, whatever it is.

mod form;
mod layout;
mod view;
pub(crate) mod words;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::request::Parts;
use axum::response::Response;
use baton_protocol::proto::internal::HumanTask;
use baton_protocol::{ErrorCode, ServiceError};
use maud::html;
use serde_json::Value;

use super::App;
use super::call::read_body;
use super::envelope::Notes;
use crate::forms::{Field, HandedIn, Place, Posted, Problem, document, fields, knows_evidence, problems};
use crate::limits::RateStatus;
use crate::links::TaskLink;
use crate::service::{LinkState, LinkedTask};
use view::OpenTask;

/// The route, also as a label.
pub(super) const ROUTE: &str = "/t/{token}";
/// What one answer may have: names and values as they were written.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The same as a browser sends it: a line break has 6 bytes then, a Chinese character 9 for its 3.
const BODY_BYTES_MAX: usize = 4 * ANSWER_BYTES_MAX;
/// Names with values in one answer.
const PAIRS_MAX: usize = 1_000;
const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// A link with what it leads to.
struct Opened {
    link: TaskLink,
    linked: LinkedTask,
}

/// Why there is a page instead of what was asked for. Boxed: it is a whole answer.
type Refused = Box<Response>;

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let opened = match open(&app, &token, &parts).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    if opened.linked.state != LinkState::Open {
        return over(&opened, StatusCode::GONE);
    }
    let task = task(&opened);
    // A link that a mail program mangled behind the question mark is still a link.
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let pairs = query.map(|Query(pairs)| pairs).unwrap_or_default();
    let suggested = pairs.iter().find(|(name, _)| name == "answer");
    view::open(
        StatusCode::OK,
        &OpenTask {
            link: &opened.link,
            linked: &opened.linked,
            task: &task,
            fields: &fields_of(&task),
            evidence: asks_evidence(&task),
            posted: None,
            problems: &[],
            suggested: suggested.map(|(_, outcome)| outcome.as_str()),
        },
    )
}

pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let opened = match open(&app, &token, &parts).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    if opened.linked.state != LinkState::Open {
        return over(&opened, StatusCode::CONFLICT);
    }
    let posted = match read_posted(&app, &parts, body).await {
        Ok(posted) => posted,
        Err(refused) => return *refused,
    };
    let task = task(&opened);
    let fields = fields_of(&task);
    let read = handed_in(&task, &fields, &posted).await;
    let refuse = |problems: &[Problem]| {
        let shown = OpenTask {
            link: &opened.link,
            linked: &opened.linked,
            task: &task,
            fields: &fields,
            evidence: asks_evidence(&task),
            posted: Some(&posted),
            problems,
            suggested: None,
        };
        view::open(StatusCode::UNPROCESSABLE_ENTITY, &shown)
    };
    let handed_in = match read {
        Ok(handed_in) => handed_in,
        Err(problems) => return refuse(&problems),
    };
    let committed = app
        .service
        .answer_linked(&opened.link, &opened.linked.gate, handed_in)
        .await;
    let error = match committed {
        Ok(_) => return view::thanks(&opened.linked, posted.text("outcome").unwrap_or_default()),
        Err(failure) => failure.error,
    };
    if error.code == ErrorCode::TaskResultInvalid {
        return refuse(&[Problem {
            place: Place::Field(String::new()),
            message: error.message,
        }]);
    }
    if ![ErrorCode::Conflict, ErrorCode::IntentTerminal].contains(&error.code) {
        return unavailable(&error);
    }
    // Somebody was faster, or time ran out: the page says which.
    match look(&app, opened.link).await {
        Ok(now) if now.linked.state != LinkState::Open => over(&now, StatusCode::CONFLICT),
        Ok(_) => try_again(None),
        Err(refused) => *refused,
    }
}

/// Another method than the page's own. The path is a secret, so this is a page like the others, and names no link.
pub(super) async fn other_method() -> Response {
    let said = html! { p { "Open the link in a browser, and answer with the buttons there." } };
    let mut response = view::message(StatusCode::METHOD_NOT_ALLOWED, "This cannot be done here", &said);
    let methods = HeaderValue::from_static("GET, HEAD, POST");
    response.headers_mut().insert(ALLOW, methods);
    response
}

/// Reads the link and what it leads to, within the limits.
async fn open(app: &App, token: &str, parts: &Parts) -> Result<Opened, Refused> {
    if let Some(notes) = parts.extensions.get::<Arc<Notes>>() {
        let _ = notes.endpoint.set(ROUTE);
    }
    let link = match app.service.read_link(token).await {
        Ok(Some(link)) => link,
        Ok(None) => return Err(Box::new(forged(app, parts))),
        Err(error) => return Err(Box::new(unavailable(&error))),
    };
    // By link, so that who holds one of them cannot keep others from answering.
    let TaskLink {
        intent_id,
        generation,
        expires_at_ms,
        recipient,
    } = &link;
    let holder = format!("link {intent_id} {generation} {expires_at_ms} {recipient}");
    if let Some(refused) = app.count_link(&holder).filter(|rate| !rate.allowed) {
        return Err(Box::new(too_many(&refused)));
    }
    look(app, link).await
}

/// What a link leads to now.
async fn look(app: &App, link: TaskLink) -> Result<Opened, Refused> {
    match app.service.linked_task(&link).await {
        Ok(Some(linked)) => Ok(Opened { link, linked }),
        Ok(None) => Err(Box::new(view::gone())),
        Err(error) => Err(Box::new(unavailable(&error))),
    }
}

/// A link that is none. Who tries many is told to wait; good links from the same address work on.
fn forged(app: &App, parts: &Parts) -> Response {
    let address = parts.extensions.get::<PeerAddress>();
    let from = address.map_or_else(String::new, |peer| format!("from {}", peer.0));
    match app.count_link(&from) {
        Some(rate) if !rate.allowed => too_many(&rate),
        _ => view::unknown(),
    }
}

fn over(opened: &Opened, status: StatusCode) -> Response {
    match &opened.linked.state {
        LinkState::Answered(answer) => view::answered(status, &opened.link, &opened.linked, answer),
        LinkState::Expired => view::expired(&opened.link),
        LinkState::Open | LinkState::Closed => view::closed(status),
    }
}

fn task(opened: &Opened) -> HumanTask {
    opened.linked.gate.task.clone().unwrap_or_default()
}

fn fields_of(task: &HumanTask) -> Vec<Field> {
    if task.form_schema.is_empty() {
        return Vec::new();
    }
    fields(&task.form_schema)
}

/// Whether the page takes evidence: the task needs it, or its form has a place for it.
fn asks_evidence(task: &HumanTask) -> bool {
    task.evidence_required || knows_evidence(&task.form_schema)
}

async fn read_posted(app: &App, parts: &Parts, body: Body) -> Result<Posted, Refused> {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(FORM_TYPE) {
        let said = html! { p { "Answers are sent as " code { (FORM_TYPE) } ", as the page itself does." } };
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Box::new(view::message(status, "This cannot be read", &said)));
    }
    let too_large = || {
        let said = html! { p { "An answer has at most " (ANSWER_BYTES_MAX / 1024) " KiB. Go back and shorten it." } };
        Box::new(view::message(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Your answer is too large",
            &said,
        ))
    };
    let patience = Duration::from_millis(app.service.config.body_timeout_ms);
    let body = match tokio::time::timeout(patience, read_body(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.code == ErrorCode::PayloadTooLarge => return Err(too_large()),
        Ok(Err(_)) | Err(_) => return Err(Box::new(try_again(None))),
    };
    let pairs: Vec<(String, String)> = form_urlencoded::parse(&body)
        .take(PAIRS_MAX + 1)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if pairs.len() > PAIRS_MAX || bytes > ANSWER_BYTES_MAX {
        return Err(too_large());
    }
    Ok(Posted::new(pairs))
}

/// What was handed in, if the task will take it. Running the form's schema is bounded, and done away from the threads
/// that serve everybody.
async fn handed_in(task: &HumanTask, fields: &[Field], posted: &Posted) -> Result<HandedIn, Vec<Problem>> {
    let mut handed_in = HandedIn::default();
    for name in ["outcome", "comment", "evidence"] {
        if let Some(text) = posted.text(name).filter(|text| !text.trim().is_empty()) {
            handed_in.set(name, &Value::from(text));
        }
    }
    let mut unreadable = Vec::new();
    if !fields.is_empty() {
        let (document, problems) = document(fields, posted);
        handed_in.set("data", &document);
        unreadable = problems;
    }
    let (task, checked) = (task.clone(), handed_in.clone());
    let found = tokio::task::spawn_blocking(move || problems(&task, &checked)).await;
    // Checking that breaks off is not the fault of the answer; it is checked again before it counts.
    let found = found.unwrap_or_default();
    let known = |problem: &Problem| !unreadable.iter().any(|first| first.place == problem.place);
    let found: Vec<Problem> = found.into_iter().filter(known).collect();
    unreadable.extend(found);
    unreadable.sort_by_key(|problem| view::position(fields, &problem.place));
    if unreadable.is_empty() {
        Ok(handed_in)
    } else {
        Err(unreadable)
    }
}

fn unavailable(error: &ServiceError) -> Response {
    tracing::debug!(%error, "a task page could not be served");
    try_again(error.retry_after_seconds)
}

fn try_again(seconds: Option<u32>) -> Response {
    let said = html! { p { "The answer could not be taken or shown right now. Nothing is lost: load this page again in a moment." } };
    let mut response = view::message(StatusCode::SERVICE_UNAVAILABLE, "Please try again", &said);
    let seconds = HeaderValue::from(seconds.unwrap_or(1));
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}

fn too_many(rate: &RateStatus) -> Response {
    let said = html! { p { "Too many requests. Wait a minute, then load this page again." } };
    let mut response = view::message(StatusCode::TOO_MANY_REQUESTS, "Please wait", &said);
    let seconds = HeaderValue::from(rate.retry_after_seconds);
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}
