//! Consensus behind the ports of gateway and delivery. Nothing here decides anything.

mod cluster;
mod delivery;
mod gateway;
mod health;

pub use cluster::ConsensusCluster;
pub use delivery::{ConsensusNetwork, DispatchStreams, Led};
pub use gateway::{ConsensusPorts, HubFeed, HubWork};
pub use health::NodeHealth;
