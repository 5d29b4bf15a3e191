//! Consensus behind the ports of gateway and delivery. Nothing here decides anything.

mod cluster;
mod delivery;
mod gateway;
mod health;
mod notify;
mod push;

pub use cluster::ConsensusCluster;
pub use delivery::{ConsensusNetwork, DispatchStreams, Led};
pub use gateway::{ConsensusPorts, HubFeed, HubWork};
pub use health::NodeHealth;
pub use notify::{hook_secret, notifier, smtp};
pub use push::{authorities, push};
