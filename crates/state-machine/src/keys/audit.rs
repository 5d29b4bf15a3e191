//! Keys of audit chains.

use super::{GROUP_WIDE, Range, len, row};
use crate::tables::prefix_end;

const AUDIT_CHAIN: u8 = 0x38;
const AUDIT_EVENT: u8 = 0x39;

pub(crate) fn audit_chain(workspace_id: &str) -> Vec<u8> {
    row(AUDIT_CHAIN, GROUP_WIDE, &[workspace_id.as_bytes()])
}

/// Chains of workspaces behind this one; of all without one.
pub(crate) fn audit_chains_after(workspace_id: Option<&str>) -> Range {
    let all = Range::of(row(AUDIT_CHAIN, GROUP_WIDE, &[]));
    match workspace_id {
        None => all,
        Some(id) => {
            let mut from = audit_chain(id);
            // The first key after that chain's own.
            from.push(0);
            Range { from, to: all.to }
        }
    }
}

pub(crate) fn audit_event(workspace_id: &str, sequence: u64) -> Vec<u8> {
    let parts: [&[u8]; 3] = [
        &len(workspace_id),
        workspace_id.as_bytes(),
        &(!sequence).to_be_bytes(),
    ];
    row(AUDIT_EVENT, GROUP_WIDE, &parts)
}

/// Events of a chain up to `newest`, newest first.
pub(crate) fn audit_events_from(workspace_id: &str, newest: u64) -> Range {
    let parts: [&[u8]; 2] = [&len(workspace_id), workspace_id.as_bytes()];
    Range {
        from: audit_event(workspace_id, newest),
        to: prefix_end(&row(AUDIT_EVENT, GROUP_WIDE, &parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_events_come_first_and_stay_with_their_workspace() {
        let range = audit_events_from("w", 9);
        let inside = |key: &Vec<u8>| *key >= range.from && *key < range.to;
        assert!(audit_event("w", 9) < audit_event("w", 8));
        assert!(inside(&audit_event("w", 9)) && inside(&audit_event("w", 1)));
        assert!(!inside(&audit_event("w", 10)) && !inside(&audit_event("ww", 1)));
        let behind = audit_chains_after(Some("w"));
        assert!(audit_chain("w") < behind.from && audit_chain("wa") >= behind.from);
        assert!(audit_chain("") >= audit_chains_after(None).from);
    }
}
