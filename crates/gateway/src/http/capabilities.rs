//! What this server can do (surface 3.14), by the routes that do it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::call::Call;
use super::render::Object;
use super::{App, json};

/// Each capability with a route that serves it.
const CAPABILITIES: [(&str, &str); 33] = [
    ("intents.create", "/v1/intents"),
    ("intents.list", "/v1/intents"),
    ("intents.bulk_cancel", "/v1/intents/bulk-cancel"),
    ("intents.get", "/v1/intents/{id}"),
    ("intents.events", "/v1/intents/{id}/events"),
    ("intents.observe", "/v1/intents/{id}/events/stream"),
    ("intents.resolve", "/v1/intents/{id}/resolve"),
    ("intents.resume", "/v1/intents/{id}/resume"),
    ("intents.wait_for_tool", "/v1/intents/{id}/resume"),
    ("intents.transfer", "/v1/intents/{id}/resume"),
    ("intents.controls", "/v1/intents/{id}/controls"),
    ("intents.grants", "/v1/intents/{id}/policy"),
    ("intents.envelope", "/v1/intents/{id}/policy"),
    ("intents.reminders", "/v1/intents"),
    ("intents.reply_to", "/v1/intents"),
    ("human_tasks", "/v1/me/tasks"),
    ("approvals", "/v1/approvals/{id}/decision"),
    ("agents.directory", "/v1/agents"),
    ("agents.stream", "/v1/agents/{*rest}"),
    ("agents.poll", "/v1/agents/{*rest}"),
    ("agents.push", "/v1/service-accounts/{id}"),
    ("scenarios.apply", "/v1/scenarios/apply"),
    ("scenarios.validate", "/v1/scenarios/validate"),
    ("service_accounts", "/v1/service-accounts"),
    ("api_keys", "/v1/service-accounts/{id}/keys"),
    ("inbox", "/v1/inbox"),
    ("inbox.changes", "/v1/inbox/changes"),
    ("inbox.reply", "/v1/inbox/{id}/reply"),
    ("inbox.delegate", "/v1/inbox/{id}/delegate"),
    ("deliveries", "/v1/deliveries/{id}"),
    ("deliveries.replay", "/v1/deliveries/replay"),
    ("schemas", "/v1/schemas"),
    ("idempotency", "/v1/intents"),
];

/// Any type is carried; these are the generic ones of the surface.
const INTENT_TYPES: [&str; 3] = ["intent.ask.v1", "intent.notify.v1", "intent.task.v1"];

pub(super) async fn list(_: State<Arc<App>>, _: Call) -> Response {
    let mut out = Object::ok();
    out.texts("capabilities", CAPABILITIES.iter().map(|(name, _)| *name));
    out.texts("supported_intent_types", INTENT_TYPES);
    json(out.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::route_patterns;

    #[test]
    fn every_capability_is_named_once_and_served() {
        let patterns = route_patterns();
        let mut names = BTreeSet::new();
        for (name, route) in CAPABILITIES {
            assert!(names.insert(name), "{name} twice");
            assert!((3..=120).contains(&name.len()), "{name}");
            assert!(patterns.contains(&route), "{name}: {route} is not served");
        }
    }
}
