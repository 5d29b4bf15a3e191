//! A local cluster of real `baton server` processes under one parent.

pub mod launcher;
pub mod layout;
pub mod plan;
pub mod process;
pub mod status;

pub use launcher::{Cluster, LaunchOptions};
pub use layout::Layout;
