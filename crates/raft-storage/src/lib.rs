//! Durable storage of Raft groups: one log engine per node, tables and snapshots per group, the node's stamp.
//!
//! # Invariants
//! - The log is the truth. Nothing of it is acknowledged before a sync that covers it; after a failed write or sync
//!   nothing is acknowledged at all and the process ends.
//! - Tables are a cache of the log: they may be deleted at any time while the process is down, and are rebuilt from
//!   snapshot and log whenever they cannot be trusted.
//! - A snapshot is verified as a whole before it replaces anything; until the replacement is durable the old state
//!   stays in force.
//! - Entries, votes, ids, membership, snapshots and stamps are protobuf with golden-bytes tests.
//! - A replica's files and its region in the log engine are named by its replica id, which is never used again.
//!
//! Must not depend on the network, on clocks for decisions, or on anything above `openraft`'s storage traits.

mod causes;
pub mod codec;
pub mod data_dir;
mod disk;
mod files;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod recovery;
pub mod snapshot;
pub mod tables;
pub mod types;
mod workers;

pub use data_dir::{DataDir, DataDirError, NodeStamp};
pub use disk::{DiskSpace, MountedDisk};
pub use log::{FatalHandler, GroupLog, LogEngine, LogError, LogOptions};
pub use machine::{ApplyObserver, GroupMachine, MachineError, MachineOptions, Recovered, SnapshotBuilder};
pub use snapshot::{SnapshotError, SnapshotFile, SnapshotReader, SnapshotReceiver, SnapshotStore};
pub use tables::{TableMemory, TablesHandle};
pub use types::{
    ApplyResponse, BoxResponder, CommittedLeaderId, Entry, EntryData, LogId, Membership, Payload, Snapshot,
    SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id,
};
pub use workers::StorageWorkers;
