//! Names of this crate's metrics.

/// Seconds from the first waiting write of a batch until it is synced and acknowledged.
pub const LOG_APPEND_SECONDS: &str = "baton_log_append_seconds";
/// Seconds of one sync of a log file.
pub const LOG_SYNC_SECONDS: &str = "baton_log_sync_seconds";
/// Syncs of log files.
pub const LOG_SYNCS: &str = "baton_log_syncs_total";
/// Writes (of all groups) that shared one batch.
pub const LOG_BATCH_ITEMS: &str = "baton_log_batch_items";
/// Entry bytes in one batch.
pub const LOG_BATCH_BYTES: &str = "baton_log_batch_bytes";
/// Bytes of recent entries in memory.
pub const LOG_CACHE_BYTES: &str = "baton_log_cache_bytes";
/// Replicas that hold old log files.
pub const LOG_OLD_FILE_REPLICAS: &str = "baton_log_old_file_replicas";
/// Seconds of one apply call, by `group`.
pub const APPLY_SECONDS: &str = "baton_apply_seconds";
/// Seconds of one checkpoint.
pub const CHECKPOINT_SECONDS: &str = "baton_checkpoint_seconds";
/// Rows written by one checkpoint.
pub const CHECKPOINT_ROWS: &str = "baton_checkpoint_rows";
/// Tables deleted and rebuilt at open.
pub const TABLES_REBUILT: &str = "baton_tables_rebuilt_total";
/// Seconds of building one snapshot.
pub const SNAPSHOT_BUILD_SECONDS: &str = "baton_snapshot_build_seconds";
/// Bytes of the last snapshot built.
pub const SNAPSHOT_BYTES: &str = "baton_snapshot_bytes";

/// Describes every metric to the installed recorder.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        LOG_APPEND_SECONDS,
        Unit::Seconds,
        "first waiting write of a batch until acknowledged"
    );
    describe_histogram!(LOG_SYNC_SECONDS, Unit::Seconds, "one sync of a log file");
    describe_counter!(LOG_SYNCS, "syncs of log files");
    describe_histogram!(LOG_BATCH_ITEMS, "writes that shared one batch");
    describe_histogram!(LOG_BATCH_BYTES, Unit::Bytes, "entry bytes of one batch");
    describe_gauge!(LOG_CACHE_BYTES, Unit::Bytes, "recent entries in memory");
    describe_gauge!(LOG_OLD_FILE_REPLICAS, "replicas that hold old log files");
    describe_histogram!(APPLY_SECONDS, Unit::Seconds, "one apply call");
    describe_histogram!(CHECKPOINT_SECONDS, Unit::Seconds, "one checkpoint");
    describe_histogram!(CHECKPOINT_ROWS, "rows written by one checkpoint");
    describe_counter!(TABLES_REBUILT, "tables deleted and rebuilt at open");
    describe_histogram!(SNAPSHOT_BUILD_SECONDS, Unit::Seconds, "building one snapshot");
    describe_gauge!(SNAPSHOT_BYTES, Unit::Bytes, "last snapshot built");
}
