//! What calls take and give: types of our own, so that a program never handles generated ones.

mod agent;
mod cluster;
mod delivery;
mod event;
mod intent;
mod payload;
mod schema;
mod status;
mod task;
mod thread;

pub use agent::{Agent, Backlog, CallbackChange, Registration};
pub use cluster::{ClusterStatus, Group, Node};
pub use delivery::{BulkReplay, Delivery, DeliveryFilter, DeliveryPage, DeliveryState, Replay};
pub use event::{Event, Outcome};
pub use intent::{
    BulkCancel, Canceled, Change, Intent, IntentFilter, Receipt, Resolution, Scenario, Validation,
};
pub use payload::Payload;
pub use schema::{Schema, SchemaMode};
pub use status::{Status, WaitingReason};
pub use task::{HumanTask, Reminders, Task, TaskAnswer, TaskFilter, TaskPage};
pub use thread::{Thread, ThreadEntry};

/// Zero and empty mean "absent" in the wire format.
fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn number(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
