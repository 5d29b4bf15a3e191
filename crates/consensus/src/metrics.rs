//! Names of this crate's metrics. Units are in the names' descriptions, groups are a label.

use baton_protocol::GroupId;
use metrics::{counter, gauge};

/// Log entries committed and applied at their proposer ({entry}).
pub const COMMITS: &str = "baton.consensus.commits";
/// Commands proposed by this node as leader ({command}).
pub const PROPOSALS: &str = "baton.consensus.proposals";
/// Commands this node forwarded to another leader ({command}).
pub const FORWARDED: &str = "baton.consensus.forwarded";
/// Times a group's leader as seen by this node changed ({change}).
pub const LEADER_CHANGES: &str = "baton.raft.leader_changes";
/// Committed but not applied here ({entry}).
pub const APPLY_LAG: &str = "baton.apply.lag";
/// Term of a group ({term}).
pub const TERM: &str = "baton.raft.term";
/// 1 when this node leads the group.
pub const LEADING: &str = "baton.raft.leader";
/// Read index rounds ({round}).
pub const READ_ROUNDS: &str = "baton.consensus.read_rounds";
/// 1 while this node knows who leads the group.
pub const HAS_LEADER: &str = "baton.raft.has_leader";
/// This node's wall clock minus the median (s).
pub const CLOCK_SKEW: &str = "baton.clock.skew";
/// 1 while this node's clock keeps it from leading.
pub const CLOCK_ALARM: &str = "baton.clock.alarm";
/// Bytes that may still be written to the disk of the data directory.
pub const DISK_FREE_BYTES: &str = "baton.disk.free.size";
/// 1 while the disk of the data directory has no room for more writes.
pub const DISK_LOW: &str = "baton.disk.low";
/// Frames and streams refused for a wrong cluster, node or replica ({refusal}).
pub const IDENTITY_REFUSED: &str = "baton.peer.identity_refused";
/// Messages of all groups' replication streams ({message}).
pub const APPENDS_SENT: &str = "baton.peer.appends_sent";
/// Commit announcements that travelled inside a later message ({message}).
pub const APPENDS_MERGED: &str = "baton.peer.appends_merged";

/// Describes every metric to the installed recorder.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!(COMMITS, Unit::Count, "log entries committed by their proposer");
    describe_counter!(PROPOSALS, Unit::Count, "commands proposed by this node as leader");
    describe_counter!(FORWARDED, Unit::Count, "commands forwarded to another leader");
    describe_counter!(
        LEADER_CHANGES,
        Unit::Count,
        "leaders that took office, as seen here"
    );
    describe_gauge!(APPLY_LAG, Unit::Count, "entries committed but not applied here");
    describe_gauge!(TERM, Unit::Count, "term of a group");
    describe_gauge!(LEADING, Unit::Count, "1 when this node leads the group");
    describe_gauge!(
        HAS_LEADER,
        Unit::Count,
        "1 while this node knows the group's leader"
    );
    describe_counter!(READ_ROUNDS, Unit::Count, "read index rounds");
    describe_gauge!(CLOCK_SKEW, Unit::Seconds, "wall clock minus the voters' median");
    describe_gauge!(
        CLOCK_ALARM,
        Unit::Count,
        "1 while the clock keeps this node from leading"
    );
    describe_gauge!(
        DISK_FREE_BYTES,
        Unit::Bytes,
        "free on the disk of the data directory"
    );
    describe_gauge!(
        DISK_LOW,
        Unit::Count,
        "1 while the disk of the data directory has no room for more writes"
    );
    describe_counter!(
        IDENTITY_REFUSED,
        Unit::Count,
        "peers refused for a wrong identity"
    );
    describe_counter!(APPENDS_SENT, Unit::Count, "messages of the replication streams");
    describe_counter!(
        APPENDS_MERGED,
        Unit::Count,
        "commit announcements merged into a later message"
    );
    // Known from the first scrape on.
    for name in [
        FORWARDED,
        READ_ROUNDS,
        IDENTITY_REFUSED,
        APPENDS_SENT,
        APPENDS_MERGED,
    ] {
        counter!(name).increment(0);
    }
    clock_alarm(false);
}

fn label(group: GroupId) -> String {
    group.0.to_string()
}

pub(crate) fn commit(group: GroupId) {
    counter!(COMMITS, "group" => label(group)).increment(1);
}

pub(crate) fn proposals(group: GroupId, commands: u64) {
    counter!(PROPOSALS, "group" => label(group)).increment(commands);
}

pub(crate) fn forwarded() {
    counter!(FORWARDED).increment(1);
}

/// What this node sees of a group's leadership; `new_leader` when another one took office.
pub(crate) fn leadership(group: GroupId, term: u64, leading: bool, known: bool, new_leader: bool) {
    counter!(LEADER_CHANGES, "group" => label(group)).increment(u64::from(new_leader));
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(TERM, "group" => label(group)).set(term as f64);
    gauge!(LEADING, "group" => label(group)).set(if leading { 1.0 } else { 0.0 });
    gauge!(HAS_LEADER, "group" => label(group)).set(if known { 1.0 } else { 0.0 });
}

pub(crate) fn apply_lag(group: GroupId, entries: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(APPLY_LAG, "group" => label(group)).set(entries as f64);
}

pub(crate) fn read_round() {
    counter!(READ_ROUNDS).increment(1);
}

pub(crate) fn clock_skew(skew_ms: i64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(CLOCK_SKEW).set(skew_ms as f64 / 1000.0);
}

pub(crate) fn clock_alarm(on: bool) {
    gauge!(CLOCK_ALARM).set(if on { 1.0 } else { 0.0 });
}

pub(crate) fn disk(free_bytes: u64, low: bool) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(DISK_FREE_BYTES).set(free_bytes as f64);
    gauge!(DISK_LOW).set(if low { 1.0 } else { 0.0 });
}

pub(crate) fn identity_refused() {
    counter!(IDENTITY_REFUSED).increment(1);
}

pub(crate) fn append_sent() {
    counter!(APPENDS_SENT).increment(1);
}

pub(crate) fn append_merged() {
    counter!(APPENDS_MERGED).increment(1);
}
