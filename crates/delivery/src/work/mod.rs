//! Competing workers: each open delivery of an address goes to one of them at a time.
//!
//! `engine` decides, in the one task of `group`, on the node that leads the agents' group; `session` is a stream
//! from a node with workers, whose side is `node`. Decision 0015 says what a fence and a lease mean.

mod engine;
mod frames;
mod group;
mod node;
mod session;

pub(crate) use group::WorkGroup;
pub use node::{WorkHub, Worker};
