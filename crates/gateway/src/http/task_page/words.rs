//! How things are said to people.

use baton_protocol::human_task::is_positive;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::http::time::render_ms;

/// What a button says that gives this answer.
pub(crate) fn answer_label(outcome: &str) -> String {
    let known = match outcome {
        "approved" => "Approve",
        "rejected" => "Reject",
        "changes_requested" => "Request changes",
        "confirmed" => "Confirm",
        "denied" => "Deny",
        "assigned" => "Accept",
        "declined" => "Decline",
        "provided" => "Provide",
        "submitted" => "Submit",
        "completed" => "Mark as completed",
        "failed" => "Mark as failed",
        "override_approved" => "Approve the override",
        "cannot_assess" => "I cannot assess this",
        other => return spaced(other),
    };
    known.to_owned()
}

/// What was answered.
pub(crate) fn outcome_label(outcome: &str) -> String {
    spaced(outcome)
}

/// The class of a button.
pub(super) fn answer_class(outcome: &str) -> &'static str {
    if is_positive(outcome) { "yes" } else { "no" }
}

fn spaced(name: &str) -> String {
    let text = name.replace(['_', '-'], " ");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `1 May 2026, 10:00 UTC`.
pub(crate) fn instant(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.to_zoned(TimeZone::UTC)
        .strftime("%-d %B %Y, %H:%M UTC")
        .to_string()
}

/// An instant for people and for machines.
pub(super) fn time(unix_ms: u64) -> Markup {
    html! { time datetime=(render_ms(unix_ms)) { (instant(unix_ms)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_instants_read_well() {
        assert_eq!(answer_label("approved"), "Approve");
        assert_eq!(answer_label("ship_it-now"), "Ship it now");
        assert_eq!(outcome_label("changes_requested"), "Changes requested");
        assert_eq!(instant(1_777_629_600_123), "1 May 2026, 10:00 UTC");
        assert!(instant(u64::MAX).contains("9999"));
    }
}
