//! Inbox threads.

use baton_protocol::proto::internal::Thread;

use super::{Object, uuid_text};

pub(crate) fn thread_json(thread: &Thread) -> Vec<u8> {
    let mut out = Object::new();
    out.text("thread_id", &uuid_text(&thread.thread_id));
    out.text("intent_id", &uuid_text(&thread.intent_id));
    out.text("status", &thread.status);
    out.text(
        "owner_agent",
        thread.owner.as_ref().map_or("", |o| o.address.as_str()),
    );
    out.text("from_agent", &thread.from_agent);
    out.text("to_agent", &thread.to_agent);
    out.time("created_at", thread.created_at_ms);
    out.time("updated_at", thread.updated_at_ms);
    out.flag("unread", thread.read_at_ms < thread.updated_at_ms);
    let timeline = thread.timeline.iter().map(|entry| {
        let mut item = Object::new();
        item.text("event_id", &uuid_text(&entry.event_id));
        item.text("event_type", &entry.event_type);
        item.text("actor", &entry.actor);
        item.time("at", entry.at_ms);
        let details = if entry.details.is_empty() {
            &b"{}"[..]
        } else {
            &entry.details
        };
        item.raw("details", details);
        item.finish()
    });
    out.list("timeline", timeline);
    out.finish()
}
