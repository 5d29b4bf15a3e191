//! Durable storage of Raft groups: log engine, tables, snapshots, node stamp.

pub mod codec;
pub mod data_dir;
pub mod log;
pub mod machine;
pub mod snapshot;
pub mod tables;
pub mod types;

pub use data_dir::{DataDir, DataDirError, NodeStamp};
pub use log::{FatalHandler, GroupLog, LogEngine, LogError, LogOptions};
pub use machine::{ApplyObserver, GroupMachine, MachineError, MachineOptions, Recovered, StorageWorkers};
pub use snapshot::{SnapshotError, SnapshotFile, SnapshotReader, SnapshotReceiver, SnapshotStore};
pub use tables::TablesHandle;
pub use types::{
    ApplyResponse, BoxResponder, CommittedLeaderId, Entry, EntryData, LogId, Membership, Payload, Snapshot,
    SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id,
};
