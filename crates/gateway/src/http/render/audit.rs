//! Audit events. Whoever verifies a chain reads these fields: see `docs/audit.md`.

use baton_protocol::proto::internal::{AuditChain, AuditEvent};

use super::Object;
use crate::service::audit::event_id;
use crate::service::hex;

pub(crate) fn audit_event_json(event: &AuditEvent) -> Vec<u8> {
    let mut out = Object::new();
    out.text("event_id", &event_id(event));
    out.text("workspace_id", &event.workspace_id);
    out.number("group_id", event.group_id.into());
    out.number("sequence", event.sequence);
    out.time("at", event.at_ms);
    out.number("at_ms", event.at_ms);
    out.text("action", &event.action);
    out.text("actor", &event.actor);
    out.text("actor_kind", &event.actor_kind);
    out.text("actor_label", &event.actor_label);
    out.text("key_id", &event.key_id);
    out.text("owner_agent", &event.owner_agent);
    out.text("request_id", &event.request_id);
    out.text("trace_id", &event.trace_id);
    out.text("endpoint", &event.endpoint);
    out.text("method", &event.method);
    out.number("status_code", event.status_code.into());
    out.text("target_type", &event.target_type);
    out.text("target_id", &event.target_id);
    let mut details = Object::new();
    for detail in &event.details {
        details.text(&detail.name, &detail.value);
    }
    out.raw("details", &details.finish());
    out.text("previous_hash", &hex(&event.previous_hash));
    out.text("hash", &hex(&event.hash));
    out.finish()
}

pub(crate) fn audit_head_json(chain: &AuditChain) -> Vec<u8> {
    let mut out = Object::new();
    out.text("workspace_id", &chain.workspace_id);
    out.number("group_id", chain.group_id.into());
    out.number("sequence", chain.sequence);
    out.text("hash", &hex(&chain.hash));
    out.time("at", chain.at_ms);
    let mut anchor = Object::new();
    anchor.number("sequence", chain.anchor_sequence);
    anchor.text("hash", &hex(&chain.anchor_hash));
    anchor.time_if("at", chain.anchor_at_ms);
    out.raw("anchor", &anchor.finish());
    out.finish()
}
