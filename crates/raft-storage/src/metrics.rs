//! Names of this crate's metrics; the exporter adds the unit and `total`.

/// Seconds from the first waiting write of a batch until it is synced and acknowledged.
pub const LOG_APPEND_SECONDS: &str = "baton.raft.append.duration";
/// Seconds of one sync of a log file.
pub const LOG_SYNC_SECONDS: &str = "baton.wal.fsync.duration";
/// Syncs of log files.
pub const LOG_SYNCS: &str = "baton.wal.fsyncs";
/// Writes (of all groups) that shared one batch.
pub const LOG_BATCH_ITEMS: &str = "baton.wal.batch.items";
/// Entry bytes in one batch.
pub const LOG_BATCH_BYTES: &str = "baton.wal.batch.size";
/// Bytes of recent entries in memory.
pub const LOG_CACHE_BYTES: &str = "baton.wal.cache.size";
/// Replicas that hold old log files.
pub const LOG_OLD_FILE_REPLICAS: &str = "baton.wal.old_file_replicas";
/// Bytes of rows in memory that no checkpoint has written yet, all groups.
pub const OVERLAY_BYTES: &str = "baton.tables.overlay.size";
/// Seconds of one apply call.
pub const APPLY_SECONDS: &str = "baton.apply.duration";
/// Seconds of one checkpoint.
pub const CHECKPOINT_SECONDS: &str = "baton.checkpoint.duration";
/// Rows written by one checkpoint.
pub const CHECKPOINT_ROWS: &str = "baton.checkpoint.rows";
/// Tables deleted and rebuilt at open.
pub const TABLES_REBUILT: &str = "baton.tables.rebuilt";
/// Seconds of building one snapshot.
pub const SNAPSHOT_BUILD_SECONDS: &str = "baton.raft.snapshot.duration";
/// Bytes of the last snapshot built.
pub const SNAPSHOT_BYTES: &str = "baton.raft.snapshot.size";

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
    describe_gauge!(
        OVERLAY_BYTES,
        Unit::Bytes,
        "rows in memory that no checkpoint has written yet"
    );
    describe_histogram!(APPLY_SECONDS, Unit::Seconds, "one apply call");
    describe_histogram!(CHECKPOINT_SECONDS, Unit::Seconds, "one checkpoint");
    describe_histogram!(CHECKPOINT_ROWS, "rows written by one checkpoint");
    describe_counter!(TABLES_REBUILT, "tables deleted and rebuilt at open");
    describe_histogram!(SNAPSHOT_BUILD_SECONDS, Unit::Seconds, "building one snapshot");
    describe_gauge!(SNAPSHOT_BYTES, Unit::Bytes, "last snapshot built");
    // Known from the first scrape on.
    metrics::counter!(LOG_SYNCS).increment(0);
    metrics::counter!(TABLES_REBUILT).increment(0);
}
