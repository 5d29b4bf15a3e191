//! What must hold for audit chains.

use baton_protocol::audit::{Hash, Record};
use baton_protocol::proto::internal::query_reply::Outcome;
use baton_protocol::proto::internal::{AuditEvent, ListAudit, ListAuditChains, query};
use baton_state_machine::testing::Replica;
use bytes::Bytes;

/// Tags of audit chains, audit events and timers, and the state hash.
const AUDIT_TAGS: [u8; 4] = [0x38, 0x39, 0x16, 0x00];
const TIMER_TAG: u8 = 0x16;

/// Every chain of a group leads from its anchor to its head, event by event.
pub(super) fn check(replica: &Replica) {
    let every = ListAuditChains {
        every_workspace: true,
        ..ListAuditChains::default()
    };
    let Outcome::AuditChains(found) = replica.ask(query::Body::ListAuditChains(every)) else {
        panic!("no chains");
    };
    for chain in found.chains {
        let mut hash = Hash::try_from(&chain.anchor_hash[..]).unwrap();
        let mut sequence = chain.anchor_sequence;
        for event in events(replica, &chain.workspace_id) {
            sequence += 1;
            assert_eq!(event.sequence, sequence, "a chain without gaps");
            assert_eq!(&event.previous_hash[..], hash);
            hash = Record::from(&event).hash(&hash);
            assert_eq!(&event.hash[..], hash);
        }
        assert_eq!((chain.sequence, &chain.hash[..]), (sequence, &hash[..]));
    }
}

/// Oldest first.
fn events(replica: &Replica, workspace_id: &str) -> Vec<AuditEvent> {
    let q = ListAudit {
        workspace_id: workspace_id.into(),
        limit: 500,
        ..ListAudit::default()
    };
    let Outcome::Audit(page) = replica.ask(query::Body::ListAudit(q)) else {
        panic!("no events");
    };
    assert!(page.reached.is_none(), "more than one page");
    page.events.into_iter().rev().collect()
}

/// Rows that are no part of an audit chain. Of timers those that were there `before` count.
pub(super) fn without(rows: Vec<(Vec<u8>, Bytes)>, before: &[(Vec<u8>, Bytes)]) -> Vec<(Vec<u8>, Bytes)> {
    let counts = |row: &(Vec<u8>, Bytes)| {
        !AUDIT_TAGS.contains(&row.0[0]) || (row.0[0] == TIMER_TAG && before.contains(row))
    };
    rows.into_iter().filter(counts).collect()
}
