//! Deliveries, memory and disk.

use super::Values;
use clap::Args;

#[derive(Debug, Clone, Default, Args)]
pub struct TuningFlags {
    /// Milliseconds a delivery may stay without pick-up before it is sent again
    /// [key: delivery.visibility_timeout_ms; default: 15000]
    #[arg(
        long,
        env = "BATON_DELIVERY_VISIBILITY_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Tuning"
    )]
    pub visibility_timeout_ms: Option<u64>,
    /// Milliseconds a picked-up delivery may stay unfinished before it is sent again
    /// [key: delivery.pickup_timeout_ms; default: 600000]
    #[arg(
        long,
        env = "BATON_DELIVERY_PICKUP_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Tuning"
    )]
    pub pickup_timeout_ms: Option<u64>,
    /// Bytes of memory for the tables of all groups [key: storage.table_memory_bytes; default: 536870912]
    #[arg(
        long,
        env = "BATON_STORAGE_TABLE_MEMORY_BYTES",
        value_name = "BYTES",
        help_heading = "Tuning"
    )]
    pub table_memory_bytes: Option<u64>,
    /// Trust a log that lost its end, when the other voters of a group are gone for good; acknowledged writes may be
    /// missing from it [key: storage.trust_cut_log; default: false]
    #[arg(
        long,
        env = "BATON_STORAGE_TRUST_CUT_LOG",
        value_name = "BOOL",
        help_heading = "Tuning"
    )]
    pub trust_cut_log: Option<bool>,
    /// Free bytes on the data directory's disk below which writes are refused while reads go on, 0 = never
    /// [key: storage.disk_free_min_bytes; default: 536870912]
    #[arg(
        long,
        env = "BATON_STORAGE_DISK_FREE_MIN_BYTES",
        value_name = "BYTES",
        help_heading = "Tuning"
    )]
    pub disk_free_min_bytes: Option<u64>,
}

impl TuningFlags {
    pub(super) fn put(&self, values: &mut Values) {
        values.set("delivery.visibility_timeout_ms", self.visibility_timeout_ms);
        values.set("delivery.pickup_timeout_ms", self.pickup_timeout_ms);
        values.set("storage.table_memory_bytes", self.table_memory_bytes);
        values.set("storage.trust_cut_log", self.trust_cut_log);
        values.set("storage.disk_free_min_bytes", self.disk_free_min_bytes);
    }
}
