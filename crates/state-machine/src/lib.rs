//! Baton's replicated state machine.
//!
//! # Invariants
//! - `apply` is a pure, total function of (tables, batch, context): no clock, randomness, I/O, async, floats or
//!   hash-map order. Any decodable command gets a `Reply`; `Err` means storage failed and stops the group.
//! - Per intent, events have `seq` 1, 2, 3 … without gaps, a terminal status never changes, and exactly one
//!   terminal event exists.
//! - A refused command leaves nothing behind: no row, no event, no effect.
//! - Every row key begins with table and slot (`keys`), so that a group can be split by slot.
//! - Groups affect each other through `outbox` messages only, numbered per (source, target) without gaps.
//! - Every read checks the tenant; what a caller may not see does not exist for it.
//! - An open human task (`gates`) is passed by its answer or by the end of the intent, nothing else; an answer names the generation
//!   of the task it was checked against, so of two at once one wins.
//! - A scenario starts a bounded number of steps, and what its end leaves open (step, question, timer) ends with it.
//! - What people and administrators change leaves a sealed event in the entry that changes it (`audit`); of refused commands only those that
//!   their caller had no right to leave anything, which is such an event.
//! - Effects are hints for the leader; all of them can be recomputed from the tables.
//!
//! Must not depend on tokio, openraft, sled, clocks or random numbers.

pub mod apply;
mod audit;
mod callbacks;
mod commands;
mod controls;
mod dedup;
mod deliveries;
mod envelope;
mod gates;
mod handover;
mod idempotency;
mod intents;
mod json;
mod keys;
mod lifecycle;
mod listing;
mod mailbox;
pub mod memory;
mod notices;
mod outbox;
mod pushes;
pub mod query;
mod references;
mod reminders;
mod retention;
mod rows;
mod scenario;
mod scenario_gates;
pub mod tables;
mod tenants;
#[doc(hidden)]
pub mod testing;
mod threads;
mod timers;
mod transaction;
mod visibility;
mod write_batch;

pub use apply::{Applied, ApplyContext, Effect, Settings, apply, is_deduplicated};
pub use deliveries::{DeliveryRows, delivery_rows, open_deliveries};
pub use lifecycle::birth_events;
pub use mailbox::BACKLOG_DELIVERIES_MAX;
pub use memory::MemoryTables;
pub use query::{log_time_ms, next_due_ms, outbox_head, query};
pub use tables::{Change, Changes, Level, TableError, Tables};
pub use write_batch::WriteBatch;
