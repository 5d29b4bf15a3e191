//! Metric names of this crate. Never labelled by intent or agent.

use baton_protocol::GroupId;
use metrics::{counter, gauge};
use std::time::Duration;

/// Delivery attempts by `outcome`: `written`, `picked_up`, `failed` ({attempt}).
pub const ATTEMPTS: &str = "baton.delivery.attempts";
/// Deliveries that got a fresh cursor without consuming an attempt ({delivery}).
pub const REDELIVERIES: &str = "baton.delivery.redeliveries";
/// Subscriptions that a group's leader serves ({listener}).
pub const LISTENERS: &str = "baton.delivery.listeners";
/// Items handed to workers ({item}).
pub const WORK_ITEMS: &str = "baton.delivery.work.items";
/// Workers that a group's leader serves ({worker}).
pub const WORKERS: &str = "baton.delivery.workers";
/// How long the oldest waiting message to a target has been known to the pump (s).
pub const OUTBOX_LAG: &str = "baton.delivery.outbox.lag";

/// Describes every metric to the installed recorder.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
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
    // Known from the first scrape on.
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
