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
pub const LEADER_CHANGES: &str = "baton.consensus.leader_changes";
/// Committed but not applied here ({entry}).
pub const APPLY_LAG: &str = "baton.apply.lag";
/// Term of a group ({term}).
pub const TERM: &str = "baton.raft.term";
/// 1 when this node leads the group.
pub const LEADING: &str = "baton.raft.leading";
/// Read index rounds ({round}).
pub const READ_ROUNDS: &str = "baton.consensus.read_rounds";
/// This node's wall clock minus the median (ms).
pub const CLOCK_SKEW: &str = "baton.clock.skew";
/// 1 while this node's clock keeps it from leading.
pub const CLOCK_ALARM: &str = "baton.clock.alarm";
/// Frames and streams refused for a wrong cluster, node or replica ({refusal}).
pub const IDENTITY_REFUSED: &str = "baton.peer.identity_refused";
/// Messages of all groups' replication streams ({message}).
pub const APPENDS_SENT: &str = "baton.peer.appends_sent";
/// Commit announcements that travelled inside a later message ({message}).
pub const APPENDS_MERGED: &str = "baton.peer.appends_merged";

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

pub(crate) fn leader_change(group: GroupId, term: u64, leading: bool) {
    counter!(LEADER_CHANGES, "group" => label(group)).increment(1);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!(TERM, "group" => label(group)).set(term as f64);
    gauge!(LEADING, "group" => label(group)).set(if leading { 1.0 } else { 0.0 });
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
    gauge!(CLOCK_SKEW).set(skew_ms as f64);
}

pub(crate) fn clock_alarm(on: bool) {
    gauge!(CLOCK_ALARM).set(if on { 1.0 } else { 0.0 });
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
