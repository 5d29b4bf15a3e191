//! Metric names of this crate. Never labelled by intent or agent.

use crate::push::OUTCOMES;
use baton_protocol::GroupId;
use baton_protocol::proto::internal::report_notice::Outcome as NoticeOutcome;
use metrics::{counter, gauge, histogram};
use std::time::Duration;

/// Delivery attempts by `outcome`: `written`, `picked_up`, `failed` ({attempt}).
pub const ATTEMPTS: &str = "baton.delivery.attempts";
/// Deliveries that got a fresh cursor without consuming an attempt ({delivery}).
pub const REDELIVERIES: &str = "baton.delivery.redeliveries";
/// Subscriptions that a group's leader serves ({listener}).
pub const LISTENERS: &str = "baton.delivery.listeners";
/// Items handed to workers ({item}).
pub const WORK_ITEMS: &str = "baton.delivery.work.items";
/// Posts to endpoints by `outcome` ({attempt}).
pub const PUSH_ATTEMPTS: &str = "baton.push.attempts";
/// How long a post took, by `outcome` (s).
pub const PUSH_DURATION: &str = "baton.push.duration";
/// Posts under way ({attempt}).
pub const PUSH_IN_FLIGHT: &str = "baton.push.in_flight";
/// Endpoints that are left alone for a while because they fail ({endpoint}).
pub const PUSH_HELD: &str = "baton.push.endpoints_held";
/// Attempts to send a message to somebody by `outcome`: `sent`, `failed`, `given_up` ({attempt}).
pub const NOTICES: &str = "baton.notifier.attempts";
/// Workers that a group's leader serves ({worker}).
pub const WORKERS: &str = "baton.delivery.workers";
/// How long the oldest waiting message to a target has been known to the pump (s).
pub const OUTBOX_LAG: &str = "baton.delivery.outbox.lag";

/// Describes every metric to the installed recorder.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(ATTEMPTS, Unit::Count, "delivery attempts, by outcome");
    describe_counter!(
        REDELIVERIES,
        Unit::Count,
        "deliveries sent again without consuming an attempt"
    );
    describe_gauge!(
        LISTENERS,
        Unit::Count,
        "subscriptions served by this node as leader"
    );
    describe_counter!(WORK_ITEMS, Unit::Count, "items handed to workers");
    describe_gauge!(WORKERS, Unit::Count, "workers served by this node as leader");
    describe_gauge!(
        OUTBOX_LAG,
        Unit::Seconds,
        "age of the oldest message waiting for a target group"
    );
    describe_counter!(PUSH_ATTEMPTS, Unit::Count, "posts to endpoints, by outcome");
    describe_histogram!(PUSH_DURATION, Unit::Seconds, "time of a post, by outcome");
    describe_gauge!(PUSH_IN_FLIGHT, Unit::Count, "posts under way");
    describe_gauge!(
        PUSH_HELD,
        Unit::Count,
        "endpoints that are left alone for a while"
    );
    describe_counter!(
        NOTICES,
        Unit::Count,
        "attempts to send messages to people, by outcome"
    );
    for outcome in [NoticeOutcome::Sent, NoticeOutcome::Failed, NoticeOutcome::GivenUp] {
        counter!(NOTICES, "outcome" => notice_label(outcome)).increment(0);
    }
    // Known from the first scrape on.
    for outcome in OUTCOMES {
        counter!(PUSH_ATTEMPTS, "outcome" => outcome).increment(0);
    }
    gauge!(PUSH_IN_FLIGHT).set(0.0);
    for outcome in ["written", "picked_up", "failed"] {
        counter!(ATTEMPTS, "outcome" => outcome).increment(0);
    }
    counter!(REDELIVERIES).increment(0);
    counter!(WORK_ITEMS).increment(0);
}

pub(crate) fn handed_out(items: usize) {
    if items > 0 {
        counter!(WORK_ITEMS).increment(items as u64);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of a bounded count")]
pub(crate) fn workers(group: GroupId, count: usize) {
    gauge!(WORKERS, "group" => group.to_string()).set(count as f64);
}

/// A post under way, for as long as this lives.
pub(crate) struct PushInFlight(());

impl Drop for PushInFlight {
    fn drop(&mut self) {
        gauge!(PUSH_IN_FLIGHT).decrement(1.0);
    }
}

pub(crate) fn push_begins() -> PushInFlight {
    gauge!(PUSH_IN_FLIGHT).increment(1.0);
    PushInFlight(())
}

pub(crate) fn pushed(outcome: &'static str, took: Duration) {
    counter!(PUSH_ATTEMPTS, "outcome" => outcome).increment(1);
    histogram!(PUSH_DURATION, "outcome" => outcome).record(took.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of a bounded count")]
pub(crate) fn endpoints_held(group: GroupId, count: usize) {
    gauge!(PUSH_HELD, "group" => group.to_string()).set(count as f64);
}

pub(crate) fn attempt(outcome: &'static str) {
    counter!(ATTEMPTS, "outcome" => outcome).increment(1);
}

pub(crate) fn redelivery() {
    counter!(REDELIVERIES).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of a bounded count")]
pub(crate) fn listeners(group: GroupId, count: usize) {
    gauge!(LISTENERS, "group" => group.to_string()).set(count as f64);
}

pub(crate) fn outbox_lag(group: GroupId, target: GroupId, lag: Duration) {
    gauge!(OUTBOX_LAG, "group" => group.to_string(), "target" => target.to_string()).set(lag.as_secs_f64());
}

pub(crate) fn noticed(outcome: NoticeOutcome) {
    counter!(NOTICES, "outcome" => notice_label(outcome)).increment(1);
}

fn notice_label(outcome: NoticeOutcome) -> &'static str {
    match outcome {
        NoticeOutcome::Sent => "sent",
        NoticeOutcome::Failed => "failed",
        NoticeOutcome::GivenUp | NoticeOutcome::Unspecified => "given_up",
    }
}
