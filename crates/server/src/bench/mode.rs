//! The choices of a run.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt;

/// What one operation of a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One intent until it is acknowledged: synced on a majority
    Submit,
    /// Submit, delivery to an agent, its result, and the end seen by the submitter
    Cycle,
    /// A linearizable read of a stored intent
    Get,
    /// One event seen by every one of C observers
    FanOut,
    /// A cycle whose agent is an HTTP endpoint: submit, signed post to it, its result, and the end seen by the submitter
    Push,
    /// Many intents that wait for an agent: what they cost in memory and on disk
    Waiting,
}

/// How the generator talks to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// baton.v1 over few connections with pipelined streams
    Grpc,
    /// HTTP and event streams, a connection for each request under way
    Axp,
}

/// Idempotency keys of the submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Idempotency {
    /// No keys
    None,
    /// A key of its own for each intent, unique for the caller; may take two commits more
    Caller,
    /// A key of its own for each intent, unique for caller and recipient (gRPC only); no commit more
    Recipient,
}

/// What the observers of a fan-out look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Observe {
    /// The deliveries of one agent, on streams that stay open
    Agent,
    /// The events of one intent, on streams opened for it
    Intent,
}

macro_rules! named {
    ($($type:ty),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.pad(value.as_ref().map_or("", |value| value.get_name()))
            }
        }
    )+};
}

named!(Mode, Protocol, Idempotency, Observe);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_the_command_line_in_tables_and_in_json() {
        for mode in Mode::value_variants() {
            let name = mode.to_string();
            assert_eq!(Mode::from_str(&name, false), Ok(*mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), name.as_str());
        }
        assert_eq!(Mode::FanOut.to_string(), "fan-out");
    }
}
