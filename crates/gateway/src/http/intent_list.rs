//! Intents as operators see them: lists, and ending many at once.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use baton_protocol::limits::{ACTOR_CHARS_MAX, BULK_CANCEL_MAX, LIST_PAGE_MAX, REASON_CHARS_MAX};
use baton_protocol::proto::internal::Status;
use baton_protocol::{IntentId, ServiceError};

use super::agents::statuses;
use super::call::Call;
use super::error::ApiError;
use super::json::{JsonObject, invalid};
use super::render::{Beside, Object, intent_json, string_json, uuid_text};
use super::time::parse_ms;
use super::{App, json};
use crate::service::{BulkCancel, Change, IntentFilter};

/// Intents in a page when nothing is said (surface 3.4).
const PAGE_DEFAULT: u32 = 50;
/// Age of what a bulk cancel ends when nothing is said, hours.
const OLDER_THAN_HOURS_DEFAULT: f64 = 24.0;
/// Highest age that can be asked for, hours.
const OLDER_THAN_HOURS_MAX: f64 = 24.0 * 366.0 * 100.0;
const INTENT_TYPE_CHARS_MAX: usize = 255;
/// What a bulk cancel ends when nothing is said.
const STATUSES_DEFAULT: [Status; 5] = [
    Status::Delivered,
    Status::Waiting,
    Status::InProgress,
    Status::Submitted,
    Status::Acknowledged,
];

pub(super) async fn list(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let limit = call.query_number("limit")?.unwrap_or(PAGE_DEFAULT.into());
    let limit = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, LIST_PAGE_MAX);
    let before = call.query("cursor").map(cursor).transpose()?;
    let found = app
        .service
        .list_intents(&call.caller, &query_filter(&call)?, before, limit)
        .await?;
    let mut out = Object::ok();
    let intents = found.intents.iter();
    out.list(
        "intents",
        intents.map(|intent| intent_json(intent, Beside::default())),
    );
    let next = found.next.map(|id| id.to_string()).unwrap_or_default();
    out.text_or_null("next_cursor", &next);
    out.flag("has_more", found.next.is_some());
    Ok(json(out.finish()))
}

pub(super) async fn bulk_cancel(State(app): State<Arc<App>>, call: Call) -> Result<Response, ApiError> {
    let body = call.json()?;
    let bulk = decode_bulk(&body, app.service.ports.environment.now_ms())?;
    let dry_run = bulk.dry_run;
    let done = app.service.bulk_cancel(&call.caller, bulk).await?;
    let (failed, canceled): (Vec<_>, Vec<_>) = done.outcomes.iter().partition(|o| o.failure.is_some());
    let mut out = Object::ok();
    out.flag("dry_run", dry_run);
    out.number("would_cancel", if dry_run { canceled.len() as u64 } else { 0 });
    out.number("canceled", if dry_run { 0 } else { canceled.len() as u64 });
    let ids = canceled.iter().map(|o| string_json(&uuid_text(&o.intent_id)));
    out.list("intent_ids", ids);
    let reasons = failed.iter().filter_map(|o| {
        let failure = o.failure.as_ref()?;
        let mut entry = Object::new();
        entry.text("intent_id", &uuid_text(&o.intent_id));
        entry.text("code", failure.error.code.name());
        entry.text("message", &failure.error.message);
        Some(entry.finish())
    });
    out.list("failed", reasons);
    out.flag("has_more", done.more);
    Ok(json(out.finish()))
}

fn query_filter(call: &Call) -> Result<IntentFilter, ServiceError> {
    let time = |name: &str| match call.query(name) {
        Some(text) => parse_ms(text).ok_or_else(|| {
            invalid(format!(
                "{name} must be an RFC 3339 date and time, such as 2026-05-01T10:00:00Z"
            ))
        }),
        None => Ok(0),
    };
    Ok(IntentFilter {
        to_agent: call.query("to_agent").map(str::to_owned),
        statuses: match call.query("status") {
            Some(list) => statuses(list.split(','))?,
            None => Vec::new(),
        },
        intent_type: call.query("intent_type").unwrap_or_default().to_owned(),
        correlation_id: call.query("correlation_id").unwrap_or_default().to_owned(),
        created_from_ms: time("created_from")?,
        created_until_ms: time("created_until")?,
    })
}

fn cursor(text: &str) -> Result<IntentId, ServiceError> {
    IntentId::parse(text).ok_or_else(|| invalid("cursor is not the next_cursor of an earlier answer"))
}

fn decode_bulk(body: &JsonObject, now_ms: u64) -> Result<BulkCancel, ServiceError> {
    let hours = body
        .decimal("older_than_hours")?
        .unwrap_or(OLDER_THAN_HOURS_DEFAULT);
    if !(0.0..=OLDER_THAN_HOURS_MAX).contains(&hours) {
        return Err(invalid("older_than_hours must be between 0 and 878400"));
    }
    let age_ms = std::time::Duration::from_secs_f64(hours * 3_600.0).as_millis();
    let age_ms = u64::try_from(age_ms).unwrap_or(u64::MAX);
    let names = body.texts("status_filter")?;
    let limit = body.number("limit")?.unwrap_or(BULK_CANCEL_MAX.into());
    Ok(BulkCancel {
        filter: IntentFilter {
            to_agent: body.address("to_agent")?,
            statuses: match names {
                Some(names) => statuses(names.iter().map(String::as_str))?,
                None => STATUSES_DEFAULT.to_vec(),
            },
            intent_type: body
                .text("intent_type", INTENT_TYPE_CHARS_MAX)?
                .unwrap_or_default(),
            created_until_ms: now_ms.saturating_sub(age_ms).max(1),
            ..IntentFilter::default()
        },
        limit: u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, BULK_CANCEL_MAX),
        dry_run: body.flag("dry_run")?.unwrap_or(true),
        change: Change {
            label: body.text("actor", ACTOR_CHARS_MAX)?,
            reason: body.text("reason", REASON_CHARS_MAX)?.unwrap_or_default(),
            ..Change::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn bulk(body: &str) -> Result<BulkCancel, ServiceError> {
        decode_bulk(&JsonObject::parse(body.as_bytes()).unwrap(), NOW_MS)
    }

    #[test]
    fn an_empty_bulk_cancel_only_looks_at_what_is_a_day_old() {
        let found = bulk("{}").unwrap();
        assert!(found.dry_run);
        assert_eq!(found.limit, BULK_CANCEL_MAX);
        assert_eq!(found.filter.created_until_ms, NOW_MS - 24 * 3_600_000);
        assert_eq!(found.filter.statuses, STATUSES_DEFAULT);
    }

    #[test]
    fn parts_of_an_hour_and_chosen_statuses() {
        let found = bulk(r#"{"older_than_hours":0.5,"dry_run":false,"status_filter":["waiting"]}"#).unwrap();
        assert!(!found.dry_run);
        assert_eq!(found.filter.created_until_ms, NOW_MS - 1_800_000);
        assert_eq!(found.filter.statuses, [Status::Waiting]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (body, field) in [
            (r#"{"older_than_hours":-1}"#, "older_than_hours"),
            (r#"{"older_than_hours":1e300}"#, "older_than_hours"),
            (r#"{"older_than_hours":"soon"}"#, "older_than_hours"),
            (r#"{"status_filter":["ASLEEP"]}"#, "status"),
            (r#"{"status_filter":"WAITING"}"#, "status_filter"),
            (r#"{"dry_run":"yes"}"#, "dry_run"),
        ] {
            let error = bulk(body).unwrap_err();
            assert!(error.message.contains(field), "{body}: {}", error.message);
        }
    }
}
