//! What calls take and give: types of our own, so that a program never handles generated ones.

mod agent;
mod cluster;
mod event;
mod intent;
mod payload;
mod status;
mod thread;

pub use agent::{Agent, Backlog, Registration};
pub use cluster::{ClusterStatus, Group, Node};
pub use event::{Event, Outcome};
pub use intent::{
    BulkCancel, Canceled, Change, Intent, IntentFilter, Receipt, Resolution, Scenario, Validation,
};
pub use payload::Payload;
pub use status::{Status, WaitingReason};
pub use thread::{Thread, ThreadEntry};

/// Zero and empty mean "absent" in the wire format.
fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn number(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
