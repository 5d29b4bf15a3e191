//! How audit events are sealed. Whoever has the events can compute the same hashes: see `docs/audit.md`.

use crate::proto::internal::AuditEvent;
use sha2::{Digest, Sha256};

/// First field of every sealed event: another layout gets another name.
const FORMAT: &str = "baton.audit.v1";

/// A SHA-256.
pub type Hash = [u8; 32];

/// What is sealed of an event, in the order it is sealed in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record<'a> {
    /// Empty = the cluster as a whole.
    pub workspace_id: &'a str,
    pub group_id: u32,
    /// From 1, without gaps.
    pub sequence: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    pub action: &'a str,
    pub actor: &'a str,
    pub actor_kind: &'a str,
    pub actor_label: &'a str,
    pub key_id: &'a str,
    pub owner_agent: &'a str,
    pub request_id: &'a str,
    pub trace_id: &'a str,
    pub endpoint: &'a str,
    pub method: &'a str,
    pub status_code: u32,
    pub target_type: &'a str,
    pub target_id: &'a str,
    /// Names and values; sealed in the order of the names' bytes.
    pub details: Vec<(&'a str, &'a str)>,
}

impl Record<'_> {
    /// SHA-256 of the previous hash followed by every field: its length in bytes as 4 bytes, big-endian, then its bytes.
    /// Numbers are written in decimal. First comes the name of the format, last each detail's name and value.
    #[must_use]
    pub fn hash(&self, previous: &Hash) -> Hash {
        let mut out = Sha256::new();
        out.update(previous);
        let numbers = [
            self.group_id.to_string(),
            self.sequence.to_string(),
            self.at_ms.to_string(),
            self.status_code.to_string(),
        ];
        let [group, sequence, at, status] = &numbers;
        for text in [
            FORMAT,
            self.workspace_id,
            group,
            sequence,
            at,
            self.action,
            self.actor,
            self.actor_kind,
            self.actor_label,
            self.key_id,
            self.owner_agent,
            self.request_id,
            self.trace_id,
            self.endpoint,
            self.method,
            status,
            self.target_type,
            self.target_id,
        ] {
            field(&mut out, text);
        }
        let mut details = self.details.clone();
        details.sort_unstable();
        for (name, value) in details {
            field(&mut out, name);
            field(&mut out, value);
        }
        out.finalize().into()
    }
}

impl<'a> From<&'a AuditEvent> for Record<'a> {
    fn from(event: &'a AuditEvent) -> Self {
        let details = event.details.iter();
        Self {
            workspace_id: &event.workspace_id,
            group_id: event.group_id,
            sequence: event.sequence,
            at_ms: event.at_ms,
            action: &event.action,
            actor: &event.actor,
            actor_kind: &event.actor_kind,
            actor_label: &event.actor_label,
            key_id: &event.key_id,
            owner_agent: &event.owner_agent,
            request_id: &event.request_id,
            trace_id: &event.trace_id,
            endpoint: &event.endpoint,
            method: &event.method,
            status_code: event.status_code,
            target_type: &event.target_type,
            target_id: &event.target_id,
            details: details.map(|d| (d.name.as_str(), d.value.as_str())).collect(),
        }
    }
}

/// Hash of the empty chain of a workspace in a group: what its first event builds on.
#[must_use]
pub fn genesis(workspace_id: &str, group_id: u32) -> Hash {
    let mut out = Sha256::new();
    field(&mut out, FORMAT);
    field(&mut out, workspace_id);
    field(&mut out, &group_id.to_string());
    out.finalize().into()
}

fn field(out: &mut Sha256, text: &str) {
    let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.update(bytes.to_be_bytes());
    out.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn record() -> Record<'static> {
        Record {
            workspace_id: "w1",
            group_id: 3,
            sequence: 1,
            at_ms: 1_800_000_000_000,
            action: "task.answered",
            actor: "agent://acme/prod/boss",
            actor_kind: "agent",
            status_code: 200,
            target_type: "intent",
            target_id: "0193",
            details: vec![("outcome", "approved"), ("generation", "1")],
            ..Record::default()
        }
    }

    // On disks and in exports that people keep: another value here breaks every chain.
    #[test]
    fn hashes_are_golden() {
        let empty = genesis("w1", 3);
        assert_eq!(hex(empty), GENESIS);
        assert_eq!(hex(record().hash(&empty)), FIRST);
    }

    const GENESIS: &str = "09797ea4a3a6f1cfbae98de3b9f6067db2db6ae39239a09d3e5e6a132348d009";
    const FIRST: &str = "b19a83d62a9ca099d554c7dad8faffde9cfdb364afd69085ea42ce04a7736715";

    #[test]
    fn every_field_and_its_borders_count() {
        let previous = genesis("w1", 3);
        let sealed = record().hash(&previous);
        let changed: [fn(&mut Record<'_>); 18] = [
            |r| r.workspace_id = "w2",
            |r| r.group_id = 4,
            |r| r.sequence = 2,
            |r| r.at_ms += 1,
            |r| r.action = "task.answere",
            |r| r.actor = "x",
            |r| r.actor_kind = "x",
            |r| r.actor_label = "x",
            |r| r.key_id = "x",
            |r| r.owner_agent = "x",
            |r| r.request_id = "x",
            |r| r.trace_id = "x",
            |r| r.endpoint = "x",
            |r| r.method = "x",
            |r| r.status_code = 403,
            |r| (r.target_type, r.target_id) = ("inten", "t0193"),
            |r| r.details[0].1 = "rejected",
            |r| r.details.truncate(1),
        ];
        for change in changed {
            let mut other = record();
            change(&mut other);
            assert_ne!(other.hash(&previous), sealed, "{other:?}");
        }
        assert_ne!(record().hash(&genesis("w1", 4)), sealed);
        let mut turned = record();
        turned.details.reverse();
        assert_eq!(turned.hash(&previous), sealed, "details have no order");
    }
}
