//! The `baton` binary: configuration, telemetry, wiring of one node, and the command line.
//!
//! # Invariants
//! - The adapters here are the only place that knows consensus, delivery and gateway at once.
//! - A command ends with a documented exit code and, when it fails, one line that says what to do.
//! - A credential is written only to files of mode 0600; the log of a group sees hashes alone.
//! - `dev`, `demo` and `bench` start the same `baton server` processes an operator would, and reach them only
//!   through their ports.

pub mod config;
pub mod exit;
