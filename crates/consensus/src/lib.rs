//! Consensus of a Baton node: groups, peer link, router, reads, cluster time.
//!
//! # Invariants
//! - An acknowledged command is applied, and thus on stable storage of a majority. All tries of one command carry
//!   one id and end before it expires, so it takes effect at most once.
//! - A linearizable read is served after a majority confirmed the leader's index; leases are never trusted for
//!   reads. A voter that has just started refuses votes for the longest election timeout.
//! - Every stream and frame names cluster, sender and receiver (node and replica); a mismatch is refused before
//!   Raft sees anything of it. A wiped data directory is a new node.
//! - Log time follows the median of the voters' wall clocks; a node whose clock is far off does not lead.
//! - Writes are refused, reads are not, while no majority of a group has room on its disks.
//! - Raft, links and proposers of a node live on one thread; every queue is bounded.
//! - Clock, randomness, transport and free disk space are injected.
//!
//! Must not depend on delivery, gateway or server.

mod apply_hub;
mod bootstrap;
pub mod clock;
mod cluster_time;
mod codec;
pub mod config;
mod core;
mod directory;
mod disk_watch;
mod duties;
mod end_notices;
mod endpoint;
mod group;
mod handle;
mod leadership;
mod meta_freshness;
pub mod metrics;
mod network;
mod node;
pub mod peer;
mod proposer;
mod reads;
mod router;
mod sequence;
mod status;
mod streams;
mod suspects;
mod transfer;
mod vote_gate;

pub use apply_hub::{APPLIED_ENTRIES_BUFFERED, AppliedEntry};
pub use baton_state_machine::Settings;
pub use clock::{Clock, Entropy, SeededEntropy, SystemClock, SystemEntropy};
pub use config::{BootstrapCommand, ConsensusConfig, FatalHandler, RaftTiming};
pub use directory::CLUSTER_SIZE_MAX;
pub use handle::ConsensusHandle;
pub use leadership::Leadership;
pub use meta_freshness::META_FRESH_MAX;
pub use node::{Node, StartError};
pub use peer::{FrameStream, NodeAddress, PeerTls, SimNetwork, TonicTransport, Transport};
pub use router::{PROPOSE_TIMEOUT, READ_TIMEOUT};
pub use status::{GroupStatus, Heartbeats, NodeStatus, PeerStatus};
pub use streams::StreamHandler;
