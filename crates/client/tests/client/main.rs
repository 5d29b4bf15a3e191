//! The client against small servers of its own kind: real connections, scripted trouble.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod calls;
mod leaders;
mod submitter;
mod support;
mod watch;
mod worker;
