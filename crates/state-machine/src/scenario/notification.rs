//! Notification steps: the event is the record, every channel gets its notice, and the scenario goes on.

use super::hold_by_runtime;
use crate::lifecycle::{self, Entry, SCHEDULER};
use crate::notices;
use crate::rows;
use crate::transaction::{Stop, Transaction};
use baton_protocol::proto::internal::{CompiledStep, EventDetails, EventType, Intent, Notification, Status};

/// What a subject or body may hold in place of the parent's id.
const INTENT_ID: &str = "{{intent_id}}";

pub(super) fn record(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    step: &CompiledStep,
    notification: &Notification,
) -> Result<(), Stop> {
    let id = rows::id_of(parent)?.to_string();
    let notification = Notification {
        subject: notification.subject.replace(INTENT_ID, &id),
        body: notification.body.replace(INTENT_ID, &id),
        ..notification.clone()
    };
    hold_by_runtime(parent);
    let entry = Entry::new(EventType::InProgress, Status::InProgress, SCHEDULER).details(EventDetails {
        step_id: step.step_id.clone(),
        notification: Some(notification.clone()),
        ..EventDetails::default()
    });
    lifecycle::append(tx, parent, entry)?;
    notices::of_notification(tx, parent, &notification, &step.step_id)
}
