//! Everything two crates must agree on: protobuf types, addresses, ids, slots, statuses, errors, limits.
//!
//! # Invariants
//! - No I/O, no clock, no randomness: callers pass in time and random bits.
//! - An address maps to the same slot for ever (golden tests); an error number is never reused.
//! - Generated types are the log and disk format: fields are only added.
//!
//! Must not depend on any other crate of the workspace.

pub mod address;
pub mod audit;
pub mod delivery;
mod envelope;
pub mod error;
pub mod feed;
pub mod human_task;
pub mod ids;
mod intent;
pub mod limits;
pub mod slot;
pub mod status;
#[cfg(feature = "trace")]
pub mod trace;
pub mod work;

/// Generated from `proto/`.
pub mod proto {
    /// `baton.internal.v1`: log records, table rows, queries and the peer protocol. Not a public API.
    #[allow(
        missing_debug_implementations,
        unreachable_pub,
        clippy::all,
        rustdoc::invalid_html_tags,
        reason = "generated code"
    )]
    pub mod internal {
        tonic::include_proto!("baton.internal.v1");
    }

    /// `baton.v1`: the client API.
    #[allow(
        missing_debug_implementations,
        unreachable_pub,
        clippy::all,
        rustdoc::invalid_html_tags,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("baton.v1");

        /// The encoded `FileDescriptorSet` of the client API, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("baton.v1");
    }
}

pub use delivery::DeliveryId;
pub use error::{ErrorCode, ServiceError};
pub use feed::{FeedItem, Listen};
pub use ids::IntentId;
pub use slot::{GroupId, GroupMap, META_GROUP, Route, SLOT_COUNT, Slot};
pub use work::{WorkBatch, WorkInput, WorkItem, WorkOpen, WorkReceipt};
