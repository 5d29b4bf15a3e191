//! The command line as a person or a script uses it: real processes, their output and their exit codes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod offline;
mod online;
mod shell;
#[path = "../support/mod.rs"]
mod support;
