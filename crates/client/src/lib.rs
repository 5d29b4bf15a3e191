//! The Rust client of Baton: submit intents, follow them, work on them.
//!
//! # Invariants
//! - A write is repeated only when it carries an idempotency key or the answer proves that nothing happened. Keys are
//!   drawn where the caller gives none, and stay the same over all tries.
//! - Every call has a total time; every queue and everything in flight has a bound.
//! - A watch gives each event once and in order; a worker runs an item at most once at a time, whatever the connection
//!   does.
//! - What a caller sees are types of this crate; payloads and keys appear in no log line and no `Debug` text.
//!
//! Depends on `protocol` and knows nothing of a server's inside.
//!
//! Start with [`Client::builder`]; then [`Client::submit`], [`Client::submitter`] for many, [`Client::watch`],
//! [`Client::worker`].

mod admin;
mod agents;
mod builder;
mod callbacks;
mod client;
mod deliveries;
mod endpoints;
mod error;
mod inbox;
mod intents;
mod leaders;
mod retry;
mod scenarios;
mod schemas;
mod submit;
mod tasks;
mod tls;
mod types;
mod watch;
mod worker;

pub use agents::NewAgent;
pub use builder::{ClientBuilder, ENDPOINTS_MAX};
pub use callbacks::NewCallback;
pub use client::Client;
pub use deliveries::ReplayMany;
pub use error::{Error, ErrorKind};
pub use intents::{ChangeCall, Pages, Resume};
pub use retry::RetryPolicy;
pub use schemas::NewSchema;
pub use submit::{Ended, Ending, IN_FLIGHT_MAX, KeyScope, Submit, Submitter, SubmitterBuilder, Ticket};
pub use tasks::NewAnswer;
pub use tls::Tls;
pub use tokio_util::sync::CancellationToken;
pub use types::{
    Agent, Backlog, BulkCancel, BulkReplay, CallbackChange, Canceled, Change, ClusterStatus, Delivery,
    DeliveryFilter, DeliveryPage, DeliveryState, Event, Group, HumanTask, Intent, IntentFilter, Node,
    Outcome, Payload, Receipt, Registration, Reminders, Replay, Resolution, Scenario, Schema, SchemaMode,
    Status, Task, TaskAnswer, TaskFilter, TaskPage, Thread, ThreadEntry, Validation, WaitingReason,
};
pub use watch::Watch;
pub use worker::{Job, JobError, Worker};
