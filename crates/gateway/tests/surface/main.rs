//! The real HTTP server over state machines in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod admin;
mod audit;
mod auth;
mod grpc;
mod inbox;
mod intents;
mod lists;
mod repeats;
mod schemas;
mod streams;
mod support;
mod task_page;
mod tasks;
mod tls;
mod waits;
