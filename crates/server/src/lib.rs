//! The `baton` binary: configuration, telemetry, wiring of one node, and the command line.
//!
//! # Invariants
//! - The adapters here are the only place that knows consensus, delivery and gateway at once.
//! - A command ends with a documented exit code and, when it fails, one line that says what to do.
//! - A credential is written only to files of mode 0600; the log of a group sees hashes alone.
//! - `dev`, `demo` and `bench` start the same `baton server` processes an operator would, and reach them only
//!   through their ports.

pub mod adapters;
pub mod bench;
pub mod certs;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod exit;
pub mod node;
pub mod operator;
pub mod output;
pub mod telemetry;
