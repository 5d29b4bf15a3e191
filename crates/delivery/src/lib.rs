//! Executes what the state machine decides: timers, cross-group messages, deliveries to listeners and by HTTP push.
//!
//! # Invariants
//! - Only a group's leader acts on the outside; whatever it does returns as a command. Everything kept here is soft
//!   state: a new leader recomputes it from the tables and loses nothing but the knowledge who was written to.
//! - Level-triggered: effects are hints. After a start or a lag the tables are read again.
//! - An attempt is consumed only when a delivery was written to a listener and not picked up in time.
//! - A listening node hands out nothing once its lease from the leader has lapsed.
//! - A delivery is with one worker at a time, and with workers or listeners, not both.
//! - A delivery is posted only to an address that was judged when it was dialled, within bounds of time and bytes; an
//!   endpoint takes its share of the posts and no more.
//! - A message to somebody outside is sent within a bound of time; a mail server that is dead holds up nothing else.
//! - Every queue has a bound named in [`settings`] or [`push::settings`].
//!
//! Must not depend on openraft, storage or the gateway. Only [`push`] and [`notify`] know HTTP, only [`notify`] mail.

mod backoff;
mod dispatch;
mod frames;
mod hub;
mod links;
pub mod metrics;
pub mod notify;
mod outbox;
pub mod ports;
mod pulse;
pub mod push;
mod service;
pub mod settings;
mod work;

pub use baton_state_machine::DeliveryRows;
pub use dispatch::Dispatcher;
pub use hub::AgentHub;
pub use notify::Notifier;
pub use ports::{AppliedFeed, AppliedNotice, LedGroup, Network};
pub use push::{Push, PushBody, PushClient, PushDirectory, PushSettings};
pub use service::GroupService;
pub use settings::DeliverySettings;
pub use work::{WorkHub, Worker};
